"""The files in a tar archive, found without reading them; an archive that is cut, packed or sparse is an error.

Python's reader takes a damaged header, and an end without the mark of an end, for the end: a shard that was cut would
be a shorter data set. Here an archive ends with its mark, and nothing but zeros comes after it.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple, cast

from sfumato.data.room import is_hollow
from sfumato.data.spec import DataError
from sfumato.runtime.opening import stored_bytes

HEADER = 2**20
"""Bytes of the longest header: a name, or the extended attributes of a file."""

PADDING = 2**24
"""Zeros after the end, at most: archives are filled up to whole blocks of a tape."""

PACKED = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7z": "xz", b"\x28\xb5\x2f\xfd": "zstd"}


class Member(NamedTuple):
    """A file in an archive: its name, where it begins, and how many bytes it has."""

    name: str
    offset: int
    size: int


class _Headers:
    """What tarfile reads headers from: small reads alone."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= HEADER:
            raise tarfile.ReadError(f"a header of {size:,} bytes")
        return self.file.read(size)


def members(file: IO[bytes], path: Path, stored: int | None = None) -> Iterator[Member]:
    """The files of an open archive, in order; their contents are not read.

    Args:
        stored: its bytes that are not holes, where the file system cannot say: of an archive inside another.

    Raises:
        DataError: it is damaged or cut, compressed, or holds links or sparse files; with its name.
    """
    start = file.read(6)
    size = file.seek(0, 2)
    file.seek(0)
    if packed := next((kind for magic, kind in PACKED.items() if start.startswith(magic)), None):
        raise DataError(f"{path} is compressed ({packed}); shards are plain tar files: unpack it first")
    if is_hollow(size, stored_bytes(file) if stored is None else stored):
        raise DataError(
            f"{path} is damaged: its {size:,} bytes are nearly all holes, as of a copy that was not finished"
        )
    try:
        with tarfile.open(fileobj=cast(Any, _Headers(file)), mode="r:") as archive:
            while (member := archive.next()) is not None:
                archive.members = []  # type: ignore[attr-defined]  # tarfile would keep them all
                if member.issparse() or member.islnk() or member.issym():
                    raise DataError(f"{path}: {member.name!r} is a link or a sparse file; shards hold whole files")
                if not 0 <= member.size <= size - member.offset_data:
                    raise DataError(f"{path} is damaged: {member.name!r} of {member.size:,} bytes is cut off")
                if member.isreg():
                    yield Member(member.name, member.offset_data, member.size)
            end = archive.offset
    except DataError:
        raise
    except Exception as error:  # tarfile raises many kinds for damaged headers
        raise DataError(f"{path} is damaged: {error or type(error).__name__}") from None
    _require_end(file, path, end, size)


def _require_end(file: IO[bytes], path: Path, end: int, size: int) -> None:
    """What follows the last file is the mark of an end, and no more."""
    file.seek(end)
    mark = file.read(512)
    if len(mark) < 512:
        raise DataError(f"{path} is damaged: it is cut off after {size:,} bytes, without the mark of its end")
    if any(mark):
        raise DataError(f"{path} is damaged: no header of a file at byte {end:,}")
    rest = file.read(PADDING) if size - end <= PADDING else b"?"
    if rest.strip(b"\0"):
        raise DataError(f"{path} has {size - end:,} bytes after its end; archives that were joined are not read")
