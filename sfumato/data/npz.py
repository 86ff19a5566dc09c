"""Arrays in npz and npy files, of which only those that are asked for are read, after their headers were looked at.

No file is unpickled, and none is expanded before it is known how large it becomes.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np

from sfumato.data.room import Room
from sfumato.data.spec import DataError
from sfumato.runtime.opening import open_regular, stored_bytes

ALONE = "arr_0"
"""The name of the array in an npy file."""

BLOCK = 2**24
"""Bytes that are read at a time."""


class Arrays:
    """An open npz or npy file. DataError, with its name, for whatever is wrong with it.

    Attributes:
        names: of the arrays that it holds.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file, self.room = path, file, Room(str(path))
        magic = file.read(6)
        file.seek(0)
        self.zip = zipfile.ZipFile(file) if magic[:2] == b"PK" else None
        if self.zip is None and magic != b"\x93NUMPY":
            raise DataError(f"{path} cannot be read as npz: it is neither an npz nor an npy file")
        found = [ALONE] if self.zip is None else [info.filename for info in self.zip.infolist()]
        self.names = tuple(name.removesuffix(".npy") for name in found)
        if len(set(self.names)) != len(self.names):
            raise DataError(f"{path} holds two arrays of one name")

    def __getitem__(self, name: str) -> np.ndarray:
        """One array; nothing of the others is read."""
        if self.zip is None:
            return self._array(name, self.file, stored_bytes(self.file))
        info = self.zip.getinfo(f"{name}.npy" if f"{name}.npy" in self.zip.namelist() else name)
        with self.zip.open(info) as member:
            return self._array(name, member, min(info.compress_size, stored_bytes(self.file)))

    def _array(self, name: str, file: IO[bytes], stored: int) -> np.ndarray:
        shape, fortran, kind = _header(file)
        if kind.hasobject:
            raise DataError(f"{self.path} cannot be read: {name} holds Python objects, which would be unpickled")
        need = math.prod(shape) * kind.itemsize
        self.room.add(decoded=need, stored=stored, held=2 * need)
        flat = np.empty(need, np.uint8)
        at, view = 0, flat.data
        while at < need:
            read = file.read(min(BLOCK, need - at))
            if not read:
                raise DataError(f"{self.path} is damaged: {name} ends after {at:,} of {need:,} bytes")
            view[at : at + len(read)] = read
            at += len(read)
        if file.read(1):  # which also checks the sum of the member
            raise DataError(f"{self.path} is damaged: {name} has more than the {need:,} bytes of its shape {shape}")
        array = flat.view(kind)
        return array.reshape(shape[::-1]).T if fortran else array.reshape(shape)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and kind."""
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        return np.lib.format.read_array_header_1_0(file)
    # versions 2 and 3 differ in the encoding of names of fields alone; the header is bounded before it is read
    head = file.read(4)
    length = int.from_bytes(head, "little")
    if length > 10_000:
        raise ValueError(f"a header of {length:,} bytes")
    return np.lib.format.read_array_header_2_0(io.BytesIO(head + file.read(length)))


@contextmanager
def arrays(path: Path) -> Iterator[Arrays]:
    """The arrays of an npz file, or the one of an npy file, as `arr_0`.

    Raises:
        DataError: for whatever is wrong with the file, also while arrays are taken from it.
    """
    try:
        with open_regular(path) as file:
            yield Arrays(path, file)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read as npz: {error.strerror or error}") from None
    except MemoryError:
        raise DataError(f"{path} does not fit into the memory that is free") from None
    except Exception as error:  # a damaged zip raises zipfile.BadZipFile, zlib.error, struct.error and others
        raise DataError(f"{path} is damaged: {error or type(error).__name__}") from None
