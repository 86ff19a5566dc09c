"""The queue of served requests: one job at a time, in order, bounded; each can end early, and spoils no other."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from sfumato.serve.jobs import Full, Job, Jobs, Tell


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    made = Jobs(most=3)
    yield made
    made.close()


def until_ended(*jobs: Job) -> None:
    for _ in range(1000):
        if all(job.ended for job in jobs):
            return
        time.sleep(0.01)
    raise TimeoutError([job.state for job in jobs])


class Gate:
    """Work that waits until it is let through, telling its progress meanwhile."""

    def __init__(self) -> None:
        self.begun, self.open = threading.Event(), threading.Event()

    def __call__(self, tell: Tell) -> str:
        self.begun.set()
        while not self.open.wait(0.005):
            tell(0.5)
        return "through"


def test_jobs_run_one_by_one_in_their_order(jobs: Jobs) -> None:
    log: list[tuple[str, int]] = []

    def work(number: int) -> str:
        log.append(("begins", number))
        time.sleep(0.02)
        log.append(("ends", number))
        return f"result {number}"

    made = [jobs.submit(lambda tell, number=number: work(number)) for number in range(3)]  # type: ignore[misc]
    until_ended(*made)
    assert log == [(what, number) for number in range(3) for what in ("begins", "ends")]
    assert [job.found for job in made] == ["result 0", "result 1", "result 2"]


def test_no_more_wait_than_may(jobs: Jobs) -> None:
    gate = Gate()
    first = jobs.submit(gate)
    gate.begun.wait(10)
    waiting = [jobs.submit(lambda tell: "made") for _ in range(3)]
    assert [jobs.ahead(job) for job in (first, *waiting)] == [0, 1, 2, 3]
    for _ in range(2):
        with pytest.raises(Full):
            jobs.submit(lambda tell: "too many")
    jobs.cancel(waiting[0])
    assert waiting[0].state == "cancelled"
    assert jobs.ahead(waiting[1]) == 1
    more = jobs.submit(lambda tell: "there is room again")
    gate.open.set()
    until_ended(first, *waiting, more)
    assert [job.state for job in (first, *waiting, more)] == ["done", "cancelled", "done", "done", "done"]


def test_a_running_job_ends_at_its_next_step_and_the_next_one_runs(jobs: Jobs) -> None:
    gate = Gate()
    first, second = jobs.submit(gate), jobs.submit(lambda tell: "second")
    gate.begun.wait(10)
    jobs.cancel(first)
    until_ended(first, second)
    assert (first.state, first.found, second.found) == ("cancelled", None, "second")
    jobs.cancel(second)
    assert second.state == "done"


def test_what_fails_spoils_no_other(jobs: Jobs) -> None:
    def fails(tell: Tell) -> None:
        raise KeyError("wrong")

    first, second = jobs.submit(fails), jobs.submit(lambda tell: "second")
    until_ended(first, second)
    assert first.state == "failed"
    assert isinstance(first.error, KeyError)
    assert second.found == "second"


def test_each_change_is_told(jobs: Jobs) -> None:
    seen: list[tuple[str, float]] = []
    job: Job

    def work(tell: Tell) -> None:
        for share in (0.25, 0.75):
            tell(share)

    gate = Gate()
    jobs.submit(gate)
    job = jobs.submit(work, lambda: seen.append((job.state, job.share)))
    gate.open.set()
    until_ended(job)
    states = list(dict.fromkeys(seen))
    assert states[-4:] == [("running", 0.0), ("running", 0.25), ("running", 0.75), ("done", 0.75)]


def test_a_closed_queue_cancels_all_and_takes_none() -> None:
    jobs, gate = Jobs(), Gate()
    running, waiting = jobs.submit(gate), jobs.submit(lambda tell: "never")
    gate.begun.wait(10)
    jobs.close()
    until_ended(running, waiting)
    assert (running.state, waiting.state) == ("cancelled", "cancelled")
    with pytest.raises(Full):
        jobs.submit(lambda tell: "late")
