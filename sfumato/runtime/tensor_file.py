"""Tensors in one safetensors file, with a text beside them: written whole or not at all, and read on demand.

Nothing is ever unpickled; whatever is truncated, damaged or another kind of file is one clear line. Our files carry a
checksum of each tensor, which is verified when the tensor is read.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from sfumato.runtime.archives import check_stored
from sfumato.runtime.files import whole_file
from sfumato.runtime.json_file import parsed
from sfumato.runtime.opening import free_memory, open_regular
from sfumato.runtime.printable import printable

LARGEST_HEADER = 16 << 20
"""Bytes of a header: room for 100,000 tensors."""
CHECKSUMS = "sfumato.checksums"
"""The entry of the metadata with a checksum of each tensor, and of the other metadata under the name ""."""

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
BYTES = {word: dtype.itemsize for dtype, word in DTYPES.items()} | {
    "U64": 8, "U32": 4, "U16": 2, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
"""Bytes of a number of each kind that a file may hold."""


class CheckpointError(ValueError):
    """A file that cannot be used, in one clear line, in which nothing acts on a terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text if len(text) < 2000 else f"{text[:2000]} ..."))


# ---------------------------------------------------------------- checksums and values


def checksum(content: Any, name: str, dtype: str, shape: Sequence[int], so_far: int | None = None) -> int:
    """CRC-32 of a tensor: of its name, kind and shape, then of its bytes (or what goes on from `so_far`)."""
    begun = zlib.crc32(f"{name} {dtype} {list(shape)}".encode()) if so_far is None else so_far
    return zlib.crc32(content, begun)


def _texts(metadata: Mapping[str, str]) -> int:
    """CRC-32 of the metadata, the checksums themselves left out."""
    return zlib.crc32(json.dumps(sorted(item for item in metadata.items() if item[0] != CHECKSUMS)).encode())


def is_finite(value: Tensor) -> bool:
    """Whether a tensor, on the host or a device, has no NaN and nothing infinite."""
    if not value.numel() or not value.is_floating_point() or value.is_meta:
        return True
    low, high = torch.aminmax(value.detach().float() if value.element_size() == 1 else value.detach())
    return math.isfinite(low.item()) and math.isfinite(high.item())


def _bytes(tensor: Tensor) -> Any:
    """The bytes of a tensor, in order."""
    return tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data


# ---------------------------------------------------------------- writing


