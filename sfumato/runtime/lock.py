"""One process at a time in a folder: a lock that ends with the process that holds it, however it ends.

The file beside the work says who holds it: process, host, and since when.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfumato.runtime.flock import take
from sfumato.runtime.printable import printable

NAME = ".lock"
"""The file in the folder; it is gone after the work, and left behind, without effect, by a process that was killed."""


class HeldError(ValueError):
    """Another process holds the folder."""


@contextlib.contextmanager
def hold(folder: Path, doing: str) -> Iterator[None]:
    """Hold a folder that exists for as long as the context lasts; a file system without locks holds nothing.

    Args:
        doing: what is being done in it, in words that follow "is being": "trained", say.

    Raises:
        HeldError: another process holds it; the line says which, where, and since when.
        OSError: the folder cannot be written in.
    """
    path = folder / NAME
    handle = _open(path, folder, doing)
    try:
        who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}
        os.ftruncate(handle, 0)
        os.write(handle, json.dumps(who).encode())
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink()  # while it is held: who opens it now makes a new one, see `_open`
        os.close(handle)


def refuse_if_held(folder: Path, doing: str) -> None:
    """Raise HeldError where another process holds the folder now, before anything long is begun."""
    with contextlib.suppress(OSError):
        handle = os.open(folder / NAME, os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0))
        try:
            _lock(handle, folder, doing)
        finally:
            os.close(handle)


def _open(path: Path, folder: Path, doing: str) -> int:
    """The file, open and locked, which is still the one of that name."""
    flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    while True:
        try:
            handle = os.open(path, flags, 0o666)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        try:
            _lock(handle, folder, doing)
            with contextlib.suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(handle), path.stat()):
                    return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)  # its holder removed it between the two


def _lock(handle: int, folder: Path, doing: str) -> None:
    if take(handle) is False:
        raise HeldError(f"{folder} is being {doing} by {_holder(handle)}; wait for it, or stop it")


def _holder(handle: int) -> str:
    """Who wrote the file, in words."""
    who: Any = None
    with contextlib.suppress(OSError, ValueError):
        who = json.loads(os.pread(handle, 4096, 0))
    if not isinstance(who, dict):  # it has only just begun
        return "another process"
    text = f"process {who.get('pid')} on {who.get('host')} since {who.get('since')}"
    return printable(text)[:200]
