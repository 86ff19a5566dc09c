"""DPM-Solver++: fast solvers of the probability flow and the reverse SDE in log-SNR (Lu et al. 2022).

x0 is predicted and integrated exactly against the exponential; the predictions before (`past`) raise the order at one
evaluation a step. Orders 1 (which is DDIM), 2 (2M and 2S) and 3 (3M), and the SDE at orders 1 and 2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Move, Past, Step, denoise_to_zero
from sfumato.core.schedules import Level
from sfumato.samplers.grids import OnGrid
from sfumato.samplers.multistep import exponential_weights, half_log_snr, usable

FEW = 15
"""With fewer moves than this, the last ones are of lower order (Lu et al. 2022, appendix)."""

Combine = Callable[[Prediction, list[Prediction], float], Tensor]
"""(prediction at x_t, those before, h) -> the integral of x0 against the exponential over a step of h in lambda."""


def orders(order: int, times: Tensor) -> list[int]:
    """The order of each move: rising at the start and, where fewer than 15 lead to clean data, falling at the end."""
    n = len(times) - 1
    falls = n < FEW and bool(times[-1] == 0)
    return [min(order, i + 1, n - i if falls else order) for i in range(n)]


def midpoint(here: Prediction, past: list[Prediction], h: float) -> Tensor:
    """Of order 2, as published: D + (D - D') / (2 r), held over the step. Of order 1 without a prediction before."""
    x0 = here.x0
    if past:
        r = (half_log_snr(here.level) - half_log_snr(past[0].level)) / h
        x0 = x0 + (x0 - past[0].x0) / (2 * r)
    return -math.expm1(-h) * x0


def polynomial(here: Prediction, past: list[Prediction], h: float) -> Tensor:
    """Of order p with p - 1 predictions before: the polynomial through all is integrated exactly."""
    if len(past) < 2:
        return midpoint(here, past, h)
    start = half_log_snr(here.level)
    nodes = [0.0, *((half_log_snr(p.level) - start) / h for p in past)]
    counts = exponential_weights(tuple(nodes), h)
    first, *others = (count * p.x0 for count, p in zip(counts, (here, *past), strict=True))
    return sum(others, first)


def published_third(here: Prediction, past: list[Prediction], h: float) -> Tensor:
    """The third order as published and copied, which lacks a factor 2 in the curvature and so is of order 2."""
    if not past:
        return midpoint(here, past, h)
    phi1 = -math.expm1(-h)
    phi2 = 1 - phi1 / h
    r0 = (half_log_snr(here.level) - half_log_snr(past[0].level)) / h
    d0 = (here.x0 - past[0].x0) / r0
    if len(past) < 2:
        return phi1 * here.x0 + phi2 * d0
    r1 = (half_log_snr(past[0].level) - half_log_snr(past[1].level)) / h
    d1 = (past[0].x0 - past[1].x0) / r1
    phi3 = phi2 / h - 0.5
    slope, curvature = d0 + (d0 - d1) * r0 / (r0 + r1), (d0 - d1) / (r0 + r1)
    return phi1 * here.x0 + phi2 * slope - phi3 * curvature


@dataclass(frozen=True)
class DPMSolverPPStep:
    """A step of DPM-Solver++: x0 integrated over the step, with as many predictions before as the order needs.

    Attributes:
        order: at most so many predictions count, that at x_t included.
        combine: how they are integrated.
        eta: 0 solves the probability flow, 1 the reverse SDE.
    """

    process: GaussianDiffusion
    denoise: Denoise
    order: int = 2
    combine: Combine = midpoint
    eta: float = 0.0

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        here, there = self.denoise(x, t), self.process.level(s, x)
        return Step(self.to(x, here, there, usable(past, self.order - 1)), here)

    def to(self, x: Tensor, here: Prediction, there: Level, past: list[Prediction]) -> Gaussian:
        """p(x_s | x_t) at a prediction and those before."""
        sigma = float(there.sigma)
        if sigma == 0:  # no logarithm of clean data
            return Gaussian(here.x0, NO_NOISE)
        h = half_log_snr(there) - half_log_snr(here.level)
        kept = sigma / float(here.level.sigma) * (math.exp(-self.eta * h) if self.eta else 1)  # h may be infinite
        integral = self.combine(here, past if math.isfinite(h) else [], h)
        if self.eta:  # the exponential of the SDE in the place of the flow's
            integral = math.expm1(-(1 + self.eta) * h) / math.expm1(-h) * integral
        std = there.sigma * math.sqrt(-math.expm1(-2 * self.eta * h)) if self.eta else NO_NOISE
        return Gaussian(kept * x + float(there.alpha) * integral, std)


@dataclass(frozen=True)
class DPMSolverPP2M(OnGrid):
    """DPM-Solver++(2M), second order at one evaluation a step (Lu et al. 2022)."""

    order = 2

    @property
    def draws(self) -> bool:
        return False

    def longest(self, process: GaussianDiffusion, denoise: Denoise) -> DPMSolverPPStep:
        """The step of the most predictions; those at the start, and at the end of few, have fewer."""
        return DPMSolverPPStep(process, denoise)

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        step, times = self.longest(process, denoise), torch.unique_consecutive(times)  # a published grid may repeat
        of = {order: replace(step, order=order) for order in range(1, step.order + 1)}
        plan: list[Move] = [
            (of[order], t, s) for order, (t, s) in zip(orders(step.order, times), pairwise(times), strict=True)
        ]
        return denoise_to_zero(plan, process, denoise)


@dataclass(frozen=True)
class DPMSolverPP3M(DPMSolverPP2M):
    """DPM-Solver++(3M) of true third order at one evaluation a step (Lu et al. 2022, with the curvature mended)."""

    order = 3

    def longest(self, process: GaussianDiffusion, denoise: Denoise) -> DPMSolverPPStep:
        return DPMSolverPPStep(process, denoise, 3, polynomial)


@dataclass(frozen=True)
class DPMSolverPP3MPublished(DPMSolverPP2M):
    """DPM-Solver++(3M) as published, which is of second order and damps more in few steps (Lu et al. 2022)."""

    def longest(self, process: GaussianDiffusion, denoise: Denoise) -> DPMSolverPPStep:
        return DPMSolverPPStep(process, denoise, 3, published_third)


@dataclass(frozen=True)
class SDEDPMSolverPP2M(DPMSolverPP2M):
    """SDE-DPM-Solver++(2M), the reverse SDE at weak order 2, one evaluation a step; noise is drawn (Lu et al. 2022)."""

    eta: float = 1.0
    """0 is the probability flow, 1 the reverse SDE."""

    def __post_init__(self) -> None:
        if self.eta < 0:
            raise ValueError(f"eta is not negative, not {self.eta:g}")

    @property
    def draws(self) -> bool:
        return self.eta > 0

    def longest(self, process: GaussianDiffusion, denoise: Denoise) -> DPMSolverPPStep:
        return DPMSolverPPStep(process, denoise, eta=self.eta)


@dataclass(frozen=True)
class SingleStep:
    """DPM-Solver++(2S): a first step to a level between, whose prediction stands for the whole step (algorithm 1).

    Attributes:
        between: the level in the middle in lambda; None takes a step of first order.
    """

    process: GaussianDiffusion
    denoise: Denoise
    between: Tensor | None

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        first = DPMSolverPPStep(self.process, self.denoise, order=1)
        if self.between is None:
            return first(x, t, s)
        to, here = first(x, t, self.between)
        middle = self.denoise(to.mean, self.between)
        there = self.process.level(s, x)
        start, end = half_log_snr(here.level), half_log_snr(there)
        r = (half_log_snr(middle.level) - start) / (end - start)
        x0 = here.x0 + (middle.x0 - here.x0) / (2 * r)
        return Step(first.to(x, replace(here, x0=x0), there, []), here)


@dataclass(frozen=True)
class DPMSolverPP2S(OnGrid):
    """DPM-Solver++(2S), second order in single steps of two evaluations (Lu et al. 2022)."""

    order = 2
    evaluations = 2

    @property
    def draws(self) -> bool:
        return False

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        plan: list[Move] = [(SingleStep(process, denoise, _middle(process, t, s)), t, s) for t, s in pairwise(times)]
        return denoise_to_zero(plan, process, denoise)


def _middle(process: GaussianDiffusion, t: Tensor, s: Tensor) -> Tensor | None:
    """The time in the middle of t and s in lambda; None where there is none between, or no logarithm."""
    start, end = (float(process.schedule.log_snr(time)) / 2 for time in (t, s))
    if not math.isfinite(start) or not math.isfinite(end):
        return None
    middle = process.schedule.at(torch.tensor((start + end) / 2, dtype=torch.float64))
    return middle if s < middle < t else None
