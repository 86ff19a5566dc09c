"""UniPC: a predictor and a corrector of any order in log-SNR, one evaluation a step (Zhao et al. 2023).

The prediction at the guess x_s corrects the guess before the next step leaves it, so nothing is evaluated twice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Move, Past, Step, denoise_to_zero
from sfumato.core.schedules import Level
from sfumato.samplers.dpm_solver import orders
from sfumato.samplers.grids import OnGrid
from sfumato.samplers.multistep import exponential_weights, half_log_snr, usable


@dataclass(frozen=True)
class UniPCStep:
    """UniC at x_t, then UniP to x_s.

    Attributes:
        order, corrector: of the step ahead, and of the step that led here.
        linear: B(h) = h where true (bh1), exp(h) - 1 where not (bh2); it counts only where two points are known.
    """

    process: GaussianDiffusion
    denoise: Denoise
    order: int = 2
    corrector: int = 2
    linear: bool = False

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        here, there = self.denoise(x, t), self.process.level(s, x)
        if float(there.sigma) == 0:
            return Step(Gaussian(here.x0, NO_NOISE), here)
        before = usable(past, max(self.order - 1, self.corrector))
        if before:
            here = replace(here, x=self._step(before[0], here.level, [*before[1 : self.corrector], here]))
        return Step(Gaussian(self._step(here, there, before[: self.order - 1]), NO_NOISE), here)

    def _step(self, here: Prediction, there: Level, others: Sequence[Prediction]) -> Tensor:
        """From x_t to a level, with x0 the polynomial through the predictions here and at the others."""
        start, sigma = half_log_snr(here.level), float(there.sigma)
        h = half_log_snr(there) - start
        base = sigma / float(here.level.sigma) * here.x
        if not others or not math.isfinite(h):
            return base - float(there.alpha) * math.expm1(-h) * here.x0
        nodes = [0.0, *((half_log_snr(p.level) - start) / h for p in others)]
        if len(nodes) == 2:  # the authors take 1/2 for the one unknown
            half_b = (-h if self.linear else math.expm1(-h)) / (2 * nodes[1])
            counts = [-math.expm1(-h) + half_b, -half_b]
        else:
            counts = exponential_weights(tuple(nodes), h)
        first, *rest = (count * p.x0 for count, p in zip(counts, (here, *others), strict=True))
        return base + float(there.alpha) * sum(rest, first)


@dataclass(frozen=True)
class UniPC(OnGrid):
    """UniPC, predictor-corrector in log-SNR of order 1 to 4, one evaluation a step (Zhao et al. 2023)."""

    order: int = 3
    """Of the predictor, 1 to 4; with the corrector it converges one order faster."""
    variant: Literal["bh1", "bh2"] = "bh2"
    """B(h) where it does not cancel."""

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 4 or self.variant not in ("bh1", "bh2"):
            raise ValueError(f"order lies between 1 and 4, variant is bh1 or bh2, not {self.order} and {self.variant}")

    @property
    def draws(self) -> bool:
        return False

    @property
    def convergence(self) -> int:
        return self.order + 1

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        step = UniPCStep(process, denoise, linear=self.variant == "bh1")
        times = torch.unique_consecutive(times)  # a published grid may repeat a level
        ahead = orders(self.order, times)
        plan: list[Move] = [
            (replace(step, order=order, corrector=before), t, s)
            for order, before, (t, s) in zip(ahead, [1, *ahead], pairwise(times), strict=False)
        ]
        return denoise_to_zero(plan, process, denoise)
