"""Magnitude-preserving layers (Karras et al. 2024, EDM2, sections 2.3 and 2.4, appendix B): every activation has RMS 1.

Weights are used as directions: each output's row is divided by its norm in every forward pass. Forced weight
normalisation, which keeps the rows themselves at one length while they are trained, is `normalise`, after an update;
so no forward pass ever changes a weight, neither in training, nor in evaluation, nor of an average.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.blocks import attend

SILU_RMS = 0.5964
"""Root mean square of SiLU of a standard normal number: 0.596 in the paper."""
EPSILON = 1e-4


def unit(x: Tensor, dims: tuple[int, ...], eps: float = EPSILON) -> Tensor:
    """x divided by its root mean square over these dimensions (pixel norm where that is the channels; eq. 30)."""
    high = x if x.dtype == torch.float64 else x.float()
    return (high / (high.square().mean(dims, keepdim=True).sqrt() + eps)).to(x.dtype)


def mp_silu(x: Tensor) -> Tensor:
    """SiLU divided by what it makes of the RMS of normal numbers (eq. 81)."""
    return F.silu(x) / SILU_RMS


def mp_sum(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The mixture (1 - t) a + t b, divided so that uncorrelated inputs of RMS 1 stay so (eq. 88)."""
    return torch.lerp(a, b.to(a.dtype), t) / math.hypot(1 - t, t)


def mp_cat(a: Tensor, b: Tensor, t: float = 0.5) -> Tensor:
    """Channels of a and of b, scaled so that each contributes its share, 1 - t and t, and the RMS is 1 (eq. 103)."""
    n_a, n_b = a.shape[1], b.shape[1]
    scale = math.sqrt((n_a + n_b) / ((1 - t) ** 2 + t**2))
    return torch.cat([a * (scale * (1 - t) / math.sqrt(n_a)), b.to(a.dtype) * (scale * t / math.sqrt(n_b))], dim=1)


class Directions(nn.Module):
    """A dense layer (kernel 0) or a convolution without bias, whose weights are normalised for each output (eq. 47)."""

    def __init__(self, channels: int, out_channels: int, kernel: int = 0) -> None:
        super().__init__()
        self.kernel = kernel
        self.weight = nn.Parameter(torch.randn(out_channels, channels, *([kernel] * 2 if kernel else [])))
        normalise(self)

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """x (B, channels) or (B, channels, H, W) -> the same with out_channels; gain multiplies the result."""
        rows = self.weight
        w = unit(rows, tuple(range(1, rows.ndim))) * (gain / math.sqrt(rows[0].numel()))
        return F.conv2d(x, w, padding=self.kernel // 2) if self.kernel else F.linear(x, w)


def forced(network: nn.Module) -> Iterator[nn.Parameter]:
    """The weights of a network that `normalise` keeps at one length."""
    return (module.weight for module in network.modules() if isinstance(module, Directions))


@torch.no_grad()
def normalise(network: nn.Module) -> None:
    """Forced weight normalisation: divide each row of the weights by its root mean square, in place (section 2.3).

    Training does it after every update, so that the learning rate alone says how far a weight turns. Where weights are
    sharded, rows are whole, and each process does its own.
    """
    for weight in forced(network):
        held: Any = weight
        rows = held.to_local() if hasattr(held, "to_local") else held
        if rows.numel() and not rows.is_meta:
            rows.copy_(unit(rows, tuple(range(1, rows.ndim)), eps=1e-12))


class Fourier(nn.Module):
    """Random Fourier features sqrt(2) cos(2 pi (f t + phase)) of a number (B,), each of RMS 1 (eq. 75)."""

    frequency: Tensor
    phase: Tensor

    def __init__(self, width: int, bandwidth: float) -> None:
        super().__init__()
        self.register_buffer("frequency", bandwidth * torch.randn(width))
        self.register_buffer("phase", torch.rand(width))

    def forward(self, t: Tensor) -> Tensor:
        angles = t.to(self.frequency.dtype)[:, None] * self.frequency + self.phase
        return math.sqrt(2) * (2 * math.pi * angles).cos()


class MPBlock(nn.Module):
    """EDM2's residual block, of the encoder or the decoder, with cosine attention where asked for (figure 21).

    Args:
        channels, out_channels: of the input and of the output; emb: width of the embedding.
        decoder: the decoder's block, which has no pixel norm.
        resample: "down", "up", or nothing.
        heads: attention heads; 0 for no attention.
        dropout: its rate. balance: the branch's share t of the residual sums. clip: of the output's magnitude.
    """

    def __init__(
        self, channels: int, out_channels: int, emb: int, *, decoder: bool = False, resample: str = "",
        heads: int = 0, dropout: float = 0.0, balance: float = 0.3, clip: float = 256.0,
    ) -> None:  # fmt: skip
        super().__init__()
        self.decoder, self.resample, self.heads, self.balance, self.clip = decoder, resample, heads, balance, clip
        self.skip = Directions(channels, out_channels, 1) if channels != out_channels else None
        self.conv1 = Directions(channels if decoder else out_channels, out_channels, 3)
        self.emb, self.emb_gain = Directions(emb, out_channels), nn.Parameter(torch.zeros(1))
        self.dropout = nn.Dropout(dropout)
        self.conv2 = Directions(out_channels, out_channels, 3)
        self.qkv = Directions(out_channels, 3 * out_channels, 1) if heads else None
        self.out = Directions(out_channels, out_channels, 1) if heads else None

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, channels, H, W) and emb (B, C), already activated -> (B, out_channels, H', W')."""
        if self.resample == "down":
            x = F.avg_pool2d(x, 2)
        elif self.resample == "up":
            x = F.interpolate(x, scale_factor=2.0, mode="nearest")
        if not self.decoder:
            x = unit(x if self.skip is None else self.skip(x), (1,))
        h = self.conv1(mp_silu(x))
        h = mp_silu(h * (self.emb(emb, self.emb_gain) + 1)[:, :, None, None].to(h.dtype))
        h = self.conv2(self.dropout(h))
        if self.decoder and self.skip is not None:
            x = self.skip(x)
        x = mp_sum(x, h, self.balance)
        if self.qkv is not None and self.out is not None:
            x = mp_sum(x, self.out(self.attend(self.qkv(x))), self.balance)
        return x.clamp(-self.clip, self.clip)

    def attend(self, qkv: Tensor) -> Tensor:
        """Cosine attention (section 2.4): q, k and v of every head have RMS 1. (B, 3 C, H, W) -> (B, C, H, W)."""
        batch, channels, rows, columns = qkv.shape
        heads = qkv.reshape(batch, 3, self.heads, channels // (3 * self.heads), -1)
        q, k, v = unit(heads, (3,)).transpose(3, 4).unbind(1)
        return attend(q, k, v).transpose(2, 3).reshape(batch, channels // 3, rows, columns)
