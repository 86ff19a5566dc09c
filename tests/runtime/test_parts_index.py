"""Checkpoints in parts whose index lies: holes, overlaps, missing or exchanged pieces; values that are not finite."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed.checkpoint.metadata import ChunkStorageMetadata, MetadataIndex

from sfumato.runtime import checkpoint
from sfumato.runtime.checkpoint import CheckpointError

ABOUT = {"recipe": {"paper": "toy"}, "ema": []}
WEIGHTS = {"model/a": torch.arange(12.0).reshape(4, 3), "model/b": torch.ones(5)}
SIZE = torch.Size


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A folder that one process wrote."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        checkpoint.save_parts(tmp_path / "1.parts", WEIGHTS, ABOUT)
    finally:
        dist.destroy_process_group()
    return tmp_path / "1.parts"


def change(path: Path, edit: Callable[[Any], None]) -> None:
    """Another index, as its writer would have written it."""
    index = pickle.loads((path / ".metadata").read_bytes())
    edit(index)
    (path / ".metadata").write_bytes(pickle.dumps(index))
    (path / "checksums.json").unlink(missing_ok=True)


def test_what_was_written_comes_back(path: Path) -> None:
    saved = checkpoint.read(path)
    assert all(torch.equal(value, WEIGHTS[f"model/{name}"]) for name, value in saved.tensors("model/").items())
    (path / "checksums.json").unlink()
    assert set(checkpoint.read(path).tensors("model/")) == {"a", "b"}, "older folders have no checksums"


def no_chunks(index: Any) -> None:
    index.state_dict_metadata["model/a"].chunks.clear()


def a_hole(index: Any) -> None:
    index.state_dict_metadata["model/a"].size = SIZE([5, 3])


def a_smaller_chunk(index: Any) -> None:
    index.state_dict_metadata["model/a"].chunks[0].sizes = SIZE([3, 3])


def beyond(index: Any) -> None:
    index.state_dict_metadata["model/a"].chunks[0].sizes = SIZE([4, 30])


def an_overlap(index: Any) -> None:
    chunk = ChunkStorageMetadata(SIZE([1, 0]), SIZE([3, 3]))
    index.state_dict_metadata["model/a"].chunks.append(chunk)
    [first] = [info for key, info in index.storage_data.items() if key.fqn == "model/a"]
    index.storage_data[MetadataIndex("model/a", chunk.offsets)] = type(first)(first.relative_path, 0, first.length)


def a_huge_one(index: Any) -> None:
    entry = index.state_dict_metadata["model/a"]
    entry.size = entry.chunks[0].sizes = SIZE([10**6, 10**6])


def no_piece(index: Any) -> None:
    index.storage_data.pop(next(key for key in index.storage_data if key.fqn == "model/a"))


def one_piece_for_two(index: Any) -> None:
    first, second = index.storage_data.values()
    second.offset = first.offset


def elsewhere(index: Any) -> None:
    next(iter(index.storage_data.values())).relative_path = "../secret"


def words(index: Any) -> None:
    index.state_dict_metadata["model/a"].size = "ab"


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (no_chunks, "model/a lies in 0 parts"),
        (a_hole, "model/a has holes"),
        (a_smaller_chunk, "model/a has holes"),
        (beyond, "outside of its shape"),
        (an_overlap, "parts of model/a overlap"),
        (a_huge_one, "a piece of model/a is smaller than its part"),
        (no_piece, "is damaged"),
        (one_piece_for_two, "pieces of .* overlap"),
        (elsewhere, "outside the folder"),
        (words, "a shape that is none"),
    ],
)
def test_an_index_that_lies_is_refused_before_memory_is_taken(
    edit: Callable[[Any], None], said: str, path: Path
) -> None:
    change(path, edit)
    with pytest.raises(CheckpointError, match=said):
        checkpoint.read(path)


def test_every_flipped_byte_is_noticed(path: Path) -> None:
    part = next(path.glob("*.distcp"))
    whole = part.read_bytes()
    for at in range(0, len(whole), 131):
        part.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match="by its checksum"):
            checkpoint.read(path).tensors("model/")
    part.write_bytes(whole)
    for name in ("about.json", ".metadata"):
        before = (path / name).read_bytes()
        (path / name).write_bytes(before.replace(b"toy", b"tow").replace(b"model/a", b"model/c"))
        with pytest.raises(CheckpointError, match="is not what was written, by its checksum"):
            checkpoint.read(path)
        (path / name).write_bytes(before)


def test_weights_in_parts_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'meet'}", rank=0, world_size=1)
    try:
        tensors = {**WEIGHTS, "model/b": torch.tensor([1, float("nan")]), "recent": torch.tensor([float("inf")])}
        checkpoint.save_parts(tmp_path / "1.parts", tensors, ABOUT)
    finally:
        dist.destroy_process_group()
    saved = checkpoint.read(tmp_path / "1.parts")
    assert saved.tensors("recent")[""].isinf().all()
    with pytest.raises(CheckpointError, match="model/b holds NaN or infinite values"):
        saved.tensors("model/")
