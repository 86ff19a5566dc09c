"""Instance normalisation and its variants, the score networks' normalisations (Song & Ermon 2019, appendix A.1)."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class InstanceNorm(nn.Module):
    """Instance normalisation, whose gains and biases may depend on the noise level.

    Args:
        channels: of the input.
        levels: how many noise levels have their own gains and biases; None for the same at all.
        eps: added to the variances.
    """

    numbers: ClassVar[int] = 2
    """How many numbers each channel has: a gain, and a bias last."""

    def __init__(self, channels: int, levels: int | None = None, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        weight = 1 + 0.02 * torch.randn(*([] if levels is None else [levels]), self.numbers * channels)
        if self.numbers > 1:
            weight[..., -channels:] = 0
        self.weight = nn.Parameter(weight)

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        """x (B, C, H, W) and, where there are levels, t (B,), integers -> the shape of x."""
        weight: Tensor = self.weight
        if weight.ndim > 1:
            assert t is not None
            weight = F.embedding(t, weight)
        return self.normalised(x, *weight[..., None, None].chunk(self.numbers, dim=-3))

    def normalised(self, x: Tensor, *numbers: Tensor) -> Tensor:
        """x (B, C, H, W), and each of its numbers as (..., C, 1, 1)."""
        gain, bias = numbers
        return gain * F.instance_norm(x, eps=self.eps) + bias


class InstanceNormPlus(InstanceNorm):
    """Instance normalisation++ (Song & Ermon 2019, appendix A.1), which keeps how the means of the channels differ.

    Standardised among themselves, they return with a gain of their own, before the common gain as in the authors' code.
    """

    numbers = 3

    def normalised(self, x: Tensor, *numbers: Tensor) -> Tensor:
        gain, mean_gain, bias = numbers
        h = F.instance_norm(x, eps=self.eps)
        means = x.mean(dim=(2, 3), keepdim=True)
        variance, mean = torch.var_mean(means, dim=1, keepdim=True)
        h = h + mean_gain * (means - mean) / (variance + self.eps).sqrt()
        return gain * h + bias


class VarianceNorm(InstanceNorm):
    """Normalisation by the deviation of each channel, which leaves the mean."""

    numbers = 1

    def normalised(self, x: Tensor, *numbers: Tensor) -> Tensor:
        return numbers[0] * x / (x.var(dim=(2, 3), keepdim=True) + self.eps).sqrt()


class NoNorm(nn.Module):
    """No normalisation, in the place of one."""

    def __init__(self, channels: int, levels: int | None = None) -> None:
        super().__init__()

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        """x -> x."""
        return x
