"""An adaptive Runge-Kutta sampler: steps as long as the error allows, each image's its own (Bogacki & Shampine 1989).

The probability flow of x / alpha in kappa = sigma / alpha, d(x / alpha) = eps dkappa, by an embedded pair of order 3
and 2. An image's steps depend on no other, so its picture does not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, DenoiseToZero, Move, Past, Sampler, Step
from sfumato.core.schedules import Schedule, Steps, like
from sfumato.samplers.grids import ends


@dataclass(frozen=True)
class AdaptiveStep:
    """From t to s along the probability flow with error control, in as many evaluations as that takes.

    Attributes:
        rtol, atol: of the error of a step, a root mean square over an image.
        most: so many attempts at most; then RuntimeError.
    """

    process: GaussianDiffusion
    denoise: Denoise
    rtol: float = 0.02
    atol: float = 0.01
    most: int = 1000

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        schedule = self.process.schedule
        found: list[Prediction] = []
        kappa, end = ((-schedule.log_snr(time) / 2).exp().expand(len(x)) for time in (t, s))

        def slope(kappa: Tensor, y: Tensor) -> Tensor:
            time = real_time(schedule)(-kappa.log())
            found[:] = [self.denoise(self.process.level(time, y).alpha * y, time)]
            return found[0].eps

        y = x / like(schedule.alpha_sigma(t)[0], x)
        h = -kappa / 10
        k1 = slope(kappa, y)
        for _ in range(self.most):
            if bool((kappa <= (1 + 1e-9) * end).all()):
                return Step(Gaussian(like(schedule.alpha_sigma(s)[0], x) * y, NO_NOISE), found[0])
            h = torch.maximum(h, (end - kappa).clamp(max=0))  # an image that has arrived stays
            step = like(h, y)
            k2 = slope(kappa + h / 2, y + step / 2 * k1)
            k3 = slope(kappa + 3 * h / 4, y + 3 * step / 4 * k2)
            onwards = y + step * (2 * k1 + 3 * k2 + 4 * k3) / 9
            k4 = slope(kappa + h, onwards)
            error = step * (-5 * k1 / 72 + k2 / 12 + k3 / 9 - k4 / 8)
            size = self.atol + self.rtol * torch.maximum(y.abs(), onwards.abs())
            wrong = (error / size).square().flatten(1).mean(1).sqrt().double().cpu()
            good = wrong <= 1
            y, k1 = (torch.where(like(good, y).bool(), a, b) for a, b in ((onwards, y), (k4, k1)))
            kappa = torch.where(good, kappa + h, kappa)
            h = h * (0.9 * wrong.clamp(min=1e-6) ** (-1 / 3)).clamp(0.2, 5)
        raise RuntimeError(f"the error stays above its bound after {self.most} steps; raise rtol or atol")


def real_time(schedule: Schedule) -> Callable[[Tensor], Tensor]:
    """lambda -> the real time or level there. ValueError for levels between which there is nothing."""
    continuous = schedule.continuous()
    scale = 1.0 if continuous is schedule else schedule.end
    return lambda half_log_snr: scale * continuous.at(half_log_snr)


@dataclass(frozen=True)
class Adaptive(Sampler):
    """An adaptive Runge-Kutta method of order 3 with error control; it takes as many steps as each image needs."""

    rtol: float = 0.02
    """Relative error of a step."""
    atol: float = 0.01
    """Absolute error of a step, in the units of x / alpha."""
    order = 0
    evaluations = 3
    own_times = True

    def __post_init__(self) -> None:
        if not self.rtol > 0 or not self.atol > 0:
            raise ValueError(f"rtol and atol are above 0, not {self.rtol:g} and {self.atol:g}")

    def times(self, schedule: Schedule, steps: Steps = None) -> Tensor:
        """From the noisiest time worth a step to the least noisy one, and clean data; steps do not count."""
        found = real_time(schedule)(torch.tensor(ends(schedule), dtype=torch.float64))
        return torch.cat([found, torch.zeros(1, dtype=torch.float64)])

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        real_time(process.schedule)
        clean: Any = times[-1] == 0
        first, last = times[0].double(), times[-2 if clean and len(times) > 2 else -1].double()
        plan: list[Move] = [(AdaptiveStep(process, denoise, self.rtol, self.atol), first, last)]
        return [*plan, (DenoiseToZero(denoise), last, times[-1])] if clean else plan
