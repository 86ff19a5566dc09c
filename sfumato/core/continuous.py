"""Noise schedules in continuous time: VP, sub-VP and VE (Song et al. 2021), cosine, EDM's, and flow matching's line.

EDM's is sigma itself in a power of time (Karras et al. 2022, eq. 5); the line is that of Lipman et al. 2023, and its
shift that of Esser et al. 2024, eq. 23.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sfumato.core.betas import shift_at
from sfumato.core.schedules import Continuous, Steps
from sfumato.core.steps import possible


class VP(Continuous):
    """Variance preserving: beta(t) = low + t (high - low) (Song et al. 2021, eq. 32 and 33)."""

    def __init__(self, low: float = 0.1, high: float = 20.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def beta_integral(self, t: Tensor) -> Tensor:
        """The integral of beta from 0 to t."""
        return self.low * t + (self.high - self.low) * t**2 / 2

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        B = self.beta_integral(t)
        return torch.exp(-B / 2), -torch.expm1(-B)


class SubVP(VP):
    """Sub-VP: VP's alpha with sigma = 1 - alpha^2, never above VP's (Song et al. 2021, eq. 34 and 35)."""

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, variance = super().alpha_variance(t)
        return alpha, variance**2


class VE(Continuous):
    """Variance exploding: sigma(t) = low (high / low)^t (Song et al. 2021, eq. 30 and 31). sigma(0) is low, not 0."""

    def __init__(self, low: float = 0.01, high: float = 50.0) -> None:
        super().__init__()
        self.low, self.high = low, high

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.low**2 * torch.exp(2 * math.log(self.high / self.low) * t)


class Cosine(Continuous):
    """Improved DDPM's cosine in continuous time, with alpha(0) exactly 1; alpha(1) is 0, where f is infinite."""

    def __init__(self, s: float = 0.008) -> None:
        super().__init__()
        self.s = s

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        start = self.s / (1 + self.s) * math.pi / 2
        alpha = torch.cos((t + self.s) / (1 + self.s) * math.pi / 2) / math.cos(start)
        return alpha, 1 - alpha**2


class PowerVE(Continuous):
    """EDM's noise: alpha is 1, and sigma(t) = high t^rho (Karras et al. 2022, eq. 5).

    Time is a root of sigma, so even times are the paper's grid from `high` to `low`, and then clean data, where sigma
    is 0.

    Args:
        low, high: the least and the largest sigma of a sampler.
        rho: the power; 1 makes time sigma / high itself.
    """

    def __init__(self, low: float = 0.002, high: float = 80.0, rho: float = 7.0) -> None:
        super().__init__()
        self.low, self.high, self.rho = low, high, rho
        self.first = self.last = (low / high) ** (1 / rho)

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return torch.ones_like(t), self.high**2 * t ** (2 * self.rho)

    def times(self, steps: Steps = None) -> Tensor:
        """As every schedule's; the 1000 levels of a grid of levels lie between the two ends of sigma."""
        if not callable(steps):
            return super().times(steps)
        levels = steps(1000)
        if levels.is_floating_point():
            return levels
        between = self.last + (levels.double() - 1) / 999 * (self.end - self.last)
        return torch.where(levels > 0, between, 0.0)

    def at(self, half_log_snr: Tensor) -> Tensor:
        """In closed form, no later than the end."""
        return torch.exp((-half_log_snr.double() - math.log(self.high)) / self.rho).clamp(max=self.end)


class LinearFlow(Continuous):
    """The straight path of flow matching and rectified flow: alpha = 1 - t, sigma = t (Lipman et al. 2023).

    Args:
        shift: s, which multiplies sigma / alpha at every time, for large images (Esser et al. 2024, eq. 23):
            sigma = s t / (1 + (s - 1) t).
    """

    def __init__(self, shift: float = 1.0) -> None:
        super().__init__()
        self.shift = shift

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        below = 1 + (self.shift - 1) * t
        return (1 - t) / below, (self.shift * t / below) ** 2

    def times(self, steps: Steps = None) -> Tensor:
        """Evenly from the end to clean data itself: on a straight line the last move is as long as the others."""
        if callable(steps):
            return super().times(steps)
        n = 1000 if steps is None else possible(steps)
        return torch.linspace(self.end, 0, n + 1, dtype=torch.float64)

    def at(self, half_log_snr: Tensor) -> Tensor:
        """In closed form."""
        return torch.sigmoid(-half_log_snr.double() - math.log(self.shift))


class Shifted(Continuous):
    """Another variance-preserving schedule with log-SNR shifted, for resolution (Hoogeboom et al. 2023, section 3.1).

    Args:
        schedule: variance preserving.
        clean, noisy: what sigma / alpha is multiplied with at time 0 and at the end, geometrically between.
    """

    def __init__(self, schedule: Continuous, clean: float = 1.0, noisy: float = 1.0) -> None:
        super().__init__()
        self.schedule, self.clean, self.noisy = schedule, clean, noisy
        self.first, self.last, self.levels = schedule.first, schedule.last, schedule.levels

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, variance = self.schedule.alpha_variance(t)
        more = shift_at(t / self.end, self.clean, self.noisy) ** 2 * variance
        norm = alpha**2 + more
        return alpha / norm.sqrt(), more / norm
