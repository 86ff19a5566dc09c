"""The way back: each kernel maps (x_t, t, s) to a distribution of x_s, for any two levels t and s.

Ancestral steps with three variances (Ho et al. 2020, algorithm 2; Nichol & Dhariwal 2021, eq. 15) and the DDIM family
(Song et al. 2020, eq. 12 and 16), which also runs towards noise when s > t.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import like

NOTHING = torch.zeros((), dtype=torch.float64)
"""The spread of a step that draws no noise: a host number, so that nobody waits for a device to learn it."""


class Std(Protocol):
    """The standard deviation of p(x_s | x_t), broadcasting against x. Into clean data, where no noise belongs, it is 0.

    The bound needs a decoder there, and a decoder needs a width. The official codes lend the first level the small
    spread of the second; so where `above` is given, the level before t in the chain, the result is above 0 throughout.
    """

    def __call__(
        self, process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None, /
    ) -> Tensor: ...


def small(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """The posterior's: beta tilde, right for data that are a single point (Ho et al. 2020, section 3.2)."""
    if above is not None:
        clean = process.schedule.alpha_sigma(s)[1] == 0
        t, s = torch.where(clean, above, t), torch.where(clean, t, s)
    return like(process.posterior_coefficients(t, s)[2], prediction.x)


def large(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """The forward step's: beta, right for data that are standard normal (Ho et al. 2020, section 3.2)."""
    inside = like((process.schedule.alpha_sigma(s)[1] > 0).double(), prediction.x)
    beta = like(process.between(s, t).sigma, prediction.x)
    return inside * beta + (1 - inside) * small(process, prediction, t, s, above)


def learned(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """exp of half the variance head, which is a log variance (Ho et al. 2020, section 4.2)."""
    return (small(process, prediction, t, s, above) > 0) * (_head(prediction) / 2).exp()


def learned_range(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """Between small and large, in the log, where the head says: -1 is small, 1 is large (Nichol & Dhariwal, eq. 15).

    Small and large are those of the step taken, so strided chains stay exact.
    """
    low, high = small(process, prediction, t, s, above), like(process.between(s, t).sigma, prediction.x)
    part = (_head(prediction) + 1) / 2
    return (low > 0) * (part * high.log() + (1 - part) * low.clamp(min=1e-38).log()).exp()


def _head(prediction: Prediction) -> Tensor:
    if prediction.variance is None:
        raise ValueError("a learned variance needs a network with a variance head; use `small` or `large`")
    return prediction.variance


def reverse(
    process: GaussianDiffusion, std: Std, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Gaussian:
    """p(x_s | x_t): the posterior q(x_s | x_t, x_0) at the predicted x_0, with a chosen spread (see `Std`)."""
    mean = process.posterior(prediction.x, prediction.x0, t, s).mean
    return Gaussian(mean, std(process, prediction, t, s, above))


@dataclass(frozen=True)
class Ancestral:
    """The step that the bound trains: `reverse` at what the denoiser believes (Ho et al. 2020, algorithm 2)."""

    process: GaussianDiffusion
    denoise: Denoise
    std: Std = small
    order: ClassVar[int] = 1

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        return reverse(self.process, self.std, self.denoise(x, t), t, s)


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
        std, of_eps = NOTHING, sigma_s
        if self.eta:
            std = self.eta * self.process.posterior_coefficients(t, s)[2]
            of_eps = (sigma_s**2 - std**2).clamp(min=0).sqrt()
        mean = like(alpha_s, x) * prediction.x0 + like(of_eps, x) * prediction.eps
        return Gaussian(mean, like(std, x))


@dataclass(frozen=True)
class Clean:
    """Straight to the predicted x_0, whatever s is: the last move of a chain that stops before clean data."""

    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        return Gaussian(self.denoise(x, t).x0, NOTHING)
