"""Resampling by a factor of 2, alone or with a 3x3 convolution: plainly, or through a small filter (Zhang 2019).

NCSN++ (Song et al. 2021, appendix H) filters wherever its resolution changes, with the taps 1, 3, 3, 1. Signals
(B, C, L) and clips (B, C, T, H, W) are resampled alike, in each of their dimensions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks import clips
from sfumato.networks.blocks import Conv, convolution


def halve(x: Tensor) -> Tensor:
    """The mean of every 2x2 pixels, of every 2 numbers of a signal, or of 2x2x2 pixels of a clip."""
    pool = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[x.ndim - 3]
    return pool(x, 2)


def double(x: Tensor) -> Tensor:
    """Every pixel twice in each dimension: nearest neighbours."""
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def fir_halve(x: Tensor, taps: Sequence[float]) -> Tensor:
    """x (B, C, H, W), convolved with the filter, at every second pixel: (B, C, H/2, W/2)."""
    return _convolve(_pad(x, len(taps) - 2), _kernel(x, taps[::-1]), stride=2, groups=x.shape[1])


def fir_double(x: Tensor, taps: Sequence[float]) -> Tensor:
    """x (B, C, H, W) with zeros between its pixels, convolved with 4 times the filter: (B, C, 2H, 2W)."""
    first = len(taps) // 2 - 1
    whole = _convolve_transposed(x, _kernel(x, taps, gain=2), stride=2, groups=x.shape[1])
    for axis, side in enumerate(x.shape[2:], start=2):
        whole = whole.narrow(axis, first, 2 * side)
    return whole


def fir_conv_halve(x: Tensor, conv: Conv, taps: Sequence[float]) -> Tensor:
    """The filter, then the 3x3 convolution at every second pixel: (B, C, H, W) -> (B, C', H/2, W/2)."""
    blurred = _convolve(_pad(x, len(taps)), _kernel(x, taps[::-1]), groups=x.shape[1])
    return _convolve(blurred, conv.weight, conv.bias, stride=2)


def fir_double_conv(x: Tensor, conv: Conv, taps: Sequence[float]) -> Tensor:
    """Zeros between the pixels, the 3x3 convolution, then 4 times the filter: (B, C, H, W) -> (B, C', 2H, 2W)."""
    spread = _convolve_transposed(x, conv.weight.flip(tuple(range(2, x.ndim))).transpose(0, 1), stride=2)
    out = _convolve(_pad(spread, len(taps) - 2), _kernel(spread, taps[::-1], gain=2), groups=spread.shape[1])
    return out if conv.bias is None else out + conv.bias[(..., *(None,) * (x.ndim - 2))]


def _convolve(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, groups: int = 1) -> Tensor:
    """A convolution in the dimensions that x (B, C, ...) has."""
    return (F.conv1d, F.conv2d, clips.convolve)[x.ndim - 3](x, weight, bias, stride=stride, groups=groups)


def _convolve_transposed(x: Tensor, weight: Tensor, *, stride: int, groups: int = 1) -> Tensor:
    transposed = (F.conv_transpose1d, F.conv_transpose2d, clips.convolve_transposed)[x.ndim - 3]
    return transposed(x, weight, stride=stride, groups=groups)


def _pad(x: Tensor, zeros: int) -> Tensor:
    """As many zeros over height, and over width; the odd one comes first."""
    return F.pad(x, ((zeros + 1) // 2, zeros // 2) * (x.ndim - 2))


def _kernel(x: Tensor, taps: Sequence[float], gain: float = 1.0) -> Tensor:
    """The outer product of the taps, of sum `gain` in each dimension, for each of x's channels: (C, 1, taps, ...)."""
    # Made where x is, number by number, so that nothing waits for a copy from the host and no state needs a home.
    row = torch.cat([x.new_full((1,), tap * gain / sum(taps)) for tap in taps])
    kernel = row
    for _ in range(x.ndim - 3):
        kernel = kernel[..., None] * row
    return kernel.expand(x.shape[1], 1, *(-1,) * (x.ndim - 2))


class Down(nn.Module):
    """Downsampling to half the size, by a 3x3 convolution of stride 2 or, where not `conv`, without weights.

    Through the filter `fir`; without one it is the convolution alone, or the mean of 2x2 pixels. With `asymmetric`
    padding of that convolution, zeros lie right and below only: TensorFlow's "SAME", as in Ho et al.'s networks.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        conv: bool = True,
        fir: Sequence[float] | None = None,
        asymmetric: bool = True,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.fir, self.asymmetric = fir, asymmetric
        padding = 0 if asymmetric or fir else 1
        self.conv = convolution(dims, channels, out_channels, stride=2, padding=padding) if conv else None

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) -> (B, C', H/2, W/2); emb is not used, but residual downsampling uses it."""
        if self.conv is None:
            return halve(x) if self.fir is None else fir_halve(x, self.fir)
        if self.fir is not None:
            return fir_conv_halve(x, self.conv, self.fir)
        return self.conv(F.pad(x, (0, 1) * (x.ndim - 2)) if self.asymmetric else x)


class Up(nn.Module):
    """Upsampling to twice the size, with a 3x3 convolution or, where not `conv`, without weights.

    Through the filter `fir`; without one it is nearest neighbours, then the convolution.
    """

    def __init__(
        self, channels: int, out_channels: int, conv: bool = True, fir: Sequence[float] | None = None, dims: int = 2
    ) -> None:
        super().__init__()
        self.fir = fir
        self.conv = convolution(dims, channels, out_channels, padding=1) if conv else None

    def forward(self, x: Tensor, emb: Tensor | None = None) -> Tensor:
        """x (B, C, H, W) -> (B, C', 2H, 2W); emb is not used, but residual upsampling uses it."""
        if self.conv is None:
            return double(x) if self.fir is None else fir_double(x, self.fir)
        return self.conv(double(x)) if self.fir is None else fir_double_conv(x, self.conv, self.fir)


# ---------------------------------------------------------------- between two stages of a network


Make = Callable[..., nn.Module]
Resample = Callable[[int, Make, Make], nn.Module]
"""How a network changes its resolution by 2: (channels, block, layer) -> a layer of (h, emb). `block` makes its blocks,
(channels, channels out, resample=...), and `layer` is `Down` or `Up` with its filter."""


def convolved(channels: int, block: Make, layer: Make) -> nn.Module:
    """By a convolution."""
    return layer(channels, channels, True)


def pooled(channels: int, block: Make, layer: Make) -> nn.Module:
    """Without weights."""
    return layer(channels, channels, False)


def residual(channels: int, block: Make, layer: Make) -> nn.Module:
    """By a residual block both branches of which resample (BigGAN's; ADM's and NCSN++'s)."""
    return block(channels, channels, resample=layer(channels, channels, False))
