"""Safetensors whose header lies, and ours that changed after they were written, are refused in one line."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sfumato.runtime import tensor_file
from sfumato.runtime.tensor_file import CheckpointError

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.arange(4, dtype=torch.uint8)}


def with_header(path: Path, header: Any, data: int = 28) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(data))
    return path


def entry(begin: Any, end: Any, shape: Any = (2, 3), dtype: Any = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


B = entry(24, 28, [4], "U8")


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"a": entry(0, 24), "b": entry(28, 32, [4], "U8")}, "leave a hole"),
        ({"a": entry(0, 24), "b": entry(20, 24, [4], "U8")}, "overlap"),
        ({"a": entry(0, 24, [10**9, 10**9]), "b": B}, "another size than its shape says"),
        ({"a": entry(0, 24, [2**40] * 15), "b": B}, "another size"),
        ({"a": entry(0, 24, [-2, -3]), "b": B}, "another size"),
        ({"a": entry(0, 24, [2, 3.0]), "b": B}, "another size"),
        ({"a": entry(0, 24, [2, True]), "b": B}, "another size"),
        ({"a": entry(-4, 20), "b": B}, "another size"),
        ({"a": entry(0, 24, "23"), "b": B}, "another size"),
        ({"a": entry(0, 24, dtype="F99"), "b": B}, "describes no tensor a"),
        ({"a": entry(0, 24, dtype=["F32"]), "b": B}, "describes no tensor a"),
        ({"a": 3}, "describes no tensor a"),
        ({"a": entry(0, 24)}, "goes on after its tensors"),
        ({"a": entry(0, 24), "b": B, "c": entry(28, 10**9, [10**9 - 28], "U8")}, "is truncated"),
        ({"__metadata__": {"x": 3}, "a": entry(0, 24), "b": B}, "its metadata are no texts"),
        (b"{" * 100_000, "no JSON text"),
        (b'{"a":' + b"[" * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "numbers too long"),
    ],
)
def test_a_header_that_lies_is_refused(header: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=words) as caught:
        tensor_file.read_header(with_header(tmp_path / "a", header))
    assert "\n" not in str(caught.value)


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    """In the header as well, whatever part of it changes."""
    path = tmp_path / "a"
    tensor_file.write(path, TENSORS, {"about": '{"steps": 1000}'})
    whole = path.read_bytes()
    silent = []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        try:
            found = tensor_file.tensors_of(path, list(TENSORS))
            metadata, _ = tensor_file.read_header(path)
        except (CheckpointError, KeyError):
            continue
        silent += [at] * (
            metadata["about"] != '{"steps": 1000}' or any(not torch.equal(found[k], TENSORS[k]) for k in TENSORS)
        )
    assert silent == []


def test_files_without_checksums_are_read(tmp_path: Path) -> None:
    safetensors.torch.save_file(TENSORS, tmp_path / "a")
    found = tensor_file.tensors_of(tmp_path / "a", ["a", "b"])
    assert all(torch.equal(found[name], value) for name, value in TENSORS.items())


def test_tensors_beyond_the_free_memory_are_not_begun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tensor_file.write(tmp_path / "a", TENSORS, {})
    monkeypatch.setattr(tensor_file, "free_memory", lambda: 20)
    with pytest.raises(MemoryError, match="needs 24 bytes, of which 20 are free"):
        tensor_file.tensors_of(tmp_path / "a", ["a"])


def test_a_file_of_holes_is_refused(tmp_path: Path) -> None:
    path = with_header(tmp_path / "a", {"a": entry(0, 1 << 30, [1 << 28])}, data=0)
    os.truncate(path, path.stat().st_size + (1 << 30))
    if path.stat().st_blocks * 512 > 1 << 27:
        pytest.skip("this file system has no sparse files")
    with pytest.raises(CheckpointError, match="is sparse"):
        tensor_file.read_header(path)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_finite(dtype: torch.dtype) -> None:
    assert tensor_file.is_finite(torch.ones(3, dtype=dtype))
    assert tensor_file.is_finite(torch.zeros(0, dtype=dtype))
    for value in ("nan", "inf", "-inf"):
        assert not tensor_file.is_finite(torch.tensor([1.0, float(value), 2.0], dtype=dtype))
