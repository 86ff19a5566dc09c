"""The timesteps to train on: uniform numbers become times and weights.

So stratified, antithetic and importance sampling (Nichol & Dhariwal 2021, eq. 18) meet in one place. The timesteps of
samplers are `Schedule.times` and `samplers.grids`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.core.schedules import Continuous


class TrainingTimes:
    """Base class of densities over training times; what remembers nothing has nothing to update or save.

    Attributes:
        learns: whether `update` changes anything; only then the losses of all processes are brought together.
    """

    learns: ClassVar[bool] = False

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        """Uniform numbers u (B,) in [0, 1) -> times (B,) and importance weights (B,), where u is."""
        raise NotImplementedError

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Take notice of the losses (B,) at times t (B,)."""

    def half_log_snr(self, n: int) -> Tensor:
        """log(alpha / sigma) of n levels, ascending, even in the learned density: a sampler's grid.

        ValueError where no such density is learned.
        """
        raise ValueError("a learned grid is that of a model trained with --recipe.times learned, which this is not")

    def state_dict(self) -> dict[str, Tensor]:
        """What it remembers."""
        return {}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave."""


@dataclass(frozen=True)
class UniformLevels(TrainingTimes):
    """Levels 1..T, all alike (Ho et al. 2020, algorithm 1); or from another `first` level on."""

    T: int
    first: int = 1

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        n = self.T - self.first + 1
        return (u.double() * n).long().clamp(max=n - 1) + self.first, torch.ones_like(u)


@dataclass(frozen=True)
class Among(TrainingTimes):
    """A few times, all alike: those of a sampler that is trained for them (Salimans & Ho 2022, algorithm 2)."""

    times: tuple[float, ...]
    """Whole numbers where they are levels."""

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        index = (u.double() * len(self.times)).long().clamp(max=len(self.times) - 1)
        whole = all(isinstance(time, int) for time in self.times)
        known = torch.tensor(self.times, dtype=torch.long if whole else torch.float64, device=u.device)
        return known[index], torch.ones_like(u)


@dataclass(frozen=True)
class UniformInterval(TrainingTimes):
    """Continuous times between start and end (Song et al. 2021, eq. 7)."""

    start: float = 1e-5
    end: float = 1.0

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return self.start + (self.end - self.start) * u.double(), torch.ones_like(u)


@dataclass(frozen=True)
class LogNormal(TrainingTimes):
    """Times at which log(sigma / alpha) is normal: EDM's log-normal sigma (Karras et al. 2022, table 1).

    On the straight path of flow matching that is a logit-normal time (Esser et al. 2024, eq. 19).
    """

    schedule: Continuous
    mean: float
    std: float

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        z = math.sqrt(2) * torch.erfinv(2 * u.double().clamp(1e-6, 1 - 1e-6) - 1)
        return self.schedule.at(-(self.mean + self.std * z)), torch.ones_like(u)


@dataclass(frozen=True)
class Mode(TrainingTimes):
    """Times of [0, 1], denser in the middle for scale > 0 and at the ends below (Esser et al. 2024, eq. 20)."""

    scale: float = 1.29

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        left = 1 - u.double()  # so that times ascend with u
        return 1 - left - self.scale * (torch.cos(math.pi / 2 * left) ** 2 - 1 + left), torch.ones_like(u)


class LossSecondMoment(TrainingTimes):
    """Levels 1..T in proportion to the root mean square of their recent losses (Nichol & Dhariwal 2021, eq. 18).

    Uniform until every level has been seen `history` times. It remembers, so it is updated after each step and saved.

    Args:
        history: how many recent losses of each level count.
        uniform: the share of draws that stays uniform.
    """

    learns = True

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
