"""Commands as children of this process, forked after everything was imported, that die or lack room when told to.

A child counts its changes of files (Python's audit events), and may be killed before one of them, or at an instant.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CHANGES = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
"""Audit events that change files; so does `open` with a flag to write."""
PATIENCE = 120.0
"""Seconds after which a command counts as hung."""


@dataclass(frozen=True)
class Fault:
    """What happens to a command; nothing where all are left out.

    Attributes:
        change: it is killed before this change of a file, counted from 1.
        seconds: it is killed after so many.
        rank: of several processes, the one that is killed; all where None.
        file_size: bytes that no file may exceed (RLIMIT_FSIZE).
    """

    change: int | None = None
    seconds: float | None = None
    rank: int | None = None
    file_size: int | None = None


@dataclass(frozen=True)
class Ended:
    """How a command ended: the exit code of its first process (negative for a signal), whether any was killed as asked,
    its standard error, how many changes of files it made, how long it took, and whether it hung."""

    code: int
    killed: bool
    error: str
    changes: int
    seconds: float
    hung: bool


def prepared() -> None:
    """Import here what the commands need, so that children begin at once; without threads, which do not survive."""
    import accelerate
    import torch

    import sfumato.cli.convert
    import sfumato.cli.evaluate
    import sfumato.cli.prepare
    import sfumato.cli.sample
    import sfumato.cli.train
    import sfumato.convert.foreign
    import sfumato.evaluate.run
    import sfumato.models
    import sfumato.train.loop
    import sfumato.train.monitoring
    import sfumato.train.report

    torch.set_num_threads(1)
    sfumato.train.monitoring.GRACE = float("inf")  # a slow machine leaves out none of the pictures that are compared
    _ = accelerate


def ran(words: tuple[str, ...], folder: Path, logs: Path, processes: int = 1, fault: Fault | None = None) -> Ended:
    """Run a command in a folder, by so many processes, with a fault."""
    fault = fault or Fault()
    logs.mkdir(parents=True, exist_ok=True)
    port, started = _free_port(), time.monotonic()
    pids = [_forked(words, folder, logs, rank, processes, port, fault) for rank in range(processes)]
    ended: dict[int, int] = {}
    asked = hung = False
    while len(ended) < processes:
        for pid in pids:
            if pid not in ended:
                done, status = os.waitpid(pid, os.WNOHANG)
                if done:
                    ended[pid] = os.waitstatus_to_exitcode(status)
        spent = time.monotonic() - started
        due = fault.seconds is not None and spent >= fault.seconds and not asked
        if due or (spent > PATIENCE and not hung):
            asked, hung = asked or due, hung or spent > PATIENCE
            for rank, pid in enumerate(pids):
                if pid not in ended and (hung or fault.rank in (None, rank)):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.002)
    seconds = time.monotonic() - started
    _nobody_left(pids)
    killed = any(code == -signal.SIGKILL for code in ended.values()) and not hung
    codes = [ended[pid] for pid in pids]
    code = next((code for code in codes if code), 0)
    error = (logs / f"error-{codes.index(code)}").read_text(errors="replace")
    count = logs / "changes-0"
    return Ended(code, killed, error, int(count.read_text()) if count.exists() else 0, seconds, hung)


def _forked(
    words: tuple[str, ...], folder: Path, logs: Path, rank: int, processes: int, port: int, fault: Fault
) -> int:
    sys.stdout.flush()
    if pid := os.fork():
        return pid
    code = 70
    try:
        os.setsid()
        os.chdir(folder)
        os.environ["TMPDIR"] = str(logs)
        for number, name in ((1, "output"), (2, "error")):
            handle = os.open(logs / f"{name}-{rank}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
            os.dup2(handle, number)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes),
                           "LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
                           "GLOO_SOCKET_IFNAME": "lo"}  # fmt: skip
        changes = [0]
        _count(changes, fault.change if fault.rank in (None, rank) else None, str(folder))
        if fault.file_size is not None:
            import resource

            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (fault.file_size, resource.RLIM_INFINITY))
        code = _main(words)
        sys.stdout.flush()
        sys.stderr.flush()
        if fault.file_size is None:
            (logs / f"changes-{rank}").write_text(str(changes[0]))
    finally:
        os._exit(code)


def _main(words: tuple[str, ...]) -> int:
    from sfumato.cli import main

    sys.argv = ["sfumato", *words]
    try:
        return int(main())
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1


def _count(changes: list[int], last: int | None, folder: str) -> None:
    """Count changes of files below the folder; the process dies before the last."""

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            changing = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
        else:
            changing = event in CHANGES
        if not changing or not isinstance(arguments[0], str | bytes | os.PathLike):
            return
        path = os.fsdecode(arguments[0])
        if not os.path.isabs(path) or path.startswith(folder):
            changes[0] += 1
            if changes[0] == last:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def _nobody_left(groups: list[int]) -> None:
    """Wait until no process of these groups runs: workers end with whoever started them. TimeoutError after 20 s."""
    end = time.monotonic() + 20
    while left := [pid for pid, group, state in _processes() if group in groups and state != "Z"]:
        if time.monotonic() > end:
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            raise TimeoutError(f"{len(left)} workers outlive their parent")
        time.sleep(0.02)


def _processes() -> Iterator[tuple[int, int, str]]:
    """Number, group and state of every process (Linux; nothing elsewhere)."""
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
            yield int(path.parent.name), int(group), state


# ---------------------------------------------------------------- disks


@contextlib.contextmanager
def small_disk(folder: Path, size: int) -> Iterator[None]:
    """A disk of so many bytes at a folder, in memory. PermissionError where this user may not mount one."""
    folder.mkdir(parents=True, exist_ok=True)
    if _mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)):
        raise PermissionError("mounting a small disk takes root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=False, capture_output=True)


def resized(folder: Path, size: int) -> None:
    """Give a small disk another size."""
    if _mount("-o", f"remount,size={size}", str(folder)):
        raise OSError(f"{folder} cannot be resized")


@contextlib.contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """A small disk, or without root a folder, in which nothing can be written while the context lasts."""
    if os.geteuid():
        folder.chmod(0o555)
    elif _mount("-o", "remount,ro", str(folder)):
        raise PermissionError(f"{folder} cannot be made read-only")
    try:
        yield
    finally:
        if os.geteuid():
            folder.chmod(0o755)
        else:
            _mount("-o", "remount,rw", str(folder))


def _mount(*words: str) -> int:
    try:
        return subprocess.run(["mount", *words], check=False, capture_output=True).returncode
    except OSError:
        return 1
