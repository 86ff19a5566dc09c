"""Work on images that several processes share: each loads the model once and takes parts until none is left.

What belongs to image i follows from (seed, i) alone (`core.randomness`), and the parts are the same whoever takes them.
So any number of processes gives the same results: bit for bit where each has as many threads, else to rounding.
"""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

if TYPE_CHECKING:
    from sfumato.model import Model

R = TypeVar("R")


@dataclass(frozen=True)
class Team:
    """Processes on this machine.

    Attributes:
        target, weights, device: what each of them loads, as `model.load` takes it; several GPUs are taken in turn.
        processes: how many; they divide this process's threads among them.
    """

    target: str | Path
    processes: int
    weights: str | None = None
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if self.processes < 1:
            raise ValueError(f"the work takes 1 process or more, not {self.processes}")


def batches(n: int, size: int) -> list[range]:
    """0 .. n - 1 in parts of this size, the last perhaps smaller."""
    return [range(i, min(i + size, n)) for i in range(0, n, size)]


def share(
    work: Callable[[Model, range], R],
    model: Model,
    parts: Sequence[range],
    team: Team | None = None,
    progress: Callable[[int], object] | None = None,
) -> list[R]:
    """What the work gives for each part, in their order.

    Args:
        work: (model, keys of images) -> anything; a team needs one that can be pickled.
        model: for this process, if it works alone.
        team: who does it; this process where None, or where one process is enough.
        progress: called with the number of keys that are done since the last call.

    Raises:
        ChildProcessError: a process died.
    """
    processes = min(team.processes, len(parts)) if team else 1
    found = []
    if team is None or processes == 1:
        for part in parts:
            found.append(work(model, part))
            if progress:
                progress(len(part))
        return found
    context = multiprocessing.get_context("spawn")
    ranks = context.Queue()
    for rank in range(processes):
        ranks.put(rank)
    about = (ranks, team, work, max(1, torch.get_num_threads() // processes))
    try:
        with ProcessPoolExecutor(processes, context, initializer=_join, initargs=about) as pool:
            for part, result in zip(parts, pool.map(_do, parts), strict=True):
                found.append(result)
                if progress:
                    progress(len(part))
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process that shared the work died, of memory perhaps (try fewer); in a script of your own, "
            "put the call under `if __name__ == '__main__':`"
        ) from None
    return found


_HERE: list[Any] = []
"""The work and the model of a process that is in a team."""


def _join(ranks: Any, team: Team, work: Callable[..., Any], threads: int) -> None:
    from sfumato.model import load

    rank, device = ranks.get(), str(team.device)
    torch.set_num_threads(threads)
    if device == "cuda" and torch.cuda.device_count() > 1:
        device = f"cuda:{rank % torch.cuda.device_count()}"
    _HERE[:] = work, load(team.target, weights=team.weights, device=device)


def _do(part: range) -> Any:
    work, model = _HERE
    return work(model, part)
