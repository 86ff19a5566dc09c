"""What q and p are made of: a Gaussian with its samples and divergence, and the decoder of 8-bit images.

Randomness enters through the `noise` argument alone, so that recorded noise, per-image seeds and antithetic pairs need
no other code.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

Noise = Callable[[Tensor], Tensor]
"""Standard normal noise like the given tensor, for example `torch.randn_like`."""


class Distribution(Protocol):
    """A distribution over batches of images."""

    @property
    def mean(self) -> Tensor: ...

    def sample(self, noise: Noise = torch.randn_like) -> Tensor: ...

    def kl(self, other: Any, /) -> Tensor: ...


@dataclass(frozen=True)
class Gaussian:
    """N(mean, std^2), independent in every pixel. mean (B, ...); std broadcasts against it."""

    mean: Tensor
    std: Tensor

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        """mean + std * noise. Where std is the host number 0, no noise is drawn; a graph being traced cannot look."""
        host = self.std.ndim == 0 and self.std.is_cpu and not torch.compiler.is_compiling()
        if host and self.std.item() == 0:
            return self.mean
        return self.mean + self.std * noise(self.mean)

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other) in nats, per pixel, of the broadcast shape."""
        log_ratio = self.std.log() - other.std.log()
        difference = (self.mean - other.mean) / other.std
        return 0.5 * (torch.expm1(2 * log_ratio) - 2 * log_ratio + difference**2)

    def log_prob(self, x: Tensor) -> Tensor:
        """log density in nats, per pixel."""
        return -0.5 * ((x - self.mean) / self.std) ** 2 - self.std.log() - 0.5 * math.log(2 * math.pi)

    def entropy(self) -> Tensor:
        """nats, per pixel, of the spread's shape."""
        return self.std.log() + 0.5 * math.log(2 * math.pi * math.e)


@dataclass(frozen=True)
class Uniform:
    """The uniform distribution between low and high in every pixel.

    Langevin dynamics starts from it (Song & Ermon 2019, section 4.3). It is drawn from normal noise, so that randomness
    enters everywhere in the same way.
    """

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0
    device: torch.device | str = "cpu"

    @property
    def mean(self) -> Tensor:
        return torch.full(self.shape, (self.low + self.high) / 2, device=self.device)

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        return self.low + (self.high - self.low) * torch.special.ndtr(noise(self.mean))

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other) in nats, per pixel."""
        width = self.high - self.low
        variance = width**2 / 12 + (self.mean - other.mean) ** 2
        return variance / (2 * other.std**2) + (other.std * (2 * torch.pi) ** 0.5 / width).log()


def normal_cdf_tanh(x: Tensor) -> Tensor:
    """The tanh approximation of the standard normal CDF that the official image decoders use."""
    return 0.5 * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def discretised_log_prob(gaussian: Gaussian, x0: Tensor, cdf: Callable[[Tensor], Tensor] = normal_cdf_tanh) -> Tensor:
    """log probability, in nats per pixel, of 8-bit images x0 in [-1, 1] under a Gaussian cut into 256 bins.

    Each bin reaches 1/255 to either side; the first and the last reach to infinity (Ho et al. 2020, eq. 13).
    """
    above = cdf((x0 - gaussian.mean + 1 / 255) / gaussian.std)
    below = cdf((x0 - gaussian.mean - 1 / 255) / gaussian.std)
    mass = torch.where(x0 < -0.999, above, torch.where(x0 > 0.999, 1 - below, above - below))
    return mass.clamp(min=1e-12).log()
