"""How wrong a prediction is: one squared error, and the weights that turn it into every paper's loss.

A weight is stated once, as a function of the level, for the error in eps; errors in x0 and v are the same error times
sigma^2 / alpha^2 and 1 / alpha^2 (for alpha^2 + sigma^2 = 1), so every parameterisation derives from that.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.core.denoisers import Prediction
from sfumato.core.schedules import Level

Weight = Callable[[Level], Tensor]
"""A weight for ||eps - eps_hat||^2, as a function of the level."""


LEAST = 1e-12
"""The least alpha of a weight; its square is still a float32."""


def per_image(x: Tensor) -> Tensor:
    """The mean over everything but the batch: (B, ...) -> (B,)."""
    return x.flatten(1).mean(1)


def simple(prediction: Prediction, eps: Tensor) -> Tensor:
    """L_simple: the squared error in eps, a mean over pixels, (B,) (Ho et al. 2020, eq. 14)."""
    return per_image((prediction.eps - eps) ** 2)


def weighted(prediction: Prediction, x0: Tensor, eps: Tensor, weight: Weight) -> Tensor:
    """weight(level) times the squared error in eps, a mean over pixels, (B,).

    The error is measured in v, where it is well scaled at both ends of the schedule:
    eps - eps_hat = (v - v_hat) alpha / (alpha^2 + sigma^2). So it is finite without signal, too, where the weights of
    x0, v and u are infinite: there the error in eps is 0.
    """
    level = prediction.level
    some = Level(level.alpha.clamp(min=LEAST), level.sigma)
    scale = weight(some) * (some.alpha / (some.alpha**2 + some.sigma**2)) ** 2
    return per_image(scale * (prediction.v - level.v(x0, eps)) ** 2)


def velocity_of_x0(prediction: Prediction, x0: Tensor, floor: float = 0.05) -> Tensor:
    """The squared error in the velocity u of the straight path by a network that returns x0, (B,) (Li & He 2025).

    u - u_hat = (x0_hat - x0) (alpha + sigma) / sigma, where the path's time sigma / (alpha + sigma) is held above
    `floor`: finite, and without a division by zero, down to clean data.
    """
    level = prediction.level
    time = (level.sigma / (level.alpha + level.sigma)).clamp(min=floor)
    return per_image(((prediction.x0 - x0) / time) ** 2)


def noise_to_signal(level: Level) -> Tensor:
    """1 / SNR = sigma^2 / alpha^2."""
    return (level.sigma / level.alpha) ** 2


def eps_weight(level: Level) -> Tensor:
    """Weigh the error in eps evenly: L_simple."""
    return torch.ones_like(level.sigma)


def x0_weight(level: Level) -> Tensor:
    """Weigh the error in x0 evenly."""
    return noise_to_signal(level)


def v_weight(level: Level) -> Tensor:
    """Weigh the error in v evenly (Salimans & Ho 2022: SNR + 1 in x0)."""
    return ((level.alpha**2 + level.sigma**2) / level.alpha) ** 2


def min_snr(gamma: float = 5.0) -> Weight:
    """min(SNR, gamma) in x0: no level counts more than gamma (Hang et al. 2023)."""

    def weight(level: Level) -> Tensor:
        return (gamma * noise_to_signal(level)).clamp(max=1)

    return weight


def soft_min_snr(gamma: float = 5.0) -> Weight:
    """SNR gamma / (SNR + gamma) in x0, min-SNR without its corner (Crowson et al. 2024)."""

    def weight(level: Level) -> Tensor:
        bounded = gamma * noise_to_signal(level)
        return bounded / (1 + bounded)

    return weight


def p2(gamma: float = 1.0, k: float = 1.0) -> Weight:
    """1 / (k + SNR)^gamma in eps: less weight near clean data (Choi et al. 2022, eq. 8)."""

    def weight(level: Level) -> Tensor:
        noise = noise_to_signal(level)
        return (noise / (1 + k * noise)) ** gamma

    return weight


def sigmoid(bias: float = 2.0) -> Weight:
    """sigmoid(bias - log SNR) in eps (Kingma & Gao 2023)."""

    def weight(level: Level) -> Tensor:
        noise = noise_to_signal(level)
        return noise / (noise + math.exp(-bias))

    return weight


def edm_weight(sigma_data: float = 0.5) -> Weight:
    """SNR + 1 / sigma_data^2 in x0, which weighs the error in EDM's F evenly (Karras et al. 2022, table 1)."""

    def weight(level: Level) -> Tensor:
        return 1 + noise_to_signal(level) / sigma_data**2

    return weight


def flow_weight(level: Level) -> Tensor:
    """Weigh the error in u = eps - x0 evenly: flow matching (Lipman et al. 2023, eq. 23)."""
    return ((level.alpha + level.sigma) / level.alpha) ** 2


WEIGHTS: dict[str, Weight] = {
    "eps": eps_weight,
    "x0": x0_weight,
    "v": v_weight,
    "min-snr": min_snr(),
    "soft-min-snr": soft_min_snr(),
    "p2": p2(),
    "sigmoid": sigmoid(),
    "edm": edm_weight(),
    "flow": flow_weight,
}
"""Every weight by the word that a recipe knows it by, with its paper's numbers."""