def write(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write tensors, their metadata, and a checksum of each.

    Raises:
        OSError: disk full, no permission; what was at `path` is untouched.
    """
    texts = {"format": "pt", **metadata}
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that each one is aligned
    header: dict[str, Any] = {}
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [begin, end],
        }  # fmt: skip
    sums = {"": _texts(texts), **dict.fromkeys(names, 0)}
    with whole_file(path) as file:
        file.write(_encoded(header, texts, sums))
        for name in names:  # each is brought to the host once; the checksums take the places that were left for them
            content = _bytes(tensors[name])
            sums[name] = checksum(content, name, header[name]["dtype"], header[name]["shape"])
            file.write(content)
        file.seek(0)
        file.write(_encoded(header, texts, sums))


def _encoded(header: Mapping[str, Any], texts: Mapping[str, str], sums: Mapping[str, int]) -> bytes:
    """The beginning of a file, of a length that does not depend on the checksums."""
    written = json.dumps({name: f"{value:08x}" for name, value in sums.items()})
    encoded = json.dumps({"__metadata__": {**texts, CHECKSUMS: written}, **header}).encode()
    encoded += b" " * (-len(encoded) % 8)
    return len(encoded).to_bytes(8, "little") + encoded


# ---------------------------------------------------------------- reading


def tensors_of(path: Path, names: Sequence[str]) -> dict[str, Tensor]:
    """These tensors, each in its own memory.

    CheckpointError where the file is damaged, or a tensor is not what was written; MemoryError where they are too
    large for this machine.
    """
    from safetensors import SafetensorError, safe_open

    header = _header(path)
    sums = _checksums(path, header)
    needed = sum(end - begin for begin, end in (header[name]["data_offsets"] for name in names))
    if needed > (free := free_memory()):
        raise MemoryError(f"{path} needs {needed:,} bytes, of which {free:,} are free")
    found: dict[str, Tensor] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name in names:
                value = found[name] = file.get_tensor(name).clone()
                entry = header[name]
                if sums and sums[name] != f"{checksum(_bytes(value), name, entry['dtype'], entry['shape']):08x}":
                    raise CheckpointError(f"{path} is damaged: {name} is not what was written, by its checksum")
    except SafetensorError as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    return found


def read_header(path: Path) -> tuple[dict[str, str], dict[str, tuple[int, ...]]]:
    """The metadata, and the shape of every tensor, of a file that is all there.

    Raises:
        OSError: no such file, no permission, no regular file.
        CheckpointError: truncated, damaged, or no safetensors file.
    """
    header = _header(path)
    _checksums(path, header)
    metadata = header.pop("__metadata__")
    return metadata, {name: tuple(entry["shape"]) for name, entry in header.items()}


def _checksums(path: Path, header: Mapping[str, Any]) -> dict[str, str]:
    """The checksum of every tensor, where the file has them, and those of the metadata agree."""
    metadata = header["__metadata__"]
    if CHECKSUMS not in metadata:
        return {}
    sums = parsed(metadata[CHECKSUMS].encode(), f"{path} is damaged: its list of checksums", CheckpointError)
    if sums.pop("", None) != f"{_texts(metadata):08x}":
        raise CheckpointError(f"{path} is damaged: its metadata are not what was written, by their checksum")
    if set(sums) != set(header) - {"__metadata__"}:
        raise CheckpointError(f"{path} is damaged: its tensors are not those that were written")
    return sums


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file whose tensors are all there, with `__metadata__`, perhaps empty."""
    with open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = _header_length(path, file, size)
        text = file.read(length) if size >= 8 + length else b""
        if len(text) < max(length, 1):
            raise CheckpointError(f"{path} is truncated: it ends inside its header, after {size:,} bytes")
        header = parsed(text, f"{path} is not a safetensors file: its header", CheckpointError)
        metadata = header.setdefault("__metadata__", {})
        if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
            raise CheckpointError(f"{path} is not a safetensors file: its metadata are no texts")
        end = _tiled(path, {name: entry for name, entry in header.items() if name != "__metadata__"})
        if size != 8 + length + end:
            wrong = "truncated" if size < 8 + length + end else "damaged, for it goes on after its tensors"
            raise CheckpointError(f"{path} is {wrong}: {size:,} of {8 + length + end:,} bytes")
        try:
            check_stored(file)
        except ValueError as error:
            raise CheckpointError(f"{path} is damaged: {error}") from None
    return header


def _header_length(path: Path, file: IO[bytes], size: int) -> int:
    """The length of the header of a file, which is then read up to it."""
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if size == 0:
        raise CheckpointError(f"{path} is empty")
    if size > 8 and (start[8:] != b"{" or length > LARGEST_HEADER):
        if start[:2] == b"PK" or start[:1] == b"\x80":
            raise CheckpointError(f"{path} is a pickle, which can carry code, so it was not opened")
        raise CheckpointError(f"{path} is not a safetensors file")
    file.seek(8)
    return length


def _tiled(path: Path, entries: Mapping[str, Any]) -> int:
    """The end of the tensors that a header lists, which lie one after the other. CheckpointError for any other list."""
    spans = []
    for name, entry in entries.items():
        try:
            (begin, end), shape, each = entry["data_offsets"], entry["shape"], BYTES[entry["dtype"]]
        except (TypeError, LookupError, ValueError):
            raise CheckpointError(f"{path} is not a safetensors file: its header describes no tensor {name}") from None
        numbers = [begin, end, *shape] if isinstance(shape, list) and len(shape) < 16 else [None]
        whole = all(type(number) is int and 0 <= number < 2**63 for number in numbers)
        if not whole or end - begin != each * math.prod(shape):
            raise CheckpointError(f"{path} is damaged: {name} has another size than its shape says")
        spans.append((begin, end))
    reached = 0
    for begin, end in sorted(spans):
        if begin != reached:
            raise CheckpointError(f"{path} is damaged: its tensors {'overlap' if begin < reached else 'leave a hole'}")
        reached = end
    return reached
