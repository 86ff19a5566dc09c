"""What q and p are made of: a Gaussian with its samples and divergence, and the decoder of images of 8 or more bits.

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


def discretised_log_prob(
    gaussian: Gaussian, x0: Tensor, cdf: Callable[[Tensor], Tensor] = normal_cdf_tanh, levels: int = 256
) -> Tensor:
    """Discretised Gaussian log likelihood, in nats per pixel, of images x0 in [-1, 1] with so many grey levels.

    The Gaussian is cut into `levels` bins, which reach 1 / (levels - 1) to either side; the first and the last reach to
    infinity (Ho et al. 2020, eq. 13).

    Args:
        cdf: of 256 levels. Deeper ones take the exact CDF in float64: their bins are narrower than the error of the
            approximation, and masses would be differences of numbers that are equal in float32.
        levels: 256, 65536, ...; 0 for real numbers, whose log density it is.
    """
    if not levels:
        return gaussian.log_prob(x0)
    half, end = 1 / (levels - 1), 1 - 0.255 / (levels - 1)
    if levels > 256:
        return _deep_log_prob(gaussian, x0, half, end)
    above = cdf((x0 - gaussian.mean + half) / gaussian.std)
    below = cdf((x0 - gaussian.mean - half) / gaussian.std)
    mass = torch.where(x0 < -end, above, torch.where(x0 > end, 1 - below, above - below))
    return mass.clamp(min=1e-12).log()


def _deep_log_prob(gaussian: Gaussian, x0: Tensor, half: float, end: float) -> Tensor:
    """The same for narrow bins; inner masses are differences in the lower tail, where the CDF is exact."""
    kind = torch.float32 if x0.device.type == "mps" else torch.float64
    off, std = x0.to(kind) - gaussian.mean.to(kind), gaussian.std.to(kind)

    def cdf(x: Tensor) -> Tensor:
        return torch.erfc(-x / (std * math.sqrt(2))) / 2  # exact in the lower tail, where torch.special.ndtr is 0

    inner = cdf(half - off.abs()) - cdf(-half - off.abs())
    mass = torch.where(x0 < -end, cdf(off + half), torch.where(x0 > end, cdf(half - off), inner))
    return mass.clamp(min=torch.finfo(kind).tiny).log().to(x0.dtype)
