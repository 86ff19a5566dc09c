"""Checkpoints in parts: folders whose pieces, index or description are damaged, absent, lying, or hold code."""

from __future__ import annotations

import os
import pickle
import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.hostile import materials as m
from tests.hostile.case import CANARY, EITHER, REFUSE, Case, short
from tests.hostile.words import finite

FOLDER = "model.parts"
VERBS = (["sample", FOLDER, "-n", "2", "--steps", "2", "--out", "out"],
         ["convert", FOLDER, "--out", "copy.safetensors"],
         ["likelihood", FOLDER, "--data", "digits:test", "--limit", "2", "--steps", "2", "--out", "out"])


class Evil:
    """What runs code where it is unpickled."""

    def __init__(self, function: Callable[..., Any] = os.system, *arguments: Any) -> None:
        self.function, self.arguments = function, arguments or (f"touch {CANARY}",)

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.function, self.arguments


def _case(name: str, damage: Callable[[Path], object], i: int = 0, expect: str = REFUSE) -> Case:
    def build(folder: Path) -> list[str]:
        damage(m.copied("model.parts", folder / FOLDER))
        return VERBS[i % len(VERBS)]

    return Case("parts", name, build, expect, finite)


def _index(change: Callable[[Any], Any]) -> Callable[[Path], object]:
    """Damage of the index that torch reads."""
    def damage(folder: Path) -> None:
        index = pickle.loads((folder / ".metadata").read_bytes())
        made = change(index)
        (folder / ".metadata").write_bytes(pickle.dumps(index if made is None else made))

    return damage


