"""Multistep consistency sampling: predict clean data, put noise of a lower level on it, predict again.

Song, Dhariwal, Chen & Sutskever 2023, algorithm 1. One move is one evaluation of a consistency function.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Past, Step
from sfumato.core.schedules import Schedule, like
from sfumato.samplers.grids import OnGrid, Spread, ends, from_half_log_snr

LAST = 0.821
"""The noise of the second of two steps, sigma / alpha, for data of deviation 0.5 (Geng et al. 2024)."""


@dataclass(frozen=True)
class ConsistencyStep:
    """x_s = alpha_s x0 + sigma_s z: noise drawn anew, whatever was in x_t."""

    process: GaussianDiffusion
    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction = self.denoise(x, t)
        alpha_s, sigma_s = self.process.schedule.alpha_sigma(s)
        return Step(Gaussian(like(alpha_s, x) * prediction.x0, like(sigma_s, x)), prediction)


@dataclass(frozen=True)
class LogEven:
    """So many noises, even in their logarithm from the noisiest to the last; then clean data."""

    last: float = LAST

    def __call__(self, schedule: Schedule, n: int) -> Tensor:
        low, high = ends(schedule)
        return from_half_log_snr(schedule, torch.linspace(low, min(high, -math.log(self.last)), n, dtype=torch.float64))

    def __str__(self) -> str:
        return "log-even"


@dataclass(frozen=True)
class Consistency(OnGrid):
    """Multistep consistency sampling (Song et al. 2023, algorithm 1), for consistency models: one evaluation a step."""

    grid: Spread | None = field(default=LogEven(), kw_only=True)
    words: ClassVar[dict[str, dict[str, Any]]] = {"grid": {**OnGrid.words["grid"], "log-even": LogEven()}}

    @property
    def convergence(self) -> int:
        return 0

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return ConsistencyStep(process, denoise)
