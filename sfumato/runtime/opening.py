"""Files that others wrote, opened without trusting them: regular files only, and no more bytes than were allowed for.

Beside them, how much of a file is really on the disk, and how much memory is free, which bound what a file may ask for.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import IO


def open_regular(path: Path) -> IO[bytes]:
    """A regular file (or a link to one), open for reading; a pipe, socket or device is not even waited for.

    Raises:
        OSError: it is missing, not readable, or something else than a regular file.
    """
    _require_regular(os.stat(path), path)
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
    file = os.fdopen(os.open(path, flags), "rb")
    try:
        _require_regular(os.fstat(file.fileno()), path)  # it may have been exchanged
    except BaseException:
        file.close()
        raise
    return file


def _require_regular(status: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, "a folder, where a file is expected", str(path))
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.ENXIO, "a pipe, socket or device, where a file is expected", str(path))


def read_bounded(path: Path, most: int) -> bytes:
    """The content of a regular file of at most so many bytes. OSError as above, and where it is larger."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise OSError(errno.EFBIG, f"larger than the {most:,} bytes that such a file can need", str(path))
    return content


def stored_bytes(file: IO[bytes] | Path) -> int:
    """How many bytes of a file lie on the disk: the holes of a sparse file do not count."""
    status = os.stat(file) if isinstance(file, Path) else os.fstat(file.fileno())
    blocks = getattr(status, "st_blocks", 0) * 512  # 0 where the file system does not say
    return min(status.st_size, blocks) if blocks else status.st_size


def free_memory() -> int:
    """Bytes of memory that a process can still take: by the system, its control group and its own limits."""
    found = [_meminfo()]
    root = Path("/sys/fs/cgroup")
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        try:
            found.append(int((root / limit).read_text()) - int((root / used).read_text()))
        except (OSError, ValueError):  # no such group, or "max"
            continue
    try:
        import resource

        most, _ = resource.getrlimit(resource.RLIMIT_AS)
        if most != resource.RLIM_INFINITY:
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            found.append(most - pages * resource.getpagesize())
    except (ImportError, OSError, ValueError):
        pass
    return max(0, min(found))


def _meminfo() -> int:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return 16 << 30