def _piece(change: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    def damage(folder: Path) -> None:
        file = next(iter(folder.glob("*.distcp")))
        file.write_bytes(change(file.read_bytes()))

    return damage


def _stored(**values: Any) -> Callable[[Path], object]:
    """Another place, file or length for each piece of the data."""
    def change(index: Any) -> None:
        index.storage_data = {key: replace(piece, **values) for key, piece in index.storage_data.items()}

    return _index(change)


def _entries(change: Callable[[Any], Any]) -> Callable[[Path], object]:
    """Other descriptions of each tensor."""
    def changed(index: Any) -> None:
        index.state_dict_metadata = {key: change(entry) for key, entry in index.state_dict_metadata.items()}

    return _index(changed)


def _files() -> Iterator[Case]:
    chance = random.Random(1)
    for name in (".metadata", "about.json"):
        yield _case(f"without {name}", lambda f, name=name: (f / name).unlink())
        yield _case(f"{name} empty", lambda f, name=name: (f / name).write_bytes(b""))
        yield _case(f"{name} a folder", lambda f, name=name: ((f / name).unlink(), (f / name).mkdir()))
        yield _case(f"{name} a FIFO", lambda f, name=name: ((f / name).unlink(), os.mkfifo(f / name)))
        yield _case(f"{name} a loop", lambda f, name=name: ((f / name).unlink(), (f / name).symlink_to(name)))
        yield _case(f"{name} unreadable", lambda f, name=name: (f / name).chmod(0))
        yield _case(f"{name} sparse, 8 GB", lambda f, name=name: os.truncate(f / name, 8 << 30))
        for i in range(4):
            share = chance.random()
            yield _case(f"{name} cut at {share:.3f}", lambda f, name=name,
                        share=share: os.truncate(f / name, int(share * (f / name).stat().st_size)), i)
    for i in range(12):
        place, bit = chance.random(), chance.randrange(8)
        def flip(folder: Path, place: float = place, bit: int = bit) -> None:
            content = bytearray((folder / ".metadata").read_bytes())
            content[int(place * len(content))] ^= 1 << bit
            (folder / ".metadata").write_bytes(content)
        yield _case(f"index bit {bit} at {place:.3f}", flip, i, EITHER)
    for i, text in enumerate(("[]", "null", "{", "1", '{"format": 7}', '{"a":' * 50_000, "\xff", '{"format": 1}',
                              "NaN")):
        yield _case(f"about.json says {short(text)}", lambda f, text=text: (f / "about.json").write_text(text), i)
    yield _case("no piece", lambda f: [file.unlink() for file in f.glob("*.distcp")])
    yield _case("a piece is a FIFO", lambda f: [(file.unlink(), os.mkfifo(file)) for file in list(f.glob("*.distcp"))])
    yield _case("a piece is a link outside", lambda f: [(file.unlink(), file.symlink_to("/etc/passwd"))
                                                        for file in list(f.glob("*.distcp"))])
    for i in range(10):
        share = chance.random()
        yield _case(f"piece cut at {share:.3f}", _piece(lambda c, share=share: c[: int(share * len(c))]), i)
    for i in range(14):
        place, bit = chance.random(), chance.randrange(8)
        yield _case(f"piece bit {bit} at {place:.3f}",
                    _piece(lambda c, p=place, b=bit: c[: int(p * len(c))] + bytes([c[int(p * len(c))] ^ (1 << b)]) +
                           c[int(p * len(c)) + 1 :]), i, EITHER)
    yield _case("piece of zeros", _piece(lambda c: bytes(len(c))))
    yield _case("piece a pickle with code", _piece(lambda c: pickle.dumps(Evil()).ljust(len(c), b"x")))
    yield _case("empty folder", lambda f: [file.unlink() for file in list(f.iterdir())])


def _lies() -> Iterator[Case]:
    for i, code in enumerate((Evil(), Evil(eval, f"__import__('os').system('touch {CANARY}')"),
                              Evil(open, CANARY, "w"), Evil(exec, f"open('{CANARY}','w')"))):
        yield _case(f"index with code {i}", _index(lambda index, code=code: code), i)
        yield _case(f"index with code {i} beside", _index(lambda index,
                                                          code=code: setattr(index, "planner_data", code)), i)
    for i, value in enumerate((None, 1, "x", [], {}, {"a": 1}, b"x" * 100)):
        yield _case(f"index is {short(value)}", _index(lambda index, value=value: value), i)
    yield _case("index of a deep list", lambda f: (f / ".metadata").write_bytes(b"\x80\x04" + b"]" * 200_000 +
        b"a" * 199_999 + b"."))
    yield _case("index of a long integer", lambda f: (f / ".metadata").write_bytes(b"\x80\x04\x8b\xff\xff\xff\x7f" +
        b"1" * 100 + b"."))
    yield _case("index with a huge memo", lambda f: (f / ".metadata").write_bytes(b"\x80\x04]r\xff\xff\xff\x7f."))
    for i, name in enumerate(("../outside", "/etc/passwd", "", ".", "..", "a/../../b", "x" * 300, "nowhere",
                              "\x1b[31m", None, 3)):
        yield _case(f"pieces at {short(name)}", _stored(relative_path=name), i)
    for i, values in enumerate(({"offset": -1}, {"offset": 2**62}, {"length": 0}, {"length": -5}, {"length": 2**62},
                                {"offset": 1.5}, {"offset": None}, {"length": "x"}, {"offset": 0}, {"length": 1})):
        yield _case(f"pieces with {short(values)}", _stored(**values), i)
    yield _case("no pieces listed", _index(lambda index: setattr(index, "storage_data", {})))
    yield _case("half of the pieces listed", _index(lambda index: setattr(index, "storage_data",
        dict(list(index.storage_data.items())[::2]))))
    yield _case("no tensors listed", _index(lambda index: setattr(index, "state_dict_metadata", {})))
    yield _case("tensors without chunks", _entries(lambda e: replace(e, chunks=[])))
    yield _case("chunks twice", _entries(lambda e: replace(e, chunks=list(e.chunks) * 2)), 0, EITHER)
    yield _case("a million chunks", _entries(lambda e: replace(e, chunks=list(e.chunks) * 20_000)), 0, EITHER)
    import torch

    for i, size in enumerate(([], [0], [2**40], [2**20, 2**20], [-1], None, "x", [1.5])):
        yield _case(f"tensors of size {short(size)}",
                    _entries(lambda e, size=size: replace(e, size=torch.Size(size)
                                                          if size in ([], [0], [2**40], [2**20, 2**20]) else size)), i)
    for i, kind in enumerate((torch.int64, torch.bool, torch.float64, torch.complex64, None, "float32")):
        yield _case(f"tensors of type {kind}", _entries(lambda e,
                                                        kind=kind: replace(e,
                                                            properties=replace(e.properties, dtype=kind))), i)
    yield _case("chunks elsewhere", _entries(lambda e: replace(e,
        chunks=[replace(c, offsets=torch.Size([1] * len(c.offsets))) for c in e.chunks])))
    yield _case("chunks smaller", _entries(lambda e: replace(e,
        chunks=[replace(c, sizes=torch.Size([1] * len(c.sizes))) for c in e.chunks])))


def _nan(value: float) -> Case:
    def build(folder: Path) -> list[str]:
        import torch.distributed.checkpoint as dcp

        from sfumato.runtime import checkpoint

        tensors = m.tensors_of("linear")
        for tensor in tensors.values():
            tensor.reshape(-1)[0] = value
        dcp.save(tensors, checkpoint_id=str(folder / FOLDER), no_dist=True)
        (folder / FOLDER / "about.json").write_text(checkpoint.described(m.about_of("linear")))
        return VERBS[0]

    return Case("parts", f"{value} in all", build)


def cases() -> Iterator[Case]:
    yield from _files()
    yield from _lies()
    yield from map(_nan, (float("nan"), float("inf")))
