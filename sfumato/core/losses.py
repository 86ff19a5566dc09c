"""How wrong a prediction is: one squared error, and the weights that turn it into every paper's loss.

A weight is stated once, as a function of the level, for the error in eps; errors in x0 and v are the same error times
sigma^2 / alpha^2 and 1 / alpha^2 (for alpha^2 + sigma^2 = 1), so every parameterisation derives from that.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.core.denoisers import Prediction
from sfumato.core.schedules import Level

Weight = Callable[[Level], Tensor]
"""A weight for ||eps - eps_hat||^2, as a function of the level."""


def per_image(x: Tensor) -> Tensor:
    """The mean over everything but the batch: (B, ...) -> (B,)."""
    return x.flatten(1).mean(1)


def simple(prediction: Prediction, eps: Tensor) -> Tensor:
    """L_simple: the squared error in eps, a mean over pixels, (B,) (Ho et al. 2020, eq. 14)."""
    return per_image((prediction.eps - eps) ** 2)


def weighted(prediction: Prediction, x0: Tensor, eps: Tensor, weight: Weight) -> Tensor:
    """weight(level) times the squared error in eps, a mean over pixels, (B,).

    The error is measured in v, where it is well scaled at both ends of the schedule:
    eps - eps_hat = (v - v_hat) alpha / (alpha^2 + sigma^2).
    """
    level = prediction.level
    scale = weight(level) * (level.alpha / (level.alpha**2 + level.sigma**2)) ** 2
    return per_image(scale * (prediction.v - level.v(x0, eps)) ** 2)


def eps_weight(level: Level) -> Tensor:
    """Weigh the error in eps evenly: L_simple."""
    return torch.ones_like(level.sigma)


def x0_weight(level: Level) -> Tensor:
    """Weigh the error in x0 evenly."""
    return (level.sigma / level.alpha) ** 2


def v_weight(level: Level) -> Tensor:
    """Weigh the error in v evenly (Salimans & Ho 2022: SNR + 1 in x0)."""
    return ((level.alpha**2 + level.sigma**2) / level.alpha) ** 2


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) in x0: no level counts more than gamma (Hang et al. 2023)."""

    def weight(level: Level) -> Tensor:
        snr = (level.alpha / level.sigma) ** 2
        return snr.clamp(max=gamma) / snr

    return weight
