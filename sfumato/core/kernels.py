"""The way back: each kernel maps (x_t, t, s) to a distribution of x_s, for any two levels t and s.

Ancestral steps with three variances (Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021, eq. 15) and the DDIM family
(Song et al. 2020, eq. 12 and 16), which also runs towards noise when s > t.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import like

Std = Callable[[GaussianDiffusion, Prediction, Tensor, Tensor], Tensor]
"""(process, prediction, t, s) -> standard deviation of p(x_s | x_t), broadcasting against x."""


def small(process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor) -> Tensor:
    """The posterior's: beta tilde, right for data that are a single point (Ho et al. 2020, section 3.2)."""
    return like(process.posterior_coefficients(t, s)[2], prediction.x)


def large(process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor) -> Tensor:
    """The forward step's: beta, right for data that are standard normal. 0 into clean data, where no noise belongs."""
    sigma_s = process.schedule.alpha_sigma(s)[1]
    return like(torch.where(sigma_s > 0, process.between(s, t).sigma, 0.0), prediction.x)


def learned(process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor) -> Tensor:
    """exp of half the variance head, which is a log variance (Ho et al. 2020, section 4.2). 0 into clean data."""
    inside = like((process.schedule.alpha_sigma(s)[1] > 0).double(), prediction.x)
    return inside * (_head(prediction) / 2).exp()


def learned_range(process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor) -> Tensor:
    """Between small and large, in the log, where the head says: -1 is small, 1 is large (Nichol & Dhariwal, eq. 15).

    Small and large are those of the step taken, so strided chains stay exact. 0 into clean data.
    """
    low, high = small(process, prediction, t, s), like(process.between(s, t).sigma, prediction.x)
    part = (_head(prediction) + 1) / 2
    log_std = part * high.log() + (1 - part) * low.clamp(min=1e-38).log()
    return torch.where(low > 0, log_std.exp(), 0.0)


def _head(prediction: Prediction) -> Tensor:
    if prediction.variance is None:
        raise ValueError("a learned variance needs a network with a variance head; use `small` or `large`")
    return prediction.variance


@dataclass(frozen=True)
class Ancestral:
    """The posterior q(x_s | x_t, x_0) at the predicted x_0, with a chosen spread (Ho et al. 2020, algorithm 2)."""

    process: GaussianDiffusion
    denoise: Denoise
    std: Std = small
    order: ClassVar[int] = 1

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        prediction = self.denoise(x, t)
        mean = self.process.posterior(x, prediction.x0, t, s).mean
        return Gaussian(mean, self.std(self.process, prediction, t, s))


@dataclass(frozen=True)
class DDIM:
    """Keep the predicted noise instead of drawing it anew (Song et al. 2020, eq. 12 and 16).

    eta = 0 is deterministic and, for s > t, encodes; eta = 1 is the ancestral step with the small variance.
    """

    process: GaussianDiffusion
    denoise: Denoise
    eta: float = 0.0
    order: ClassVar[int] = 1

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        prediction = self.denoise(x, t)
        alpha_s, sigma_s = self.process.schedule.alpha_sigma(s)
        std = self.eta * self.process.posterior_coefficients(t, s)[2] if self.eta else torch.zeros_like(sigma_s)
        of_eps = (sigma_s**2 - std**2).clamp(min=0).sqrt()
        mean = like(alpha_s, x) * prediction.x0 + like(of_eps, x) * prediction.eps
        return Gaussian(mean, like(std, x))


@dataclass(frozen=True)
class Clean:
    """Straight to the predicted x_0, whatever s is: the last move of a chain that stops before clean data."""

    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        return Gaussian(self.denoise(x, t).x0, torch.zeros((), dtype=torch.float64))
