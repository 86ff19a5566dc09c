"""A sampler is a plan of moves (kernel, t, s) and one loop that takes them.

The plans are the papers' loops: going down a grid of levels, staying at each level (annealed Langevin dynamics, Song &
Ermon 2019, algorithm 1), and predictor with corrector (Song et al. 2021, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.distributions import Distribution, Noise

Kernel = Callable[[Tensor, Tensor, Tensor], Distribution]
"""(x_t, t, s) -> p(x_s | x_t)."""

Move = tuple[Kernel, Tensor, Tensor]
"""One step of a plan: a kernel, where we are (t) and where we go (s), both 0-dimensional host tensors."""


def walk(x: Tensor, moves: Iterable[Move], noise: Noise = torch.randn_like) -> Iterator[Tensor]:
    """Take the moves from x (B, ...) one after the other and yield the state after each."""
    for kernel, t, s in moves:
        x = kernel(x, t, s).sample(noise)
        yield x


def finish(x: Tensor, moves: Iterable[Move], noise: Noise = torch.randn_like) -> Tensor:
    """Walk to the end and return the last state."""
    for state in walk(x, moves, noise):
        x = state
    return x


def descend(kernel: Kernel, times: Tensor) -> list[Move]:
    """One move from each time to the next: times (n + 1,) make n moves."""
    return [(kernel, t, s) for t, s in pairwise(times)]


def anneal(corrector: Kernel, times: Tensor, n: int) -> list[Move]:
    """n moves that stay at each time, in turn."""
    return [(corrector, t, t) for t in times for _ in range(n)]


def predict_correct(predictor: Kernel, corrector: Kernel, times: Tensor, n: int = 1) -> list[Move]:
    """After each move down, n moves that stay (Song et al. 2021, algorithm 1)."""
    moves: list[Move] = []
    for t, s in pairwise(times):
        moves.append((predictor, t, s))
        moves.extend((corrector, s, s) for _ in range(n))
    return moves
