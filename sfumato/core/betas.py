"""Noise levels of the papers as numbers: betas (T,) of variance-preserving chains, sigmas (T,) of exploding ones.

`schedules.from_betas` and `schedules.from_sigmas` make schedules of them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def linear_betas(T: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """betas (T,) evenly from start to end (Ho et al. 2020, section 4)."""
    return torch.linspace(start, end, T, dtype=torch.float64)


def scaled_linear_betas(T: int) -> Tensor:
    """Ho et al.'s betas scaled by 1000 / T, which keeps the last level as noisy as theirs (Nichol & Dhariwal 2021)."""
    if T < 20:
        raise ValueError(f"scaled linear betas need at least 20 levels, or some pass 1; not {T}")
    return linear_betas(T, 0.1 / T, 20 / T)


def quad_betas(T: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """betas (T,) whose square roots are evenly spaced (Ho et al. 2020, official code)."""
    return torch.linspace(start**0.5, end**0.5, T, dtype=torch.float64) ** 2


def const_betas(T: int, end: float = 0.02) -> Tensor:
    """T times the same beta."""
    return torch.full((T,), end, dtype=torch.float64)


def warmup_betas(T: int, start: float = 1e-4, end: float = 0.02, fraction: float = 0.1) -> Tensor:
    """betas (T,) that rise linearly over the first fraction of the levels, then stay at end."""
    betas = const_betas(T, end)
    rise = int(T * fraction)
    betas[:rise] = torch.linspace(start, end, rise, dtype=torch.float64)
    return betas


def jsd_betas(T: int) -> Tensor:
    """1/T, 1/(T-1), ..., 1: each level erases the same share of the signal (Sohl-Dickstein et al. 2015)."""
    return 1 / torch.linspace(T, 1, T, dtype=torch.float64)


def sigmoid_betas(T: int, start: float = 1e-4, end: float = 0.02) -> Tensor:
    """betas (T,) along a sigmoid over [-6, 6] (Song et al. 2020, DDIM, official code)."""
    return torch.sigmoid(torch.linspace(-6, 6, T, dtype=torch.float64)) * (end - start) + start


def cosine_betas(T: int, s: float = 0.008, cap: float = 0.999) -> Tensor:
    """betas (T,) of alpha_bar(t) = cos^2((t/T + s) / (1 + s) pi/2) (Nichol & Dhariwal 2021, eq. 17)."""
    t = torch.arange(T + 1, dtype=torch.float64) / T
    return betas_from_alpha_bar(torch.cos((t + s) / (1 + s) * math.pi / 2) ** 2, cap)


def sigmoid_signal_betas(T: int, start: float = -3.0, end: float = 3.0, tau: float = 1.0) -> Tensor:
    """betas (T,) of the sigmoid schedule: alpha_bar falls as a sigmoid from start / tau to end / tau.

    alpha_bar(t) = (S(end) - S(start + t / T (end - start))) / (S(end) - S(start)) with S(u) = sigmoid(u / tau) (Jabri
    et al. 2022, algorithm 5), capped as the cosine schedule is. A larger start, or a smaller tau, is less noise early.
    """
    if not (end > start and tau > 0):
        raise ValueError(
            f"a sigmoid schedule has a start below its end and tau above 0, not {start:g}, {end:g}, {tau:g}"
        )
    u = torch.linspace(start, end, T + 1, dtype=torch.float64) / tau
    falling = torch.sigmoid(u[-1]) - torch.sigmoid(u)
    return betas_from_alpha_bar(falling / falling[0])


def betas_from_alpha_bar(alpha_bar: Tensor, cap: float = 0.999) -> Tensor:
    """betas (T,) of any falling alpha_bar (T + 1,), capped so that no level loses all its signal."""
    return (1 - alpha_bar[1:] / alpha_bar[:-1]).clamp(max=cap)


def geometric_sigmas(T: int, low: float, high: float) -> Tensor:
    """sigmas (T,) from low to high, each a fixed multiple of the last (Song & Ermon 2019, section 4.3)."""
    return torch.logspace(math.log10(low), math.log10(high), T, dtype=torch.float64)


def zero_terminal_snr(betas: Tensor) -> Tensor:
    """The betas (T,) that leave no signal at level T and level 1 as it is, alpha shifted and stretched between them.

    Lin et al. 2024, algorithm 1. The last beta is 1, so that level says nothing of x0 to a network that predicts eps.
    """
    alpha = torch.cumprod(1 - betas.double(), 0).sqrt()
    alpha_bar = ((alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])) ** 2
    return torch.cat([betas[:1].double(), 1 - alpha_bar[1:] / alpha_bar[:-1]])


def shifted(betas: Tensor, clean: float, noisy: float) -> Tensor:
    """The betas (T,) whose sigma / alpha is so many times as large at every level: a shift of log-SNR, for resolution.

    From `clean` at the least noise to `noisy` at the last level, geometrically between (Hoogeboom et al. 2023, simple
    diffusion, section 3.1). An image of twice the side needs a shift of 2 to be as noisy once it is made smaller.

    Raises: ValueError where noise would not grow from level to level.
    """
    alpha_bar = torch.cumprod(1 - betas.double(), 0)
    t = torch.arange(1, len(betas) + 1, dtype=torch.float64) / len(betas)
    factor = shift_at(t, clean, noisy) ** 2
    moved = alpha_bar / (alpha_bar + factor * (1 - alpha_bar))
    before = torch.cat([torch.ones_like(moved[:1]), moved[:-1]])
    if not bool((moved < before).all()):
        raise ValueError(f"a shift from {clean:g} to {noisy:g} would make some levels less noisy than those below them")
    return 1 - moved / before


def shift_at(t: Tensor, clean: float, noisy: float) -> Tensor:
    """The factor of sigma / alpha at t from 0 (clean data) to 1, like t: log-SNR is interpolated between two shifts."""
    return torch.exp(math.log(clean) + t * math.log(noisy / clean))
