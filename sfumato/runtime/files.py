"""Files and folders that appear whole or not at all: written beside their place, brought to the disk, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from sfumato.runtime.flock import take

STRAY = re.compile(r"\..+\.[0-9a-f]{8}\.tmp")
"""What a file or folder is called before it appears."""


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system that say which file could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` complete, or not at all: whatever was there before stays until then."""
    with naming(path):
        handle, temporary = _beside(path)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    settle(path.parent)


@contextlib.contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to fill that appears at `path` with all its files on the disk, or not at all.

    Raises:
        OSError: it cannot be written, or there is something at `path` besides an empty folder.
    """
    temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
    with naming(path):
        temporary.mkdir(parents=True)
        handle = os.open(temporary, os.O_RDONLY) if os.name == "posix" else None
    try:
        if handle is not None:
            take(handle)
        with naming(path):
            yield temporary
            for folder, _, names in os.walk(temporary):
                for name in names:
                    with open(os.path.join(folder, name), "rb+") as file:
                        os.fsync(file.fileno())
                settle(Path(folder))
            if path.is_dir() and not path.is_symlink():
                path.rmdir()
            elif os.path.lexists(path):
                raise FileExistsError(errno.EEXIST, "File exists", str(path))
            os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    finally:
        if handle is not None:
            os.close(handle)
    settle(path.parent)


def _beside(path: Path) -> tuple[int, Path]:
    """A new file in the same folder, open to write, whose permissions are those of any new file: the umask decides."""
    while True:
        temporary = path.with_name(f".{path.name}.{os.urandom(4).hex()}.tmp")
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
            handle = os.open(temporary, flags, 0o666)
            take(handle)
            return handle, temporary


def sweep(folder: Path) -> None:
    """Remove what `whole_file` and `whole_folder` left in a folder where their process was killed.

    What is being written now stays.
    """
    for path in folder.glob(".*.tmp"):
        with contextlib.suppress(OSError):
            if STRAY.fullmatch(path.name) and time.time() - path.lstat().st_mtime > 1:
                handle = os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
                try:
                    if take(handle):
                        shutil.rmtree(path) if path.is_dir() else path.unlink()
                finally:
                    os.close(handle)


def settle(folder: Path) -> None:
    """Return once the folder is on the disk: only then is a new name in it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
