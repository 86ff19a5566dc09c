"""Adams-Bashforth methods in kappa = sigma / alpha: DEIS and LMS, of order 1 to 4 (Zhang & Chen 2022, rho-AB).

In x / alpha the probability flow is dx = eps dkappa; eps is extrapolated by the polynomial through the last
predictions. The safest multistep method on a grid that is even in time.
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
from sfumato.core.sampling import NO_NOISE, Move, Past, Step, denoise_to_zero
from sfumato.samplers.grids import OnGrid
from sfumato.samplers.multistep import noise_to_signal, power_weights, usable


@dataclass(frozen=True)
class AdamsBashforthStep:
    """x_s / alpha_s = x_t / alpha_t + the integral of eps over kappa, by the last `order` predictions."""

    process: GaussianDiffusion
    denoise: Denoise
    order: int = 2

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        here, there = self.denoise(x, t), self.process.level(s, x)
        start, end = noise_to_signal(here.level), noise_to_signal(there)
        if not math.isfinite(start) or end == 0:  # no signal to divide by, or nothing to extrapolate: DDIM
            return Step(Gaussian(there.noise(here.x0, here.eps), NO_NOISE), here)
        known = [here, *usable(past, self.order - 1)]
        h = end - start
        counts = power_weights(tuple((noise_to_signal(p.level) - start) / h for p in known))
        first, *others = (count * p.eps for count, p in zip(counts, known, strict=True))
        alpha = float(there.alpha)
        return Step(Gaussian(alpha / float(here.level.alpha) * x + alpha * h * sum(others, first), NO_NOISE), here)


@dataclass(frozen=True)
class AdamsBashforth(OnGrid):
    """Adams-Bashforth in sigma / alpha, which is DEIS and LMS, one evaluation a step (Zhang & Chen 2022)."""

    order: int = 2
    """1 to 4."""

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4:
            raise ValueError(f"the order lies between 1 and 4, not {self.order}")

    @property
    def draws(self) -> bool:
        return False

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        step = AdamsBashforthStep(process, denoise, self.order)
        distinct = torch.unique_consecutive(times)  # a published grid may repeat a level
        plan: list[Move] = [(step, t, s) for t, s in pairwise(distinct)]
        return denoise_to_zero(plan, process, denoise)
