"""Heun's second-order method on any schedule, with the churn of EDM (Karras et al. 2022, algorithms 1 and 2).

The probability flow is dx = x0 dalpha + eps dsigma; its trapezium divides by nothing, so it starts where alpha is 0.
It is EDM's for alpha = 1 and rectified flow's for alpha = 1 - t.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Kernel, Move, Past, Step, denoise_to_zero
from sfumato.core.schedules import Schedule, like
from sfumato.samplers.grids import OnGrid


@dataclass(frozen=True)
class HeunStep:
    """Heun's step: an Euler step, then the mean of x0 and eps at both ends (Karras et al. 2022, algorithm 1).

    Two evaluations of the network, but one where the move ends at clean data.
    """

    process: GaussianDiffusion
    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        here, there = self.denoise(x, t), self.process.level(s, x)
        guess = there.noise(here.x0, here.eps)
        if not bool((there.sigma > 0).all()):
            return Step(Gaussian(guess, NO_NOISE), here)
        then = self.denoise(guess, s)
        of_x0, of_eps = (there.alpha - here.level.alpha) / 2, (there.sigma - here.level.sigma) / 2
        return Step(Gaussian(guess + of_x0 * (then.x0 - here.x0) + of_eps * (then.eps - here.eps), NO_NOISE), here)


@dataclass(frozen=True)
class ChurnStep:
    """EDM's churn: noise is added, from level t up to a noisier level s, q(x_s | x_t) (algorithm 2, line 6)."""

    process: GaussianDiffusion
    s_noise: float = 1.0

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        up = self.process.between(t, s)
        return Step(Gaussian(like(up.alpha, x) * x, self.s_noise * like(up.sigma, x)), None)


@dataclass(frozen=True)
class Heun(OnGrid):
    """Heun's second-order steps of the probability flow (Karras et al. 2022).

    churn adds noise before each step, as EDM's S_churn; only between s_min and s_max, in sigma / alpha, times s_noise.
    """

    churn: float = 0.0
    s_min: float = 0.0
    s_max: float = math.inf
    s_noise: float = 1.0
    order = 2
    evaluations = 2

    def __post_init__(self) -> None:
        if self.churn < 0 or self.s_noise <= 0:
            raise ValueError(f"churn is not negative and s_noise above 0, not {self.churn:g} and {self.s_noise:g}")
        if not self.churn and (self.s_min, self.s_max, self.s_noise) != (0, math.inf, 1):
            raise ValueError("s_min, s_max and s_noise are of churn's noise, and churn is 0: set it, or leave them out")

    @property
    def draws(self) -> bool:
        return self.churn > 0

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return HeunStep(process, denoise)

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        step = self.step(process, denoise)
        plan: list[Move] = []
        gamma = min(self.churn / (len(times) - 1), math.sqrt(2) - 1)
        for t, s in pairwise(times):
            up = self._noisier(process.schedule, t, gamma) if gamma else t
            if up > t:
                plan.append((ChurnStep(process, self.s_noise), t, up))
            plan.append((step, up, s))
        return denoise_to_zero(plan, process, denoise)

    def _noisier(self, schedule: Schedule, t: Tensor, gamma: float) -> Tensor:
        """The time at which sigma / alpha is 1 + gamma times that at t; t itself outside s_min to s_max.

        On separate levels it is the noisiest that does not exceed it.
        """
        sigma = _noise_to_signal(schedule, t)
        if not self.s_min <= sigma <= self.s_max:
            return t
        low, high = t, torch.as_tensor(schedule.end).to(t)
        if _noise_to_signal(schedule, high) <= (1 + gamma) * sigma:
            return high
        for _ in range(60):
            middle = (low + high) / 2 if t.is_floating_point() else (low + high) // 2
            below = _noise_to_signal(schedule, middle) <= (1 + gamma) * sigma
            low, high = (middle, high) if below else (low, middle)
        return low


def _noise_to_signal(schedule: Schedule, t: Tensor) -> float:
    """sigma / alpha, infinite where alpha is 0."""
    return math.exp(-float(schedule.log_snr(t)) / 2)
