"""Timesteps of samplers by name: even, quadratic, and the respacings of DDIM and Improved DDPM, quirks included.

Those of the papers are functions of T, the number of levels, to levels that descend and end at 0, clean data
(`core.schedules.Grid`); in continuous time the levels are thousandths. Those of fast solvers are functions of any
schedule: even in log SNR (Lu et al. 2022) or in a root of sigma / alpha (Karras et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

from sfumato.core.brownian import brownian
from sfumato.core.denoisers import Denoise
from sfumato.core.diffusion import Diffusion
from sfumato.core.distillation import even_times
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, Sampler
from sfumato.core.schedules import Schedule, Steps
from sfumato.core.steps import possible
from sfumato.core.times import TrainingTimes

# ---------------------------------------------------------------- on any schedule

Spread = Callable[[Schedule, int], Tensor]
"""(schedule, n) -> n moves, (n + 1,) strictly descending times, the last 0, clean data."""

Drawn = Callable[[Sequence[Move], GaussianDiffusion], list[Move]]
"""(moves, process) -> the same moves with other noise."""

NOISIEST = -5.1
"""Where log(alpha / sigma) is clipped: a level with less signal is noise but for 0.6 % (Lu et al. 2022)."""


def ends(schedule: Schedule) -> tuple[float, float]:
    """lambda = log(alpha / sigma) at the noisiest time worth a step and at the last before clean data."""
    least = schedule.times(None)[-2]  # level 1, or a thousandth of the time
    high, low = (float(schedule.log_snr(t)) / 2 for t in (least, torch.as_tensor(schedule.end)))
    return max(low, NOISIEST), high


def log_snr(schedule: Schedule, n: int) -> Tensor:
    """Even in log SNR, then clean data (Lu et al. 2022)."""
    low, high = ends(schedule)
    return from_half_log_snr(schedule, torch.linspace(low, high, n, dtype=torch.float64))


def karras(schedule: Schedule, n: int, rho: float = 7.0) -> Tensor:
    """Even in (sigma / alpha)^(1 / rho), then clean data (Karras et al. 2022, eq. 5)."""
    low, high = (math.exp(-value / rho) for value in ends(schedule))
    return from_half_log_snr(schedule, -rho * torch.linspace(low, high, n, dtype=torch.float64).log())


def quadratic(schedule: Schedule, n: int) -> Tensor:
    """Even in the root of time: denser near clean data."""
    return schedule.times(partial(trailing_quadratic, n=n))


def to_clean(schedule: Schedule, n: int) -> Tensor:
    """Even in time down to clean data itself: those of n are among those of 2 n (Salimans & Ho 2022)."""
    return even_times(schedule, n)


@dataclass(frozen=True, eq=False)
class Given:
    """A grid of one's own, for one number of moves: times (n + 1,) strictly descending, the last 0, clean data."""

    moments: Tensor

    def __call__(self, schedule: Schedule, n: int) -> Tensor:
        """The times themselves. ValueError for another number of moves than theirs."""
        if n != len(self.moments) - 1:
            raise ValueError(f"this grid has {len(self.moments) - 1} moves, not {n}")
        return self.moments


def learned(schedule: Schedule, n: int) -> Tensor:
    """Even in the density of times that a model learned in training (Kingma et al. 2021); `OnGrid.of` fills it in."""
    raise ValueError("a learned grid belongs to a model that was trained with --recipe.times learned")


@dataclass(frozen=True, eq=False)
class Learned:
    """The learned grid of one model (`core.learned_times`)."""

    density: TrainingTimes

    def __call__(self, schedule: Schedule, n: int) -> Tensor:
        """ValueError where the model's times were not learned."""
        return from_half_log_snr(schedule, self.density.half_log_snr(n))

    def __str__(self) -> str:
        return "learned"


def from_half_log_snr(schedule: Schedule, half_log_snr: Tensor) -> Tensor:
    """The times of these values of lambda (n,), and clean data. ValueError for more than there are levels."""
    times = schedule.at(half_log_snr)
    if not times.is_floating_point():
        n, top = len(times), int(schedule.end)
        possible(n, top)
        ascending = times.flip(0).tolist()
        for i in range(1, n):  # rounding may repeat a level: the noisier one goes up, and then all stay below the end
            ascending[i] = max(ascending[i], ascending[i - 1] + 1)
        times = torch.minimum(torch.tensor(ascending), torch.arange(top - n + 1, top + 1)).flip(0)
    return torch.cat([times, times.new_zeros(1)])


@dataclass(frozen=True)
class OnGrid(Sampler):
    """Base class of samplers that go down a grid: even in time by itself, or `?grid=karras`, `log-snr`, `quadratic`,
    `to-clean`, or `learned` with the model (`--recipe.times learned`).

    `?noise=brownian` makes the noise that of one path for each image, which every number of steps follows; ValueError
    where a sampler draws none.
    """

    grid: Spread | None = field(default=None, kw_only=True)
    noise: Drawn | None = field(default=None, kw_only=True)
    words: ClassVar[dict[str, dict[str, Any]]] = {
        "grid": {
            "even": None,
            "karras": karras,
            "log-snr": log_snr,
            "quadratic": quadratic,
            "to-clean": to_clean,
            "learned": learned,
        },
        "noise": {"independent": None, "brownian": brownian},
    }

    @property
    def draws(self) -> bool:
        """Whether noise is drawn on the way."""
        return True

    def times(self, schedule: Schedule, steps: Steps = None) -> Tensor:
        """The timesteps; a number of steps is spread by the grid, another grid stays as it is."""
        if self.grid is None or not isinstance(steps, int):
            return schedule.times(steps)
        return self.grid(schedule, possible(steps, schedule.levels))

    def of(self, diffusion: Diffusion) -> Self:
        return replace(self, grid=Learned(diffusion.times)) if self.grid is learned else self

    def along(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        if self.noise is not None and not self.draws:
            raise ValueError("this sampler draws no noise, so it has none to be brownian: leave noise out")
        moves = self.moves(process, denoise, times)
        return moves if self.noise is None else self.noise(moves, process)


# ---------------------------------------------------------------- of the papers


def trailing_quadratic(T: int, n: int) -> Tensor:
    """n moves from T to 0, denser near clean data: (n + 1,) strictly descending levels."""
    possible(n, T)
    levels = (T * (torch.arange(n + 1, dtype=torch.float64) / n) ** 2).round().long()
    return torch.maximum(levels, torch.arange(n + 1)).flip(0)


def _from_indices(indices: list[int]) -> Tensor:
    """Official 0-based timesteps, ascending -> our levels (index + 1), descending, with clean data at the end."""
    return torch.tensor([i + 1 for i in reversed(indices)] + [0])


def ddim_uniform(T: int, n: int) -> Tensor:
    """DDIM's `uniform` spacing as published: every (T // n)-th level.

    Two quirks: it may make more moves than asked (T = 1000, n = 30 makes 31), and it starts below T.
    """
    possible(n, T)
    return _from_indices(list(range(0, T, T // n)))


def ddim_quadratic(T: int, n: int) -> Tensor:
    """DDIM's `quad` spacing as published: squares up to 0.8 T, so that noise enters at 0.8 T.

    With many steps the lowest level repeats; such a move stays where it is.
    """
    possible(n, T)
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
