"""Noise schedules in continuous time: VP, sub-VP and VE (Song et al. 2021), cosine, and the line of flow matching."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sfumato.core.schedules import Continuous


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


class LinearFlow(Continuous):
    """The straight path of flow matching and rectified flow: alpha = 1 - t, sigma = t (Lipman et al. 2023)."""

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return 1 - t, t**2
