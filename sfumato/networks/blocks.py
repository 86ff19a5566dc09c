"""The layers of the U-Nets: time embedding, residual block, self-attention, resampling.

DDPM's (Ho et al. 2020, appendix B), Improved DDPM's (Nichol & Dhariwal 2021, appendix A) and ADM's (Dhariwal & Nichol
2021, section 3) differ in a few options each, which are arguments here and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

M = TypeVar("M", bound=nn.Module)

# ---------------------------------------------------------------- time

Embedding = Callable[[Tensor, int], Tensor]
"""(t (B,), width) -> (B, width)."""


def sin_cos(t: Tensor, width: int) -> Tensor:
    """Ho et al.'s sinusoids: sines then cosines, rates from 1 to 1/10,000 inclusive."""
    return _waves(t, width, width // 2 - 1, torch.sin, torch.cos)


def cos_sin(t: Tensor, width: int) -> Tensor:
    """Improved DDPM's sinusoids: cosines then sines, rates from 1 to just above 1/10,000."""
    return _waves(t, width, width // 2, torch.cos, torch.sin)


def _waves(t: Tensor, width: int, last: int, *waves: Callable[[Tensor], Tensor]) -> Tensor:
    steps = torch.arange(width // 2, dtype=torch.float32, device=t.device)
    angles = t.float()[:, None] * torch.exp(-math.log(10_000) / last * steps)
    return F.pad(torch.cat([wave(angles) for wave in waves], dim=1), (0, width % 2))


# ---------------------------------------------------------------- layers


def norm(channels: int, eps: float) -> nn.GroupNorm:
    """GroupNorm with 32 groups, or as many as divide a narrow layer."""
    return nn.GroupNorm(math.gcd(32, channels), channels, eps=eps)


def zeroed(module: M) -> M:
    """The module with all parameters 0, so that the branch it ends starts as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    """A 3x3 convolution that keeps the size."""
    return nn.Conv2d(in_channels, out_channels, 3, padding=1)


class Downsample(nn.Module):
    """Half the size: a strided 3x3 convolution, or the mean of 2x2 where `learned` is off.

    `same` pads on the right and at the bottom only, as TensorFlow's SAME does (Ho et al.); otherwise on all sides.
    """

    def __init__(self, channels: int, learned: bool, same: bool) -> None:
        super().__init__()
        self.same = same
        self.conv = nn.Conv2d(channels, channels, 3, stride=2, padding=0 if same else 1) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        if self.conv is None:
            return F.avg_pool2d(x, 2)
        return self.conv(F.pad(x, (0, 1, 0, 1)) if self.same else x)


class Upsample(nn.Module):
    """Twice the size: each pixel four times, then a 3x3 convolution where `learned` is on."""

    def __init__(self, channels: int, learned: bool) -> None:
        super().__init__()
        self.conv = conv(channels, channels) if learned else None

    def forward(self, x: Tensor) -> Tensor:
        x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        return x if self.conv is None else self.conv(x)


class ResidualBlock(nn.Module):
    """norm, SiLU, convolution, twice; the embedding enters between the two; a 1x1 shortcut where the width changes.

    Args:
        scale_shift: the embedding scales and shifts the second norm (Improved DDPM) rather than being added before it.
        resize: a function such as 2x2 mean or nearest that both branches take after the first SiLU (ADM's BigGAN blocks).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        embedding: int,
        dropout: float,
        eps: float,
        scale_shift: bool,
        resize: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.scale_shift, self.resize = scale_shift, resize
        self.norm1 = norm(in_channels, eps)
        self.conv1 = conv(in_channels, out_channels)
        self.embed = nn.Linear(embedding, 2 * out_channels if scale_shift else out_channels)
        self.norm2 = norm(out_channels, eps)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(conv(out_channels, out_channels))
        self.shortcut = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = F.silu(self.norm1(x))
        if self.resize is not None:
            h, x = self.resize(h), self.resize(x)
        h = self.conv1(h)
        e = self.embed(F.silu(embedding))[:, :, None, None].to(h.dtype)
        if self.scale_shift:
            scale, shift = e.chunk(2, dim=1)
            h = self.norm2(h) * (1 + scale) + shift
        else:
            h = self.norm2(h + e)
        return self.shortcut(x) + self.conv2(self.dropout(F.silu(h)))


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v for q, k, v (B, heads, tokens, d).

    Plain matrix products where there are few tokens on a CPU: fused attention is no faster forward there and a third
    slower with its backward pass.
    """
    if q.device.type == "cpu" and q.shape[-2] < 1024:
        return ((q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)).softmax(-1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Attention(nn.Module):
    """Self-attention over all pixels, added to its input. The rows of `qkv` are q, k and v whole, each head by head."""

    def __init__(self, channels: int, heads: int, eps: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = norm(channels, eps)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, *size = x.shape
        flat = self.norm(x).reshape(batch, channels, -1)
        q, k, v = self.qkv(flat).reshape(batch, 3, self.heads, channels // self.heads, -1).transpose(-1, -2).unbind(1)
        mixed = attend(q, k, v).transpose(-1, -2).reshape(batch, channels, -1)
        return x + self.out(mixed).reshape(batch, channels, *size)


def head_count(channels: int, heads: int, head_channels: int | None) -> int:
    """The number of heads of a layer, from the number itself or from the width of one head."""
    heads = heads if head_channels is None else channels // head_channels
    if channels % heads:
        raise ValueError(f"{heads} attention heads do not divide {channels} channels")
    return heads
