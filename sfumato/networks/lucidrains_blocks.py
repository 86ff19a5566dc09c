"""The layers of lucidrains' U-Net: norms over channels, residual blocks, linear and full attention with memory.

Linear attention is Shen et al.'s (2021), learned keys and values are Sukhbaatar et al.'s (2019), standardised
convolutions Qiao et al.'s (2019); `lucidrains_unet` puts them together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.blocks import attend

GROUPS = 8
"""Of the group norms in versions before 2.0."""
EPSILON = 1e-5


class RMSNorm(nn.Module):
    """Root mean square normalisation over channels (Zhang & Sennrich 2019): x sqrt(C) / |x|, times a gain."""

    def __init__(self, channels: int, dimensions: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1, channels, *(1,) * dimensions))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) -> the same shape."""
        return F.normalize(x, dim=1) * (self.gain * x.shape[1] ** 0.5)


class ChannelNorm(RMSNorm):
    """Layer normalisation over channels at each pixel (Ba et al. 2016), with a gain alone."""

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(1, keepdim=True)
        return centred * (centred.square().mean(1, keepdim=True) + EPSILON).rsqrt() * self.gain


class StandardisedConv(nn.Conv2d):
    """A convolution whose weight has mean 0 and variance 1 for each output (Qiao et al. 2019)."""

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, (1, 2, 3), correction=0, keepdim=True)
        return self._conv_forward(x, (self.weight - mean) * (variance + EPSILON).rsqrt(), self.bias)


@dataclass
class Parts:
    """What the layers of one network have in common, and the layers made so.

    Attributes:
        dimensions: 1 or 2, of the convolutions.
        emb_channels: of the embedding.
        heads, head_channels, memory: of attention.
        grouped: group norms in the blocks, not root mean squares.
        centred: attention's norms are layer norms.
        standardised: convolutions in the blocks, with means over pixels in linear attention.
        strided: levels shrink by a strided convolution.
    """

    dimensions: int
    emb_channels: int
    heads: int
    head_channels: int
    memory: int
    dropout: float = 0.0
    grouped: bool = False
    centred: bool = False
    standardised: bool = False
    strided: bool = False

    def conv(self, channels: int, out: int, side: int, **options: Any) -> nn.Module:
        kind: Any = nn.Conv1d if self.dimensions == 1 else nn.Conv2d
        made: nn.Module = kind(channels, out, side, **{"padding": side // 2, **options})
        return made

    def norm(self, channels: int) -> nn.Module:
        return (ChannelNorm if self.centred else RMSNorm)(channels, self.dimensions)

    def block(self, channels: int, out: int) -> ResBlock:
        return ResBlock(self, channels, out)

    def attention(self, channels: int, full: bool) -> nn.Module:
        return FullAttention(self, channels) if full else LinearAttention(self, channels)

    def shrunk(self, channels: int, out: int) -> nn.Module:
        """Half the size: 2 x 2 pixels as channels, or a strided convolution."""
        if self.strided:
            return self.conv(channels, out, 4, stride=2, padding=1)
        return nn.Sequential(nn.PixelUnshuffle(2), self.conv(4 * channels, out, 1))

    def grown(self, channels: int, out: int) -> nn.Module:
        return nn.Sequential(nn.Upsample(scale_factor=2), self.conv(channels, out, 3))


class Layer(nn.Module):
    """Convolution, norm, scale and shift, SiLU, dropout."""

    def __init__(self, parts: Parts, channels: int, out: int, dropout: float = 0.0) -> None:
        super().__init__()
        standardised = partial(StandardisedConv, kernel_size=3, padding=1)
        self.conv = standardised(channels, out) if parts.standardised else parts.conv(channels, out, 3)
        grouped = nn.GroupNorm(math.gcd(GROUPS, out), out) if parts.grouped else None
        self.norm = grouped or RMSNorm(out, parts.dimensions)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, scale_shift: tuple[Tensor, ...] | None = None) -> Tensor:
        x = self.norm(self.conv(x))
        if scale_shift is not None:
            scale, shift = scale_shift
            x = x * (scale + 1) + shift
        return self.dropout(F.silu(x))


class ResBlock(nn.Module):
    """A residual block: two layers, of which the first is scaled and shifted by the embedding."""

    def __init__(self, parts: Parts, channels: int, out: int) -> None:
        super().__init__()
        self.emb = nn.Linear(parts.emb_channels, 2 * out)
        self.layer1 = Layer(parts, channels, out, parts.dropout)
        self.layer2 = Layer(parts, out, out)
        self.shortcut = parts.conv(channels, out, 1) if channels != out else nn.Identity()

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, C, ...) and emb (B, emb_channels), already activated -> (B, out, ...)."""
        moved = self.emb(emb)
        moved = moved.reshape(*moved.shape, *(1,) * (x.ndim - 2))
        h = self.layer2(self.layer1(x, moved.chunk(2, dim=1)))
        return h + self.shortcut(x)


class LinearAttention(nn.Module):
    """Linear attention among pixels, x + out(...): cost grows with their number, not its square (Shen et al. 2021)."""

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__()
        self.heads, self.averaged, width = parts.heads, parts.standardised, parts.heads * parts.head_channels
        self.norm = parts.norm(channels)
        self.memory = self.learned(parts) if parts.memory else None
        self.qkv = parts.conv(channels, 3 * width, 1, bias=False)
        self.out = parts.conv(width, channels, 1)
        self.norm_out: nn.Module | None = parts.norm(channels)

    def learned(self, parts: Parts) -> nn.Parameter:
        """Keys and values that lie beside those of the pixels."""
        return nn.Parameter(torch.randn(2, parts.heads, parts.head_channels, parts.memory))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) -> the same shape."""
        q, k, v = (
            self.qkv(self.norm(x)).flatten(2).unflatten(1, (3, self.heads, -1)).unbind(1)
        )  # (B, heads, channels, pixels)
        h = self.out(self.mixed(q, k, v).flatten(1, 2).view(x.shape[0], -1, *x.shape[2:]))
        return x + (h if self.norm_out is None else self.norm_out(h))

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pixels = v.shape[3]
        if self.memory is not None:
            k, v = (self._beside(i, part, 3) for i, part in enumerate((k, v)))
        q = q.softmax(dim=2) * q.shape[2] ** -0.5
        context = k.softmax(dim=3) @ (v / pixels if self.averaged else v).transpose(2, 3)
        return context.transpose(2, 3) @ q

    def _beside(self, i: int, part: Tensor, dim: int) -> Tensor:
        assert self.memory is not None
        return torch.cat([self.memory[i].to(part.dtype).expand(part.shape[0], -1, -1, -1), part], dim=dim)


class FullAttention(LinearAttention):
    """Self-attention among pixels, with learned keys and values beside theirs (Sukhbaatar et al. 2019)."""

    def __init__(self, parts: Parts, channels: int) -> None:
        super().__init__(parts, channels)
        self.norm_out = None

    def learned(self, parts: Parts) -> nn.Parameter:
        return nn.Parameter(torch.randn(2, parts.heads, parts.memory, parts.head_channels))

    def mixed(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        q, k, v = (part.transpose(2, 3) for part in (q, k, v))
        if self.memory is not None:
            k, v = (self._beside(i, part, 2) for i, part in enumerate((k, v)))
        return attend(q, k, v).transpose(2, 3)


class Level(nn.Module):
    """Two blocks, attention after the second, and what leads to the next level."""

    def __init__(self, blocks: list[ResBlock], attention: nn.Module, resample: nn.Module) -> None:
        super().__init__()
        self.block, self.attention, self.resample = nn.ModuleList(blocks), attention, resample
