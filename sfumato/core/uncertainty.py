"""Learned uncertainty: loss weights by noise level as homoscedastic uncertainty (Kendall, Gal & Cipolla 2018).

As in EDM2 (Karras et al. 2024, section 2.2 and appendix B): loss / exp(u) + u, where u is a linear map of Fourier
features of the level. It is least for exp(u) = the mean loss at the level, so that every level counts alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

MOST = 40.0
"""Log-SNRs beyond this, such as those of a level without signal, count as this."""


class Uncertainty(nn.Module):
    """The logarithm u of the expected loss by noise level, a linear map of Fourier features of ln(sigma / alpha) / 4.

    It is 0 everywhere at first, trains along with a network by `balanced`, and is not needed to sample.

    Args:
        features: how many; their frequencies and phases are fixed.
    """

    frequencies: Tensor
    phases: Tensor

    def __init__(self, features: int = 128) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.register_buffer("frequencies", 2 * math.pi * torch.randn(features, generator=generator))
        self.register_buffer("phases", 2 * math.pi * torch.rand(features, generator=generator))
        self.weight = nn.Parameter(torch.zeros(features))

    def forward(self, log_snr: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), (B,) -> u, (B,) float32."""
        level = -log_snr.clamp(-MOST, MOST).to(self.weight.device, torch.float32, non_blocking=True)[:, None] / 8
        features = math.sqrt(2) * torch.cos(self.frequencies * level + self.phases)
        return features @ self.weight / math.sqrt(len(self.weight))

    def balanced(self, losses: Tensor, log_snr: Tensor) -> Tensor:
        """loss / exp(u) + u of each image, (B,): its gradient is that of the losses, each divided by what is expected.

        Args:
            losses: (B,), positive.
            log_snr: (B,) of their levels.
        """
        u = self(log_snr)
        return losses / u.exp() + u
