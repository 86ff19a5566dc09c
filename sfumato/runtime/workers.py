"""Worker processes that divide the work on images: each loads the model once and takes parts until none is left.

What belongs to image i follows from (seed, i) alone (`core.randomness`), and the parts are the same whoever takes them.
So any number of processes gives the same results: bit for bit where each has as many threads, else to rounding.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import torch

M = TypeVar("M")
R = TypeVar("R")


@dataclass(frozen=True)
class WorkerPool(Generic[M]):
    """Worker processes on this machine.

    Attributes:
        load: called as load(device=...), makes the model in each of them; it must be one that can be pickled, as
            `partial(load_model, path)` is.
        processes: how many; they divide this process's threads among them.
        device: for the models; several GPUs are taken in turn.
    """

    load: Callable[..., M]
    processes: int
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError(f"the work takes 1 process or more, not {self.processes}")


def batches(n: int, size: int) -> list[range]:
    """0 .. n - 1 in parts of this size, the last perhaps smaller."""
    return [range(i, min(i + size, n)) for i in range(0, n, size)]


def distribute(
    work: Callable[[M, range], R],
    model: M,
    parts: Sequence[range],
    pool: WorkerPool[M] | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[R]:
    """What the work gives for each part, in their order: `[work(model, part) for part in parts]`, by several processes.

    See `distributed`, which gives one at a time.
    """
    return list(distributed(work, model, parts, pool, progress))


def distributed(
    work: Callable[[M, range], R],
    model: M,
    parts: Sequence[range],
    pool: WorkerPool[M] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[R]:
    """What the work gives for each part, in their order, one after the other: few are in memory at a time.

    Args:
        work: (model, keys of images) -> anything; a pool needs one that can be pickled.
        model: for this process, if it works alone.
        pool: who does it; this process where None, or where one process is enough.
        progress: called with the number of keys that are done since the last call.

    Raises:
        ChildProcessError: a worker died.
    """
    processes = min(pool.processes, len(parts)) if pool else 1
    told = progress or (lambda _: None)
    if pool is None or processes == 1:
        for part in parts:
            yield work(model, part)
            told(len(part))
        return
    context = multiprocessing.get_context("spawn")
    ranks = context.Queue()
    for rank in range(processes):
        ranks.put(rank)
    about = (ranks, pool, work, max(1, torch.get_num_threads() // processes))
    others = set(multiprocessing.active_children())
    try:
        with ProcessPoolExecutor(processes, context, initializer=_start, initargs=about) as executor:
            try:
                waiting: deque[tuple[range, Future[R]]] = deque()
                for part in parts:
                    with _unheard():
                        waiting.append((part, executor.submit(_do, part)))
                    if len(waiting) > 2 * processes:
                        yield _next(waiting, told)
                while waiting:
                    yield _next(waiting, told)
            except BaseException:  # nobody waits for what is still being done
                for child in set(multiprocessing.active_children()) - others:
                    child.terminate()
                raise
    except BrokenProcessPool:
        raise ChildProcessError(
            "a worker process died, of memory perhaps (try fewer); in a script of your own, "
            "put the call under `if __name__ == '__main__':`"
        ) from None


def _next(waiting: deque[tuple[range, Future[R]]], progress: Callable[[int], object]) -> R:
    part, future = waiting.popleft()
    result = future.result()
    progress(len(part))
    return result


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """Processes that start in the context do not hear Ctrl-C, which a terminal sends to all: this process ends them."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


_HERE: list[Any] = []
"""The work and the model of a worker, or the exception that its start ended in."""


def _start(ranks: Any, pool: WorkerPool[Any], work: Callable[..., Any], threads: int) -> None:
    threading.Thread(target=_follow, daemon=True).start()
    rank, device = ranks.get(), str(pool.device)
    torch.set_num_threads(threads)
    if device == "cuda" and torch.cuda.device_count() > 1:
        device = f"cuda:{rank % torch.cuda.device_count()}"
    try:
        _HERE[:] = work, pool.load(device=device)
    except Exception as error:  # said by the parent, in one line, where here it would be a traceback
        _HERE[:] = [error]


def _follow() -> None:
    """End with the parent, however it ends: a worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _do(part: range) -> Any:
    if len(_HERE) == 1:
        raise _HERE[0]
    work, model = _HERE
    return work(model, part)
