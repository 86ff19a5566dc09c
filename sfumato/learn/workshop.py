"""Answers to exercises run in processes of their own, which this starts, feeds, watches and ends.

Such a process gets no environment, no open file but two pipes, and a folder of its own; it is ended when its time is
over, when the learner presses Stop, or when the page is left. Nothing that it does reaches the server or the progress.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from typing import Any

from sfumato.learn.exercises import Exercise, Figure
from sfumato.learn.languages import language, tr

STARTING = 120.0
"""Seconds that a process may take until it is ready: it imports torch."""
LARGEST_REPLY = 8 * 2**20
"""Bytes."""
AT_ONCE = 4
"""Answers that run at the same time; more wait."""
IDLE = 2
"""Processes that are kept ready."""
START = "import json, sys; sys.path[:] = json.loads(sys.argv[1]); from sfumato.learn import worker; worker.main()"


@dataclass(frozen=True)
class Verdict:
    """What became of an answer.

    Attributes:
        right: whether the check accepts it.
        words: what to tell the learner, as plain text.
        printed: what the answer printed, cut where it is long.
        figure: what the page draws of a right answer, if anything.
        judged: whether the check had its say; False where the answer was stopped.
    """

    right: bool
    words: str
    printed: str = ""
    figure: Figure | None = None
    judged: bool = True


class Stopped(Exception):
    """The learner wants no answer any more."""


class Worker:
    """One process that runs answers."""

    def __init__(self) -> None:
        self.folder = tempfile.TemporaryDirectory(prefix="sfumato-answer-", ignore_cleanup_errors=True)
        path = json.dumps([entry for entry in sys.path if entry] or [os.getcwd()])
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-X", "utf8", "-c", START, path],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=self.folder.name,
            env=_environment(self.folder.name), start_new_session=True,
        )  # fmt: skip
        self.lines: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.ready = False
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        """Replies as they come; None once there are no more, or where one is none."""
        assert self.process.stdout is not None
        with contextlib.suppress(ValueError, OSError):
            while line := self.process.stdout.readline(LARGEST_REPLY):
                self.lines.put(json.loads(line))
        self.lines.put(None)

    def next(self, seconds: float, stop: threading.Event) -> dict[str, Any] | None:
        """The next reply, None where the process has ended. TimeoutError, or Stopped once the event is set."""
        until = time.monotonic() + seconds
        while not stop.is_set():
            with contextlib.suppress(queue.Empty):
                return self.lines.get(timeout=max(0.001, min(0.1, until - time.monotonic())))
            if time.monotonic() > until:
                raise TimeoutError
        raise Stopped

    def send(self, job: dict[str, Any]) -> None:
        """Give it an answer to run."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(job).encode() + b"\n")
        self.process.stdin.flush()

    def close(self) -> None:
        """End it, with everything that it started."""
        if os.name == "posix":
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self.folder.cleanup()


class Workshop:
    """Processes that wait for answers: started before they are needed, and replaced when one had to be ended."""

    def __init__(self) -> None:
        self.idle: list[Worker] = []
        self.all: set[Worker] = set()
        self.lock, self.places = threading.Lock(), threading.Semaphore(AT_ONCE)
        atexit.register(self.close)

    def warm(self) -> None:
        """See to it that a process is there, or is being started."""
        with self.lock:
            if not self.all:
                self.idle.append(self._start())

    def judge(self, asked: Exercise, code: str, stop: threading.Event | None = None) -> Verdict:
        """Run an answer and check it; the event stops it."""
        stop = stop or threading.Event()
        with self.places:
            worker = self._take()
            try:
                verdict, whole = _judged(worker, asked, code, stop)
            except BaseException:
                self._end(worker)
                raise
            if whole:
                self._give_back(worker)
            else:
                self._end(worker)
                self.warm()
            return verdict

    def close(self) -> None:
        """End all of them."""
        with self.lock:
            gone, self.idle, self.all = [*self.all], [], set()
        for worker in gone:
            worker.close()

    def _start(self) -> Worker:
        worker = Worker()
        self.all.add(worker)
        return worker

    def _take(self) -> Worker:
        with self.lock:
            while self.idle:
                worker = self.idle.pop()
                if worker.process.poll() is None:
                    return worker
                self.all.discard(worker)
            return self._start()

    def _give_back(self, worker: Worker) -> None:
        with self.lock:
            if len(self.idle) < IDLE and worker in self.all:
                self.idle.append(worker)
                return
        self._end(worker)

    def _end(self, worker: Worker) -> None:
        with self.lock:
            self.all.discard(worker)
        worker.close()


def _judged(worker: Worker, asked: Exercise, code: str, stop: threading.Event) -> tuple[Verdict, bool]:
    """(what became of it, whether the process can take another one)."""
    nonce, said = secrets.token_hex(16), None
    try:
        if not worker.ready:
            if worker.next(STARTING, stop) is None:
                return Verdict(False, tr("the process for answers could not be started"), judged=False), False
            worker.ready = True
        worker.send({"key": asked.key, "code": code, "seconds": asked.seconds, "nonce": nonce, "language": language()})
        until = time.monotonic() + asked.seconds
        while True:
            reply = worker.next(until - time.monotonic(), stop)
            if reply is not None and reply.get("nonce") != nonce:
                continue
            if reply is None or "ended" in reply:
                return said or Verdict(False, _end_of(reply)), reply is not None
            said = Verdict(bool(reply["right"]), reply["words"], reply["printed"], reply["figure"])
    except TimeoutError:
        words = tr("stopped after {seconds:g} seconds: does a loop never end?", seconds=asked.seconds)
        return Verdict(False, words), False
    except Stopped:
        return Verdict(False, tr("stopped"), judged=False), False
    except OSError:
        return Verdict(False, _end_of(None)), False


def _end_of(reply: dict[str, Any] | None) -> str:
    """What to say where a process ended without a word of the check."""
    code = reply["ended"] if reply else None
    if code is None or code >= 0:
        if code is None:
            return tr("your code ended its process before the check could look: does it call os._exit?")
        return tr(
            "your code ended its process with code {code} before the check could look: does it call os._exit?",
            code=code,
        )
    try:
        name = signal.Signals(-code).name
    except ValueError:
        name = f"signal {-code}"
    if name == "SIGSEGV":
        return tr("the system ended your code (SIGSEGV): does a function call itself for ever?")
    if name == "SIGXCPU":
        return tr("the system ended your code (SIGXCPU): its time was over")
    return tr("the system ended your code ({name})", name=name)


def _environment(folder: str) -> dict[str, str]:
    """All that a process for answers knows of its surroundings."""
    kept = {name: os.environ[name] for name in ("SYSTEMROOT", "LD_LIBRARY_PATH") if name in os.environ}
    return {**kept, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HOME": folder,
            "TMPDIR": folder, "TEMP": folder, "TMP": folder}  # fmt: skip


WORKSHOP = Workshop()
"""Of this process."""
