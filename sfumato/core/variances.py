"""The variance of a reverse step p(x_s | x_t): fixed small, fixed large, learned, or learned between the two.

Ho et al. 2020, section 3.2; Nichol & Dhariwal 2021, eq. 15. The mean is the posterior's at the predicted x_0.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from sfumato.core.denoisers import Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import like


class ReverseVariance(Protocol):
    """The standard deviation of p(x_s | x_t), broadcasting against x. Into clean data, where no noise belongs, it is 0.

    The variational bound needs a decoder there, and a decoder needs a width. In the official codes the first level has
    the small variance of the second; so where `above` is given, the level before t in the chain, the result is
    above 0 throughout.
    """

    def __call__(
        self, process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None, /
    ) -> Tensor: ...


def fixed_small(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """The posterior's: beta tilde, right for data that are a single point (Ho et al. 2020, section 3.2)."""
    if above is not None:
        clean = process.schedule.alpha_sigma(s)[1] == 0
        t, s = torch.where(clean, above, t), torch.where(clean, t, s)
    return like(process.posterior_coefficients(t, s)[2], prediction.x)


def fixed_large(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """The forward step's: beta, right for data that are standard normal (Ho et al. 2020, section 3.2)."""
    inside = like((process.schedule.alpha_sigma(s)[1] > 0).double(), prediction.x)
    beta = like(process.between(s, t).sigma, prediction.x)
    return inside * beta + (1 - inside) * fixed_small(process, prediction, t, s, above)


def learned(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """exp of half the variance head, which is a log variance (Ho et al. 2020, section 4.2)."""
    return (fixed_small(process, prediction, t, s, above) > 0) * (_head(prediction) / 2).exp()


def learned_range(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """Between small and large, in the log, where the head says: -1 is small, 1 is large (Nichol & Dhariwal, eq. 15).

    Small and large are those of the step taken, so strided chains stay exact.
    """
    low, high = fixed_small(process, prediction, t, s, above), like(process.between(s, t).sigma, prediction.x)
    part = (_head(prediction) + 1) / 2
    return (low > 0) * (part * high.log() + (1 - part) * low.clamp(min=1e-38).log()).exp()


def _head(prediction: Prediction) -> Tensor:
    if prediction.variance is None:
        raise ValueError("a learned variance needs a network with a variance head; use fixed_small or fixed_large")
    return prediction.variance


def reverse(
    process: GaussianDiffusion,
    variance: ReverseVariance,
    prediction: Prediction,
    t: Tensor,
    s: Tensor,
    above: Tensor | None = None,
) -> Gaussian:
    """p(x_s | x_t): the posterior q(x_s | x_t, x_0) at the predicted x_0, with a chosen variance."""
    mean = process.posterior(prediction.x, prediction.x0, t, s).mean
    return Gaussian(mean, variance(process, prediction, t, s, above))
