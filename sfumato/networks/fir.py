"""Resampling by a factor of 2 through a small filter, alone or fused with a 3x3 convolution (Zhang 2019).

NCSN++ (Song et al. 2021, appendix H) does so wherever its resolution changes, with the taps 1, 3, 3, 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks import blocks


def fir_halve(x: Tensor, taps: Sequence[float]) -> Tensor:
    """x (B, C, H, W), convolved with the filter, at every second pixel: (B, C, H/2, W/2)."""
    return F.conv2d(_pad(x, len(taps) - 2), _kernel(x, taps[::-1]), stride=2, groups=x.shape[1])


def fir_double(x: Tensor, taps: Sequence[float]) -> Tensor:
    """x (B, C, H, W) with zeros between its pixels, convolved with 4 times the filter: (B, C, 2H, 2W)."""
    first, height, width = len(taps) // 2 - 1, 2 * x.shape[2], 2 * x.shape[3]
    whole = F.conv_transpose2d(x, _kernel(x, taps, gain=4), stride=2, groups=x.shape[1])
    return whole[:, :, first : first + height, first : first + width]


def fir_conv_halve(x: Tensor, conv: nn.Conv2d, taps: Sequence[float]) -> Tensor:
    """The filter, then the 3x3 convolution at every second pixel: (B, C, H, W) -> (B, C', H/2, W/2)."""
    blurred = F.conv2d(_pad(x, len(taps)), _kernel(x, taps[::-1]), groups=x.shape[1])
    return F.conv2d(blurred, conv.weight, conv.bias, stride=2)


def fir_double_conv(x: Tensor, conv: nn.Conv2d, taps: Sequence[float]) -> Tensor:
    """Zeros between the pixels, the 3x3 convolution, then 4 times the filter: (B, C, H, W) -> (B, C', 2H, 2W)."""
    spread = F.conv_transpose2d(x, conv.weight.flip(2, 3).transpose(0, 1), stride=2)
    out = F.conv2d(_pad(spread, len(taps) - 2), _kernel(spread, taps[::-1], gain=4), groups=spread.shape[1])
    return out if conv.bias is None else out + conv.bias[:, None, None]


def _pad(x: Tensor, zeros: int) -> Tensor:
    """As many zeros over height, and over width; the odd one comes first."""
    before, after = (zeros + 1) // 2, zeros // 2
    return F.pad(x, (before, after, before, after))


def _kernel(x: Tensor, taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """The outer product of the taps, of sum `gain`, for each of x's channels: (C, 1, len(taps), len(taps))."""
    # Made where x is, number by number, so that nothing waits for a copy from the host and no state needs a home.
    row = torch.cat([x.new_full((1,), tap * gain**0.5 / sum(taps)) for tap in taps])
    return torch.outer(row, row).expand(x.shape[1], 1, -1, -1)


class Down(nn.Module):
    """Half the size: with a 3x3 convolution or (`conv` false) without, each through the filter `fir` or without one.

    Without a filter it is what DDPM does: a strided convolution with zeros right and below, or the mean of 2x2 pixels.
    """

    def __init__(self, channels: int, out_channels: int, conv: bool, fir: Sequence[float] | None) -> None:
        super().__init__()
        self.fir = fir
        self.conv = nn.Conv2d(channels, out_channels, 3, stride=2) if conv else None

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) -> (B, C', H/2, W/2); emb is not used, but residual downsampling uses it."""
        if self.conv is None:
            return blocks.halve(x) if self.fir is None else fir_halve(x, self.fir)
        return self.conv(F.pad(x, (0, 1, 0, 1))) if self.fir is None else fir_conv_halve(x, self.conv, self.fir)


class Up(nn.Module):
    """Twice the size: with a 3x3 convolution or (`conv` false) without, each through the filter `fir` or without one.

    Without a filter it is what DDPM does: nearest neighbours, then the convolution.
    """

    def __init__(self, channels: int, out_channels: int, conv: bool, fir: Sequence[float] | None) -> None:
        super().__init__()
        self.fir = fir
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1) if conv else None

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) -> (B, C', 2H, 2W); emb is not used, but residual upsampling uses it."""
        if self.conv is None:
            return blocks.double(x) if self.fir is None else fir_double(x, self.fir)
        return self.conv(blocks.double(x)) if self.fir is None else fir_double_conv(x, self.conv, self.fir)
