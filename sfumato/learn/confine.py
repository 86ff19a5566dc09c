"""What an answer may do in its process: limits on memory, time and files, and an audit hook (PEP 578) that
refuses other programs, connections and files outside its folder.

It protects against accidents. It is no wall against code that wants out: whoever starts the server runs their own code
with their own rights.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

MEMORY = 2**30
"""Bytes of address space that an answer may take beside what is there when it starts."""
LARGEST_FILE = 16 * 2**20
"""Bytes of a file that it writes."""

STARTS = {"os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.system", "os.exec", "os.startfile",
          "subprocess.Popen", "pty.spawn"}  # fmt: skip
SIGNALS = {"os.kill", "os.killpg", "signal.pthread_kill"}
CONNECTS = {"socket.connect", "socket.bind", "socket.sendto", "socket.getaddrinfo"}
CHANGES = {"os.remove", "os.rename", "os.rmdir", "os.truncate", "os.link", "os.symlink", "os.mkdir", "os.chmod",
           "os.chown", "os.utime", "shutil.rmtree", "shutil.move", "shutil.copyfile"}  # fmt: skip
"""Audit events whose first or second argument is a path that changes."""
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def confine(folder: Path, seconds: float) -> None:
    """Limit this process, for good, to its folder and to so many seconds."""
    _limit(seconds)
    own = os.path.realpath(folder)
    places = [sys.prefix, sys.base_prefix, sys.exec_prefix, *sys.path, "/usr", "/lib", "/etc/localtime", "/dev/null",
              "/dev/urandom", "/proc/self", "/proc/meminfo", "/proc/cpuinfo", "/sys"]  # fmt: skip
    readable = [own, *(os.path.realpath(place) for place in places if place)]
    sys.addaudithook(_refusal(own, readable))


def _limit(seconds: float) -> None:
    """Limits that the system keeps, where it has them; the parent process counts the seconds as well."""
    try:
        import resource
    except ImportError:
        return
    with contextlib.suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
        allowed = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (allowed, allowed))
    most = int(seconds) + 2
    for kind, value in (("RLIMIT_CPU", most), ("RLIMIT_FSIZE", LARGEST_FILE), ("RLIMIT_CORE", 0)):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, kind), (value, value))
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(most + 5)  # should the parent be gone


def _refusal(own: str, readable: list[str]) -> Callable[[str, tuple[Any, ...]], None]:
    """The audit hook."""

    def inside(path: Any, places: list[str]) -> bool:
        if isinstance(path, int):  # a file that is open already
            return True
        real = os.path.realpath(os.fsdecode(path))
        return any(real == place or real.startswith(place.rstrip(os.sep) + os.sep) for place in places)

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if event in STARTS:
            raise PermissionError("an answer starts no other program")
        if event in SIGNALS:
            raise PermissionError("an answer ends no other program")
        if event in CONNECTS:
            raise PermissionError("an answer makes no connection")
        if event == "open":
            path, mode, flags = given
            writes = bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool((flags or 0) & WRITES)
            if path not in (None, os.devnull) and not inside(path, [own] if writes else readable):
                raise PermissionError(f"an answer {'writes' if writes else 'reads'} no files but its own")
        elif event in CHANGES:
            paths = [path for path in given[:2] if isinstance(path, (str, bytes, os.PathLike))]
            if not all(inside(path, [own]) for path in paths):
                raise PermissionError("an answer changes no files but its own")

    return hook
