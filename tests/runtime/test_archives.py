"""Files of torch.save that ask for too much, or for more than tensors, are refused before torch opens them."""

from __future__ import annotations

import io
import pickle
import struct
import tracemalloc
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch

from sfumato.runtime.archives import UnsafeError, check

STATE = OrderedDict(a=torch.arange(3.0), b=torch.zeros(2, 2).half())


def saved(value: Any, zipped: bool = True) -> bytes:
    file = io.BytesIO()
    torch.save(value, file, _use_new_zipfile_serialization=zipped)
    return file.getvalue()


def with_pickle(content: bytes, compression: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of torch's, but with this pickle in it."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression) as archive:
        archive.writestr("archive/data.pkl", content)
        archive.writestr("archive/version", b"3\n")
    return file.getvalue()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "value",
    [
        STATE,
        {"model": STATE, "optimizer": {"state": {0: {"step": 3, "exp_avg": torch.zeros(2)}}, "param_groups": []}},
        [STATE, {"lr": 1e-3, "betas": (0.9, 0.999)}, None, True, "text", {1, 2}, torch.float16, torch.Size([2])],
        OrderedDict(p=torch.nn.Parameter(torch.ones(2)), q=torch.ones(2, 3).T),
    ],
)
def test_what_torch_writes_passes(value: Any, zipped: bool) -> None:
    file = io.BytesIO(saved(value, zipped))
    check(file)
    assert file.tell() == 0
    torch.load(file, weights_only=True)


def deep() -> bytes:
    """A tuple in tuples as a key, whose hash would end the process."""
    return b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s."


REFUSED: dict[str, tuple[Callable[[], bytes], str]] = {
    "deflated": (lambda: with_pickle(pickle.dumps({}), zipfile.ZIP_DEFLATED), "packed"),
    "a bomb": (lambda: with_pickle(bytes(80 << 20), zipfile.ZIP_DEFLATED), "packed"),
    "no pickle in it": (lambda: with_pickle(b"x").replace(b"data.pkl", b"data.txt"), "no pickle of tensors"),
    "something behind it": (lambda: saved(STATE) + b"x", "something follows it"),
    "cut off": (lambda: saved(STATE)[:-40], "truncated"),
    "a list of members that is too long": (
        lambda: saved(STATE)[:-98] + _zip64(1 << 40), "directory is larger",
    ),
    "too deep": (lambda: with_pickle(deep()), "nested more than 100 deep"),
    "too deep, before 1.6": (lambda: saved(STATE, False)[:15] + deep(), "nested more than 100 deep"),
    "a memory of its own size": (lambda: with_pickle(b"\x80\x02]r\xff\xff\xff\x7f."), "a memory of"),
    "bytes before there are any": (
        lambda: with_pickle(b"\x80\x05\x96" + struct.pack("<Q", 1 << 40) + b"x."), "BYTEARRAY8|bytearray8",
    ),
    "another encoding": (
        lambda: with_pickle(b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x08\x00\x00\x00punycode\x86R."), "latin1",
    ),
    "no end": (lambda: with_pickle(b"\x80\x02]"), "pickle"),
    "nothing on the stack": (lambda: with_pickle(b"\x80\x02s."), "no whole pickle"),
    "a page": (lambda: b"<!DOCTYPE html>", "begins otherwise"),
    "nothing": (lambda: b"", "is empty"),
}  # fmt: skip


def _zip64(size: int) -> bytes:
    """The end of a zip file whose directory is so large."""
    record = b"PK\x06\x06" + struct.pack("<QHHIIQQQQ", 44, 45, 45, 0, 0, 3, 3, size, 0)
    return record + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(4) + b"\xff" * 12 + bytes(2)


@pytest.mark.parametrize("kind", REFUSED)
def test_what_asks_for_too_much_is_refused_before_it_has_it(kind: str) -> None:
    make, words = REFUSED[kind]
    content = make()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match=words) as caught:
            check(io.BytesIO(content))
        assert not isinstance(caught.value, UnsafeError)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


class Asks:
    """Asks for something when it is unpickled."""

    def __init__(self, *what: Any) -> None:
        self.what = what

    def __reduce__(self) -> tuple[Any, ...]:
        return self.what[0], self.what[1:]


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("what", "name"),
    [((print, "ran"), "builtins.print"), ((bytearray, 1 << 40), "bytearray"), ((torch.FloatTensor, 9), "FloatTensor")],
)
def test_what_asks_for_more_than_tensors_is_named(what: tuple[Any, ...], name: str, zipped: bool) -> None:
    """torch's own reader of weights would make a bytearray of any size."""
    with pytest.raises(UnsafeError, match=name):
        check(io.BytesIO(saved({"x": Asks(*what)}, zipped)))


def test_a_bare_pickle_is_no_file_of_torch() -> None:
    with pytest.raises(UnsafeError):
        check(io.BytesIO(pickle.dumps({"a": 1})))
