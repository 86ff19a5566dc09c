"""Checkpoints of which each process writes its part, by torch.distributed.checkpoint, for any number of processes to
read: a folder that appears whole or not at all.
"""

from __future__ import annotations

import inspect
import io
import json
import os
import shutil
import warnings
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sfumato.runtime import archives, parts_index
from sfumato.runtime.files import naming, settle, whole_file
from sfumato.runtime.json_file import parsed
from sfumato.runtime.opening import free_memory, open_regular, read_bounded
from sfumato.runtime.parts_index import ABOUT, CHECKSUMS, INDEX
from sfumato.runtime.pickles import LARGEST
from sfumato.runtime.tensor_file import CheckpointError, is_finite

FINITE = ("model/", "ema/", "profile/")
"""What the names of weights begin with."""


def write(path: Path, tensors: Mapping[str, Tensor], about: str) -> None:
    """Write a checkpoint folder with a text beside the tensors; all processes call this together, and share a file
    system.

    Raises:
        OSError: disk full, no permission; other checkpoints are untouched.
    """
    import torch.distributed.checkpoint as dcp

    unfinished, main = path.with_name(f".{path.name}.tmp"), dist.get_rank() == 0
    if main:
        shutil.rmtree(unfinished, ignore_errors=True)
    dist.barrier()
    try:
        dcp.save(dict(tensors), checkpoint_id=str(unfinished))
    except dcp.CheckpointException as error:  # some process failed, and all know
        with naming(path):
            raise _cause(error) from None
    _write_checksums(unfinished, about, main)
    if main:
        with naming(path):
            shutil.rmtree(path, ignore_errors=True)
            os.rename(unfinished, path)
        settle(path.parent)
    dist.barrier()


def _write_checksums(folder: Path, about: str, main: bool) -> None:
    """The text, and a checksum of it, of the index and of every piece, by all processes: each reads what it wrote."""
    held: Any
    try:
        pieces = [piece for piece in parts_index.read(folder)[2] if piece.file.startswith(f"__{dist.get_rank()}_")]
        held = parts_index.sums_of(folder, pieces)
    except (OSError, ValueError) as error:
        held = error  # which all processes are told, so that none waits for another
    gathered: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(gathered, held)
    if failed := [error for error in gathered if isinstance(error, Exception)]:
        raise failed[0]
    if not main:
        return
    with naming(folder):
        with whole_file(folder / ABOUT) as file:
            file.write(about.encode())
        texts = {ABOUT: about.encode(), INDEX: read_bounded(folder / INDEX, LARGEST)}
        sums = {name: f"{zlib.crc32(content):08x}" for name, content in texts.items()}
        with whole_file(folder / CHECKSUMS) as file:
            file.write(json.dumps({key: value for found in (sums, *gathered) for key, value in found.items()}).encode())


def read_index(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """What a folder says of itself, and the shape of every tensor.

    CheckpointError where it is damaged, or not all there.
    """
    try:
        content = read_bounded(path / ABOUT, LARGEST)
    except FileNotFoundError:
        raise CheckpointError(f"{path} is no whole checkpoint: {ABOUT} is missing") from None
    parts_index.checked(path, ABOUT, content)
    about = parsed(content, f"{path} is damaged: {ABOUT}", CheckpointError)
    _, shapes, _ = parts_index.read(path)
    return about, shapes


def fill(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read these tensors, whole or sharded, in place: every process reads what it holds, and all call this together.

    CheckpointError where one is missing, of another shape, or damaged.
    """
    _load(path, dict(tensors), alone=not dist.is_initialized())


def tensors_of(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """These tensors, whole, in this process alone. CheckpointError where they are damaged."""
    entries = parts_index.read(path)[0].state_dict_metadata
    needed = sum(entries[name].properties.dtype.itemsize * entries[name].size.numel() for name in names)
    if needed > (free := free_memory()):
        raise MemoryError(f"{path} needs {needed:,} bytes, of which {free:,} are free")
    empty = {name: torch.empty(entries[name].size, dtype=entries[name].properties.dtype) for name in names}
    _load(path, empty, alone=True)
    return empty


def _load(path: Path, tensors: dict[str, Any], alone: bool) -> None:
    import torch.distributed.checkpoint as dcp

    newer = "no_dist" in inspect.signature(dcp.load).parameters  # than torch 2.6
    load: Any = dcp.load if newer else dcp.load_state_dict
    try:
        with warnings.catch_warnings(action="ignore"):  # that there is one process only
            load(tensors, storage_reader=_reader(path), no_dist=alone)
    except dcp.CheckpointException as error:
        cause = _cause(error)
        if isinstance(cause, CheckpointError | OSError) or not isinstance(cause, Exception):
            raise cause from None
        words = str(cause).strip().splitlines() or [type(cause).__name__]
        raise CheckpointError(f"{path} is damaged, or of another architecture: {words[0]}") from None

    for name, value in tensors.items():
        held = value.to_local() if hasattr(value, "to_local") else value
        if name.startswith(FINITE) and not is_finite(held):
            raise CheckpointError(f"{path} cannot be used: {name} holds NaN or infinite values")


def _cause(error: Any) -> BaseException:
    """What went wrong in the first of the processes in which something did."""
    (cause, _), *_ = error.failures.values()
    return cause


def _reader(path: Path) -> Any:
    """torch.distributed.checkpoint's own reader, with our reading of the index, of pieces that were looked through."""
    from torch.distributed.checkpoint import FileSystemReader

    class Reader(FileSystemReader):
        def read_metadata(self, *_: Any, **__: Any) -> Any:
            return parts_index.read(path)[0]

        def read_data(self, plan: Any, planner: Any) -> Any:
            wanted = {item.storage_index for item in plan.items}
            _look_through(path, [self.storage_data[index] for index in wanted])
            return super().read_data(plan, planner)

    return Reader(path)


def _look_through(path: Path, infos: Sequence[Any]) -> None:
    """CheckpointError where a piece is not what was written, or something else than a tensor."""
    known = parts_index.checksums(path)
    for info in infos:
        with open_regular(path / info.relative_path) as file:
            file.seek(info.offset)
            content = file.read(info.length)
        key = f"{info.relative_path}:{info.offset}"
        if known and known.get(key) != f"{zlib.crc32(content):08x}":
            raise CheckpointError(f"{path} is damaged: {key} is not what was written, by its checksum")
        try:
            archives.check(io.BytesIO(content))
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged: {key} holds no tensor: {error}") from None
