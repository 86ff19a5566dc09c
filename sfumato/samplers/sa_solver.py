"""SA-Solver: a stochastic Adams predictor and corrector of the reverse SDE in log-SNR (Xue et al. 2023, algorithm 1).

tau scales the noise of the SDE, from the probability flow (0) to the reverse SDE (1) and beyond. Over a step of
constant tau the exact integral of x0 is that of the flow over a step (1 + tau^2) times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Move, Past, Step, denoise_to_zero
from sfumato.core.schedules import Level
from sfumato.samplers.dpm_solver import orders
from sfumato.samplers.grids import OnGrid
from sfumato.samplers.multistep import exponential_weights, half_log_snr, noise_to_signal, usable


@dataclass(frozen=True)
class SAStep:
    """The corrector at x_t, then the predictor to x_s with new noise (Xue et al. 2023, section 4).

    The corrector has the noise of the step that led here, so it moves x_t by the difference of two integrals of x0.

    Attributes:
        order, tau: of the step ahead.
        led, corrector, past_tau: order, corrector and tau of the step that led here.
    """

    process: GaussianDiffusion
    denoise: Denoise
    order: int = 3
    tau: float = 1.0
    led: int = 3
    corrector: int = 3
    past_tau: float = 1.0

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        here, there = self.denoise(x, t), self.process.level(s, x)
        sigma = float(there.sigma)
        if sigma == 0:
            return Step(Gaussian(here.x0, NO_NOISE), here)
        before = usable(past, max(self.order - 1, self.led, self.corrector))
        if before and self.corrector:
            corrected = integral([*before[: self.corrector], here], here.level, self.past_tau)
            x = x + float(here.level.alpha) * (corrected - integral(before[: self.led], here.level, self.past_tau))
        decay = self.tau**2 * (half_log_snr(there) - half_log_snr(here.level)) if self.tau else 0.0
        kept = sigma / float(here.level.sigma) * math.exp(-decay)
        mean = kept * x + float(there.alpha) * integral([here, *before[: self.order - 1]], there, self.tau)
        return Step(Gaussian(mean, there.sigma * math.sqrt(-math.expm1(-2 * decay)) if decay else NO_NOISE), here)


def integral(known: list[Prediction], there: Level, tau: float) -> Tensor:
    """The integral of x0 against the exponential from the level of the first prediction, the polynomial through all."""
    start = half_log_snr(known[0].level)
    h = half_log_snr(there) - start
    if not math.isfinite(h):
        return known[0].x0
    nodes = (0.0, *((half_log_snr(p.level) - start) / h for p in known[1:]))
    counts = exponential_weights(nodes, (1 + tau**2) * h)
    first, *others = (count * p.x0 for count, p in zip(counts, known, strict=True))
    return sum(others, first)


@dataclass(frozen=True)
class SASolver(OnGrid):
    """SA-Solver, stochastic Adams predictor-corrector of the reverse SDE, one evaluation a step (Xue et al. 2023)."""

    order: int = 3
    """Of the predictor, 1 to 3: how many predictions it has."""
    corrector: int = 3
    """Of the corrector, 0 (none) to 3: how many predictions it has besides the newest."""
    tau: float = 1.0
    """0 is the probability flow, 1 the reverse SDE, more has more noise."""
    s_min: float = 0.0
    s_max: float = math.inf
    """tau is 0 outside s_min to s_max, in sigma / alpha."""

    def __post_init__(self) -> None:
        if not 1 <= self.order <= 3 or not 0 <= self.corrector <= 3:
            raise ValueError(
                f"order lies between 1 and 3, corrector between 0 and 3, not {self.order} and {self.corrector}"
            )
        if self.tau < 0:
            raise ValueError(f"tau is not negative, not {self.tau:g}")
        if not self.tau and (self.s_min, self.s_max) != (0, math.inf):
            raise ValueError("s_min and s_max bound tau, which is 0: leave them out")

    @property
    def draws(self) -> bool:
        return self.tau > 0

    @property
    def convergence(self) -> int:
        """Of the flow one more than its name with the corrector; of the SDE 2, in the moments."""
        of_flow = min(self.order, self.corrector) + 1 if self.corrector else self.order
        return min(of_flow, 2) if self.tau else of_flow

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        times = torch.unique_consecutive(times)  # a published grid may repeat a level
        step, led, past_tau, plan = SAStep(process, denoise), 0, 0.0, list[Move]()
        for order, (t, s) in zip(orders(self.order, times), pairwise(times), strict=True):
            inside = self.s_min <= noise_to_signal(Level(*process.schedule.alpha_sigma(t))) <= self.s_max
            ahead, corrector = (self.tau if inside else 0.0), min(self.corrector, led)
            plan.append((replace(step, order=order, tau=ahead, led=led, corrector=corrector, past_tau=past_tau), t, s))
            led, past_tau = order, ahead
        return denoise_to_zero(plan, process, denoise)
