"""Which times to train on, and which to visit when sampling.

Training times turn uniform numbers into times and weights, so that stratified, antithetic and importance sampling meet
in one place. Visiting times are descending grids that end at 0, clean data: ours (`strided`) and the official ones by
name (DDIM's two, Improved DDPM's sections), quirks included.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

# ---------------------------------------------------------------- which times to train on


class Times(Protocol):
    """A density over training times."""

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform numbers u (B,) in [0, 1) -> times (B,) and importance weights (B,), both on the host."""
        ...


@dataclass(frozen=True)
class UniformLevels:
    """Levels 1..T, all alike (Ho et al. 2020, algorithm 1); or from another `first` level on."""

    T: int
    first: int = 1

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        n = self.T - self.first + 1
        return (u.double() * n).long().clamp(max=n - 1) + self.first, torch.ones_like(u)


@dataclass(frozen=True)
class UniformInterval:
    """Continuous times between start and end (Song et al. 2021, eq. 7)."""

    start: float = 1e-5
    end: float = 1.0

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return self.start + (self.end - self.start) * u.double(), torch.ones_like(u)


class LossSecondMoment:
    """Levels 1..T in proportion to the root mean square of their recent losses (Nichol & Dhariwal 2021, eq. 18).

    Uniform until every level has been seen `history` times. It remembers, so it is updated after each step and saved.

    Args:
        history: how many recent losses of each level count.
        uniform: the share of draws that stays uniform.
    """

    def __init__(self, T: int, history: int = 10, uniform: float = 0.001) -> None:
        self.T, self.uniform = T, uniform
        self.losses = torch.zeros(T, history, dtype=torch.float64)
        self.seen = torch.zeros(T, dtype=torch.long)

    @property
    def probabilities(self) -> Tensor:
        """How likely each level is, (T,) float64."""
        flat = torch.full((self.T,), 1 / self.T, dtype=torch.float64)
        if bool((self.seen < self.losses.shape[1]).any()):
            return flat
        weights = self.losses.square().mean(1).sqrt()
        return (1 - self.uniform) * weights / weights.sum() + self.uniform * flat

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform numbers u (B,) -> levels by the inverse of the cumulative distribution, and weights 1 / (T p)."""
        p = self.probabilities
        cumulative = p.cumsum(0)
        index = torch.searchsorted(cumulative / cumulative[-1], u.double(), right=True).clamp(max=self.T - 1)
        return index + 1, 1 / (self.T * p[index])

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Remember the losses (B,) that levels t (B,) had; those that are not finite are forgotten."""
        for level, loss in zip((t - 1).tolist(), losses.double().tolist(), strict=True):
            if math.isfinite(loss):
                self.losses[level] = torch.cat([self.losses[level, 1:], self.losses.new_tensor([loss])])
                self.seen[level] += 1

    def state_dict(self) -> dict[str, Tensor]:
        """What it remembers."""
        return {"losses": self.losses, "seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""
        if state["losses"].shape != self.losses.shape:
            raise ValueError(f"these losses are of {len(state['losses'])} levels, not {self.T}")
        self.losses, self.seen = state["losses"].clone(), state["seen"].clone()


def low_discrepancy(counter: Tensor, offset: float = 0.0) -> Tensor:
    """A uniform number in [0, 1) for each counter (B,), spread evenly over any run of consecutive counters.

    The additive recurrence frac(offset + n / golden ratio): stratified times that do not depend on how a batch is cut.
    """
    return torch.frac(counter.double() * ((math.sqrt(5) - 1) / 2) + offset)


def antithetic(u: Tensor) -> Tensor:
    """Make the second half of u (B,) the mirror of the first, as DDIM's training does with t and T - 1 - t."""
    half = u[: (len(u) + 1) // 2]
    return torch.cat([half, (1 - half).clamp(max=math.nextafter(1, 0))])[: len(u)]


# ---------------------------------------------------------------- which times to visit: descending, ending at 0


Grid = Callable[[int], Tensor]
"""The number of levels T -> the levels to visit, descending and ending at 0; `partial(respace, text="ddim50")`, say."""

Steps = int | Grid | None
"""So many evenly spaced moves, or a grid of one's own; None visits every level."""


def visits(T: int, steps: Steps = None) -> Tensor:
    """The levels to visit, (n + 1,)."""
    if callable(steps):
        return steps(T)
    return strided(T, T if steps is None else steps)


def _check(T: int, n: int) -> None:
    if not 1 <= n <= T:
        raise ValueError(f"steps must lie between 1 and {T}, the number of levels of this model, not {n}")


def strided(T: int, n: int) -> Tensor:
    """n moves from T to 0, evenly spaced: (n + 1,) strictly descending levels. n = T visits every level."""
    _check(T, n)
    return (torch.arange(n, -1, -1, dtype=torch.float64) * (T / n)).round().long()


def trailing_quadratic(T: int, n: int) -> Tensor:
    """n moves from T to 0, denser near clean data: (n + 1,) strictly descending levels."""
    _check(T, n)
    levels = (T * (torch.arange(n + 1, dtype=torch.float64) / n) ** 2).round().long()
    return torch.maximum(levels, torch.arange(n + 1)).flip(0)


def _from_indices(indices: list[int]) -> Tensor:
    """Official 0-based timesteps, ascending -> our levels (index + 1), descending, with clean data at the end."""
    return torch.tensor([i + 1 for i in reversed(indices)] + [0])


def ddim_uniform(T: int, n: int) -> Tensor:
    """DDIM's `uniform` spacing as published: every (T // n)-th level.

    Two quirks: it may make more moves than asked (T = 1000, n = 30 makes 31), and it starts below T.
    """
    _check(T, n)
    return _from_indices(list(range(0, T, T // n)))


def ddim_quadratic(T: int, n: int) -> Tensor:
    """DDIM's `quad` spacing as published: squares up to 0.8 T, so that noise enters at 0.8 T.

    With many steps the lowest level repeats; such a move stays where it is.
    """
    _check(T, n)
    return _from_indices([int(r**2) for r in torch.linspace(0, math.sqrt(0.8 * T), n, dtype=torch.float64).tolist()])


def sections(T: int, counts: list[int]) -> Tensor:
    """Improved DDPM's respacing: [0, T) in equal sections, counts[i] levels spread over the i-th, ends included."""
    size, extra = divmod(T, len(counts))
    start, indices = 0, []
    for i, count in enumerate(counts):
        length = size + (i < extra)
        if not 1 <= count <= length:
            raise ValueError(f"cannot place {count} levels in section {i + 1}, which has {length}")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0  # summed, not multiplied, and rounded half to even: as the official grid falls
        for _ in range(count):
            indices.append(start + round(position))
            position += stride
        start += length
    return _from_indices(sorted(set(indices)))


def ddim_stride(T: int, n: int) -> Tensor:
    """Improved DDPM's `ddimN`: the integer stride from index 0 that makes exactly n levels."""
    for stride in range(1, T):
        if len(range(0, T, stride)) == n:
            return _from_indices(list(range(0, T, stride)))
    raise ValueError(f"no integer stride visits exactly {n} of {T} levels")


def respace(T: int, text: str) -> Tensor:
    """Improved DDPM's respacing string: "250", "10,10,10" or "ddim50" -> levels, descending, ending at 0."""
    try:
        if text.startswith("ddim"):
            return ddim_stride(T, int(text[4:]))
        return sections(T, [int(part) for part in text.split(",")])
    except ValueError as error:
        raise ValueError(f"respacing {text!r}: {error}") from None
