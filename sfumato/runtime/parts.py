"""Checkpoints of which each process writes its part, by torch.distributed.checkpoint, for any number of processes to
read: a folder that appears whole or not at all.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from sfumato.runtime.files import naming, settle, whole_file
from sfumato.runtime.tensor_file import CheckpointError

ABOUT = "about.json"


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
    if main:
        with whole_file(unfinished / ABOUT) as file:
            file.write(about.encode())
        with naming(path):
            shutil.rmtree(path, ignore_errors=True)
            os.rename(unfinished, path)
        settle(path.parent)
    dist.barrier()


def read_index(path: Path) -> tuple[dict[str, Any], dict[str, tuple[int, ...]]]:
    """What a folder says of itself, and the shape of every tensor.

    CheckpointError where it is damaged, or not all there.
    """
    try:
        about = json.loads((path / ABOUT).read_text("utf-8"))
        if not isinstance(about, dict):
            raise ValueError(f"{ABOUT} holds no JSON text of sfumato")
        index = _reader(path).read_metadata()
        shapes = {name: tuple(entry.size) for name, entry in index.state_dict_metadata.items()}
        ends: dict[str, int] = {}
        for piece in index.storage_data.values():
            ends[piece.relative_path] = max(ends.get(piece.relative_path, 0), piece.offset + piece.length)
        if elsewhere := [name for name in ends if Path(name).name != name]:
            raise ValueError(f"its index asks for {elsewhere[0]}, outside the folder")
        sizes = {name: (path / name).stat().st_size for name in ends}
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is no whole checkpoint: {Path(error.filename).name} is missing") from None
    except (ValueError, TypeError, LookupError, AttributeError, EOFError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    if short := [name for name, end in ends.items() if sizes[name] < end]:
        raise CheckpointError(f"{path} is truncated: {short[0]} has {sizes[short[0]]:,} of {ends[short[0]]:,} bytes")
    return about, shapes


def fill(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read these tensors, whole or sharded, in place: every process reads what it holds, and all call this together.

    CheckpointError where one is missing, of another shape, or damaged.
    """
    _load(path, dict(tensors), alone=not dist.is_initialized())


def tensors_of(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """These tensors, whole, in this process alone. CheckpointError where they are damaged."""
    entries = _reader(path).read_metadata().state_dict_metadata
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
        if not isinstance(cause, Exception):
            raise cause from None
        words = str(cause).strip().splitlines() or [type(cause).__name__]
        raise CheckpointError(f"{path} is damaged, or of another architecture: {words[0]}") from None


def _cause(error: Any) -> BaseException:
    """What went wrong in the first of the processes in which something did."""
    (cause, _), *_ = error.failures.values()
    return cause


def _reader(path: Path) -> Any:
    """torch.distributed.checkpoint's own reader, which takes nothing from the index but what describes tensors."""
    from torch.distributed.checkpoint import FileSystemReader

    class Reader(FileSystemReader):
        def read_metadata(self, *_: Any, **__: Any) -> Any:
            with (path / ".metadata").open("rb") as file:
                return _Index(file).load()

    return Reader(path)


class _Index(pickle.Unpickler):
    """The index is a pickle; only these names, which are data, can stand in it."""

    ALLOWED = {  # noqa: RUF012
        "torch.distributed.checkpoint.metadata": {
            "Metadata", "TensorStorageMetadata", "TensorProperties", "ChunkStorageMetadata", "MetadataIndex",
            "StorageMeta", "_MEM_FORMAT_ENCODING",
        },
        "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
        "torch.serialization": {"_get_layout"},
        "torch": {"Size", *(name for name in dir(torch) if isinstance(getattr(torch, name), torch.dtype))},
        "pathlib": {"PosixPath", "WindowsPath"},
        "pathlib._local": {"PosixPath", "WindowsPath"},
    }  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if name not in self.ALLOWED.get(module, ()):
            raise pickle.UnpicklingError(f"its index asks for {module}.{name}, which is no description of tensors")
        return super().find_class(module, name)
