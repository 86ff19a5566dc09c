"""DPM-Solver++(2M): a fast multistep solver of the probability flow in log-SNR (Lu et al. 2022, algorithm 2).

One evaluation a step; the prediction before (`past`) makes it of second order. x0 is predicted, so it clips and guides
well.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Kernel, Past, Sampler, Step
from sfumato.core.schedules import Level


def half_log_snr(level: Level) -> Tensor:
    """lambda = log(alpha / sigma)."""
    return level.alpha.log() - level.sigma.log()


@dataclass(frozen=True)
class DPMSolverPPStep:
    """A step of DPM-Solver++: exponential integration of x0, extrapolated from the step before where there is one."""

    process: GaussianDiffusion
    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        here, there = self.denoise(x, t), self.process.level(s, x)
        if not bool((there.sigma > 0).all()):
            return Step(Gaussian(here.x0, NO_NOISE), here)
        h, x0 = half_log_snr(there) - half_log_snr(here.level), here.x0
        if past and bool(torch.isfinite(half_log_snr(past[0].level)).all()):  # no signal, no log: first order
            r = (half_log_snr(here.level) - half_log_snr(past[0].level)) / h
            x0 = x0 + (x0 - past[0].x0) / (2 * r)
        mean = there.sigma / here.level.sigma * x - there.alpha * torch.expm1(-h) * x0
        return Step(Gaussian(mean, NO_NOISE), here)


@dataclass(frozen=True)
class DPMSolverPP2M(Sampler):
    """DPM-Solver++(2M), second order at one evaluation a step (Lu et al. 2022)."""

    order: ClassVar[int] = 2

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return DPMSolverPPStep(process, denoise)
