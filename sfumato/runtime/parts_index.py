"""The index of a checkpoint in parts: which pieces of which files hold which part of each tensor, and their checksums.

torch.distributed.checkpoint writes it as a pickle, which is read without running anything; it must tile every tensor.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch

from sfumato.runtime.json_file import read_object
from sfumato.runtime.opening import open_regular, read_bounded
from sfumato.runtime.pickles import LARGEST, names_in
from sfumato.runtime.tensor_file import CheckpointError

ABOUT, INDEX, CHECKSUMS = "about.json", ".metadata", "checksums.json"
CHUNKS = 4096
"""Parts of one tensor, at most: no more processes share a run."""

DAMAGED = (
    ValueError, TypeError, LookupError, AttributeError, EOFError, ArithmeticError, RuntimeError, pickle.UnpicklingError,
)  # fmt: skip
"""What reading a damaged index ends in."""


@dataclass(frozen=True)
class Piece:
    """Where a part of a tensor lies: a file of the folder, and the bytes in it."""

    file: str
    begin: int
    length: int

    @property
    def key(self) -> str:
        """How the checksums name it."""
        return f"{self.file}:{self.begin}"


def read(path: Path) -> tuple[Any, dict[str, tuple[int, ...]], list[Piece]]:
    """A folder's index, as torch.distributed.checkpoint has it, with the shape of every tensor, and all pieces.

    Raises:
        OSError: no permission.
        CheckpointError: missing, damaged, or an index in which tensors have holes or overlaps.
    """
    try:
        content = read_bounded(path / INDEX, LARGEST)
        checked(path, INDEX, content)
        asked = names_in(io.BytesIO(content)) - ALLOWED
        if asked:
            raise ValueError(f"its index asks for {min(asked)}, which is no description of tensors")
        index = _Index(io.BytesIO(content)).load()
        shapes = {name: _tiled(name, entry, index.storage_data) for name, entry in index.state_dict_metadata.items()}
        pieces = [_piece(info) for info in index.storage_data.values()]
        if sum(len(entry.chunks) for entry in index.state_dict_metadata.values()) != len(pieces):
            raise ValueError("its index lists pieces of no tensor")
        _check_apart(pieces)
    except FileNotFoundError as error:
        raise CheckpointError(f"{path} is no whole checkpoint: {Path(error.filename).name} is missing") from None
    except CheckpointError:
        raise
    except DAMAGED as error:
        raise CheckpointError(f"{path} is damaged: {error}") from None
    _check_files(path, pieces)
    return index, shapes, pieces


# ---------------------------------------------------------------- what an index must say


def _tiled(name: Any, entry: Any, storage: Mapping[Any, Any]) -> tuple[int, ...]:
    """The shape of a tensor whose chunks, each with its piece, fill it once. ValueError for any other."""
    from torch.distributed.checkpoint.metadata import MetadataIndex

    shape, chunks, dtype = _sizes(entry.size), entry.chunks, entry.properties.dtype
    if not isinstance(name, str) or not isinstance(dtype, torch.dtype) or not isinstance(chunks, list):
        raise ValueError("its index describes no tensors")
    if not 1 <= len(chunks) <= CHUNKS:
        raise ValueError(f"{name} lies in {len(chunks)} parts")
    spans = [list(zip(_sizes(chunk.offsets), _sizes(chunk.sizes), strict=True)) for chunk in chunks]
    for chunk, span in zip(chunks, spans, strict=True):
        if len(span) != len(shape) or any(at + size > whole for (at, size), whole in zip(span, shape, strict=True)):
            raise ValueError(f"a part of {name} lies outside of its shape {shape}")
        least = dtype.itemsize * math.prod(size for _, size in span)
        if _piece(storage[MetadataIndex(name, torch.Size(chunk.offsets))]).length < least:
            raise ValueError(f"a piece of {name} is smaller than its part")
    full = [span for span in spans if math.prod(size for _, size in span)]
    if sum(math.prod(size for _, size in span) for span in full) < math.prod(shape):
        raise ValueError(f"{name} has holes: its parts do not fill its shape {shape}")
    if _overlap(full):
        raise ValueError(f"parts of {name} overlap")
    return shape


def _sizes(value: Any) -> tuple[int, ...]:
    sizes = tuple(value)
    if len(sizes) > 16 or not all(type(size) is int and 0 <= size < 2**48 for size in sizes):
        raise ValueError("its index holds a shape that is none")
    return sizes


def _overlap(spans: list[list[tuple[int, int]]]) -> bool:
    """Whether any two boxes share a number: those are compared that overlap along the axis that splits them most."""
    if not spans or not spans[0]:
        return len(spans) > 1
    axis = max(range(len(spans[0])), key=lambda i: len({span[i][0] for span in spans}))
    spans = sorted(spans, key=lambda span: span[axis][0])
    for i, span in enumerate(spans):
        for other in spans[i + 1 :]:
            if other[axis][0] >= sum(span[axis]):
                break
            if all(a < b + m and b < a + n for (a, n), (b, m) in zip(span, other, strict=True)):
                return True
    return False


def _piece(info: Any) -> Piece:
    """A piece as the index describes it. ValueError where it lies outside the folder, or is packed."""
    piece = Piece(info.relative_path, info.offset, info.length)
    if not isinstance(piece.file, str) or Path(piece.file).name != piece.file or piece.file.startswith("."):
        raise ValueError(f"its index asks for {piece.file!r:.100}, outside the folder")
    if not all(type(number) is int and 0 <= number < 2**48 for number in (piece.begin, piece.length)):
        raise ValueError(f"its index asks for no bytes of {piece.file}")
    if getattr(info, "transform_descriptors", None):
        raise ValueError(f"the pieces of {piece.file} are packed")
    return piece


def _check_apart(pieces: Iterable[Piece]) -> None:
    reached: dict[str, int] = {}
    for piece in sorted(pieces, key=lambda piece: (piece.file, piece.begin)):
        if piece.begin < reached.get(piece.file, 0):
            raise ValueError(f"pieces of {piece.file} overlap")
        reached[piece.file] = piece.begin + piece.length


def _check_files(path: Path, pieces: Iterable[Piece]) -> None:
    ends: dict[str, int] = {}
    for piece in pieces:
        ends[piece.file] = max(ends.get(piece.file, 0), piece.begin + piece.length)
    for name, end in ends.items():
        try:
            with open_regular(path / name) as file:
                size = os.fstat(file.fileno()).st_size
        except FileNotFoundError:
            raise CheckpointError(f"{path} is no whole checkpoint: {name} is missing") from None
        if size < end:
            raise CheckpointError(f"{path} is truncated: {name} has {size:,} of {end:,} bytes")


# ---------------------------------------------------------------- checksums


def checksums(path: Path) -> dict[str, Any]:
    """The CRC-32 of each piece and of the two texts, by name; empty where a folder has none."""
    if not (path / CHECKSUMS).exists():
        return {}
    return read_object(path / CHECKSUMS, CheckpointError, LARGEST)


def checked(path: Path, key: str, content: bytes) -> None:
    """CheckpointError where a text or a piece is not what was written."""
    known = checksums(path)
    if known and known.get(key) != f"{zlib.crc32(content):08x}":
        raise CheckpointError(f"{path} is damaged: {key} is not what was written, by its checksum")


def sums_of(path: Path, pieces: Iterable[Piece]) -> dict[str, str]:
    """The checksums of pieces, as they are in their files."""
    found: dict[str, str] = {}
    for piece in pieces:
        with open_regular(path / piece.file) as file:
            found[piece.key] = f"{_crc(file, piece):08x}"
    return found


def _crc(file: IO[bytes], piece: Piece) -> int:
    file.seek(piece.begin)
    left, crc = piece.length, 0
    while left and (block := file.read(min(left, 1 << 22))):
        left, crc = left - len(block), zlib.crc32(block, crc)
    return crc


# ---------------------------------------------------------------- the pickle

NAMES: dict[str, set[str]] = {
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
"""The index is a pickle; only these names, which are data, can stand in it."""
ALLOWED = frozenset(f"{module}.{name}" for module, names in NAMES.items() for name in names)


class _Index(pickle.Unpickler):
    """Reads the index."""

    def find_class(self, module: str, name: str) -> Any:
        if name not in NAMES.get(module, ()):
            raise pickle.UnpicklingError(f"its index asks for {module}.{name}, which is no description of tensors")
        return super().find_class(module, name)
