"""Tensors in one safetensors file, with a text beside them: written whole or not at all, and read on demand.

Nothing is ever unpickled; whatever is truncated, damaged or another kind of file is one clear line.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.runtime.files import whole_file

LARGEST_HEADER = 100_000_000  # bytes, as in the reference reader

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class CheckpointError(ValueError):
    """A file that cannot be used, in one clear line."""


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors and their metadata.

    Raises:
        OSError: disk full, no permission; what was at `path` is untouched.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", **metadata}}
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that each one is aligned
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [begin, end],
        }  # fmt: skip
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with whole_file(path) as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


def tensors_of(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """These tensors, each in its own memory. CheckpointError where the file is damaged."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name).clone() for name in names}
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The metadata, and the shape of every tensor, of a file that is all there.

    Raises:
        OSError: no such file, no permission.
        CheckpointError: truncated, damaged, or no safetensors file.
    """
    header = _header(path)
    metadata = header.pop("__metadata__", None)
    try:
        return dict(metadata or {}), {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (ValueError, TypeError, LookupError):
        raise CheckpointError(f"{path} is damaged: its header describes no tensors") from None


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file whose tensors are all there."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if size == 0:
            raise CheckpointError(f"{path} is empty")
        if size > 8 and (start[8:] != b"{" or length > LARGEST_HEADER):
            if start[:2] == b"PK" or start[:1] == b"\x80":
                raise CheckpointError(f"{path} is a pickle, which can carry code, so it was not opened")
            raise CheckpointError(f"{path} is not a safetensors file")
        file.seek(8)
        text = file.read(length) if size >= 8 + length else b""
    if len(text) < max(length, 1):
        raise CheckpointError(f"{path} is truncated: it ends inside its header, after {size:,} bytes")
    try:
        header = json.loads(text)
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise CheckpointError(f"{path} is not a safetensors file: its header is no JSON text of tensors") from None
    if size < 8 + length + end:
        raise CheckpointError(f"{path} is truncated: {size:,} of {8 + length + end:,} bytes")
    return header
