"""Networks that do not fit in one process: weights, gradients, averages and moments split among all (FSDP2), and
checkpoints of which each process writes its part, by torch.distributed.checkpoint, for any number of processes to read.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import shutil
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from sfumato.train.checkpoint import FORMAT, Checkpoint, CheckpointError, described, naming, settle, whole_file

ABOUT = "about.json"


def shard(network: nn.Module, device: torch.device) -> None:
    """Split a network, the same in all processes, among them: block by block, and the rest as one; each takes its part
    to the device.

    ValueError where this torch cannot (on CPUs it needs one newer than 2.6).
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if device.type == "cpu" and not hasattr(torch.cpu.current_stream(), "record_event"):
        raise ValueError(
            f"torch {torch.__version__} splits networks on GPUs only; update it, or leave out --train.shard"
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    # whole weights must not outlive a pass, not even the last block's: the average may take their place (`ema`)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The members of lists of modules, the outermost ones, that have parts and are called themselves."""
    for child in network.children():
        called = type(child).forward is not nn.Module.forward
        if isinstance(network, nn.ModuleList) and called and any(True for _ in child.children()):
            yield child
        else:
            yield from blocks(child)


def is_split(value: Tensor) -> bool:
    """Whether this process holds a part of the tensor only."""
    return hasattr(value, "full_tensor")  # a DTensor, whose module takes long to import for those who need none


def whole(value: Tensor) -> Tensor:
    """The tensor with all its parts; where it is split, all processes must ask."""
    held: Any = value
    return held.full_tensor() if is_split(value) else value


def split_like(pattern: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, split as the pattern is, or as it is where that is whole."""
    if not is_split(pattern):
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(pattern.device), pattern.device_mesh, pattern.placements)  # type: ignore[attr-defined]


# ---------------------------------------------------------------- checkpoints in parts


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write a checkpoint folder, of which every process writes its part; it appears whole, or not at all.

    All processes call this together, and share a file system.

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
            file.write(described(about).encode())
        with naming(path):
            shutil.rmtree(path, ignore_errors=True)
            os.rename(unfinished, path)
        settle(path.parent)
    dist.barrier()


def read(path: Path) -> Checkpoint:
    """Open a checkpoint folder; its tensors are read later.

    CheckpointError where it is damaged, not ours, or not all there.
    """
    try:
        about = json.loads((path / ABOUT).read_text("utf-8"))
        form = about.get("format")
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
    if form != FORMAT:
        raise CheckpointError(f"{path} has format {form}; this version of sfumato reads format {FORMAT}")
    return Checkpoint(path, about, shapes)


def fill(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read these tensors, whole or split, in place: every process reads what it holds, and all call this together.

    CheckpointError where one is missing, of another shape, or damaged.
    """
    _load(path, dict(tensors), alone=not dist.is_initialized())


def tensors_of(path: Path, names: list[str]) -> dict[str, Tensor]:
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
