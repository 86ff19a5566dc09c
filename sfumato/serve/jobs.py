"""A bounded job queue with one worker thread: jobs run one by one in their order, say how far they are, and end early.

No formula is here: what a job does is a function that is given a way to tell its progress.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Literal

Tell = Callable[[float], None]
"""Takes the share of the work that is done, from 0 to 1; raises `Cancelled` where nobody wants the rest."""
Work = Callable[[Tell], Any]

MOST_WAITING = 8
"""Jobs that wait, by default; another is refused."""


class Full(Exception):
    """As many jobs wait as may."""


class Cancelled(Exception):
    """A job was cancelled while it ran."""


class Job:
    """One job of a queue; whoever reads it may do so from any thread.

    Attributes:
        state: waiting and running, then done, failed or cancelled.
        share: of its work that is done, from 0 to 1.
        found: what the work returned, once it is done.
        error: what it raised, where it failed.
    """

    def __init__(self, work: Work, changed: Callable[[], None]) -> None:
        self._work, self._changed = work, changed
        self.state: Literal["waiting", "running", "done", "failed", "cancelled"] = "waiting"
        self.share = 0.0
        self.found: Any = None
        self.error: Exception | None = None
        self.cancelled = threading.Event()

    @property
    def ended(self) -> bool:
        """Whether nothing more will change."""
        return self.state in ("done", "failed", "cancelled")

    def notice(self) -> None:
        """Say that something about it is new, its place in the queue for example."""
        self._changed()

    def tell(self, share: float) -> None:
        """Note how far the work is. Cancelled where it should end."""
        if self.cancelled.is_set():
            raise Cancelled
        self.share = share
        self._changed()

    def run(self) -> None:
        """Do the work; whatever it raises is kept."""
        self.state = "running"
        try:
            self.tell(0.0)
            self.found = self._work(self.tell)
            self.end("done")
        except Cancelled:
            self.end("cancelled")
        except Exception as error:
            self.error = error
            self.end("failed")

    def end(self, state: Literal["done", "failed", "cancelled"]) -> None:
        """Set the last state, and drop the work with all that it holds."""
        del self._work
        self.state = state
        self._changed()


class Jobs:
    """A queue of jobs and the one thread that runs them.

    Args:
        most: jobs that may wait beside the one that runs.
    """

    def __init__(self, most: int = MOST_WAITING) -> None:
        self.most = most
        self._waiting: deque[Job] = deque()
        self._running: Job | None = None
        self._closed = False
        self._turn = threading.Condition()  # reentrant: a signal may close the queue while its thread holds it
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def submit(self, work: Work, changed: Callable[[], None] = lambda: None) -> Job:
        """Put a job at the end; `changed` is called, from any thread, whenever something is new. Full where it is."""
        job = Job(work, changed)
        with self._turn:
            if self._closed or len(self._waiting) >= self.most:
                raise Full
            self._waiting.append(job)
            self._turn.notify()
        return job

    def ahead(self, job: Job) -> int:
        """How many jobs come before a waiting one, the one that runs included."""
        with self._turn:
            return self._waiting.index(job) + (self._running is not None) if job in self._waiting else 0

    def cancel(self, job: Job) -> None:
        """Drop a job that waits; one that runs ends at its next step. Of one that has ended nothing changes."""
        with self._turn:
            job.cancelled.set()
            if job in self._waiting:
                self._waiting.remove(job)
                job.end("cancelled")
            elif not job.ended:
                job.notice()

    def close(self) -> None:
        """Cancel everything and take no more."""
        with self._turn:
            self._closed = True
            for job in [*self._waiting, *([self._running] if self._running else [])]:
                self.cancel(job)
            self._turn.notify()

    def wait(self, seconds: float) -> None:
        """After `close`: wait for the end of the job that runs, but no longer than so many seconds."""
        self._thread.join(seconds)

    def _serve(self) -> None:
        while True:
            with self._turn:
                self._running = None
                while not self._waiting and not self._closed:
                    self._turn.wait()
                if self._closed:
                    return
                self._running = job = self._waiting.popleft()
                others = list(self._waiting)
            for other in others:  # each has one fewer before it
                other.notice()
            job.run()
            del job, others
