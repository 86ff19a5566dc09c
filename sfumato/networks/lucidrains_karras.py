"""The magnitude-preserving U-Net of denoising-diffusion-pytorch, `KarrasUnet` and `KarrasUnet1D` (MIT), after EDM2.

It differs from EDM2's own (`mp_unet`) in residual sums, of which the branch is 0.7 where EDM2's is 0.3, in attention
with learned keys and values and heads of a fixed width, bilinear resampling, features of the noise level without
phases, weights divided by their length alone, and the fan-in of the first convolution, which leaves out the constant
channel (Karras et al. 2024, sections 2.3 to 2.5, figure 21).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Embedded, Factors, Few, Share
from sfumato.networks.blocks import attend
from sfumato.networks.magnitude import EPSILON, Directions, mp_cat, mp_sum
from sfumato.networks.skeleton import check_labels
from sfumato.networks.tokens import refuse_numbers

SILU_RMS = 0.596
PASSED = 0.3
"""The share of what is passed on in residual sums."""


def activate(x: Tensor) -> Tensor:
    """SiLU divided by the root mean square that it has of normal numbers, rounded as in the paper (eq. 81)."""
    return F.silu(x) / SILU_RMS


def pixel_norm(x: Tensor, dim: int) -> Tensor:
    """x divided by its length along a dimension, times the root of its size (eq. 30)."""
    return F.normalize(x.float() if x.dtype != torch.float64 else x, dim=dim, eps=EPSILON).to(x.dtype) * math.sqrt(
        x.shape[dim]
    )


class Along(Directions):
    """A dense layer (kernel 0) or convolution, along rows alone in one dimension, of weights of unit length a output.

    Args:
        dimensions: 1 for kernels (k,), 2 for (k, k). ones: how many constant channels its fan-in leaves out.
    """

    def __init__(self, channels: int, out_channels: int, kernel: int = 0, dimensions: int = 2, ones: int = 0) -> None:
        super().__init__(channels, out_channels, kernel)
        if kernel and dimensions == 1:
            self.weight = nn.Parameter(self.weight.detach()[:, :, 0].clone())
        self.scale = math.sqrt(channels / (channels - ones))

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """x (B, channels) or (B, channels, H, W) -> the same with out_channels; gain multiplies the result."""
        rows = self.weight
        high = rows if rows.dtype == torch.float64 else rows.float()
        w = F.normalize(high.flatten(1), dim=1, eps=EPSILON).view_as(rows).to(rows.dtype) * (self.scale * gain)
        if not self.kernel:
            return F.linear(x, w)
        pad = self.kernel // 2
        return F.conv2d(x, w, padding=pad) if rows.ndim == 4 else F.conv2d(x, w[:, :, None], padding=(0, pad))


class CosineAttention(nn.Module):
    """Cosine attention over pixels and a few learned keys and values: q, k and v of every head have RMS 1."""

    def __init__(self, width: int, made: LucidrainsKarras) -> None:
        super().__init__()
        self.heads = max(math.ceil(width / made.head_channels), 2)
        inner = self.heads * made.head_channels
        self.memory = nn.Parameter(torch.randn(2, self.heads, made.memory, made.head_channels))
        self.qkv = Along(width, 3 * inner, 1, made.dimensions)
        self.out = Along(inner, width, 1, made.dimensions)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> the same, with what the pixels saw of each other."""
        batch, _, height, width = x.shape
        q, k, v = self.qkv(x).view(batch, 3, self.heads, -1, height * width).transpose(3, 4).unbind(1)
        k, v = (
            torch.cat([m.to(part.dtype).expand(batch, -1, -1, -1), part], dim=2)
            for m, part in zip(self.memory, (k, v), strict=True)
        )
        seen = attend(*(pixel_norm(part, -1) for part in (q, k, v)))
        return mp_sum(self.out(seen.transpose(2, 3).reshape(batch, -1, height, width)), x, PASSED)


class KarrasBlock(nn.Module):
    """A residual block of the encoder or, without pixel norm, of the decoder, with attention where asked for.

    Args:
        channels, out_channels: of the input and of the output; emb: width of the embedding.
        decoder: whether it is the decoder's; resample: "down", "up" or nothing.
    """

    def __init__(
        self, channels: int, out_channels: int, emb: int, made: LucidrainsKarras, *, decoder: bool = False,
        resample: str = "", attention: bool = False,
    ) -> None:  # fmt: skip
        super().__init__()
        self.decoder, self.resample, of = decoder, resample, made.dimensions
        skips = resample == "down" or channels != out_channels
        self.skip = Along(channels, out_channels, 1, of) if skips else None
        self.emb, self.emb_gain = Along(emb, out_channels), nn.Parameter(torch.tensor(0.0))
        self.conv1 = Along(channels if decoder else out_channels, out_channels, 3, of)
        self.dropout = nn.Dropout(made.dropout)
        self.conv2 = Along(out_channels, out_channels, 3, of)
        self.attention = CosineAttention(out_channels, made) if attention else None
        self.factor = (1.0 if of == 1 else 2.0, 2.0)

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, channels, H, W) and emb (B, C), already activated -> (B, out_channels, H', W')."""
        if self.resample:
            factor = self.factor if self.resample == "up" else tuple(1 / f for f in self.factor)
            x = F.interpolate(x, scale_factor=factor, mode="bilinear")
        passed = x if self.skip is None else self.skip(x)
        if not self.decoder:
            x = passed = pixel_norm(passed, 1)
        h = self.conv1(activate(x)) * (self.emb(emb, self.emb_gain) + 1)[:, :, None, None].to(x.dtype)
        x = mp_sum(self.conv2(self.dropout(activate(h))), passed, PASSED)
        return x if self.attention is None else self.attention(x)


class KarrasNet(nn.Module):
    """The network that `LucidrainsKarras` describes: (x, t, y, low_res) -> output.

    Args:
        channels, outputs: of what it sees and returns. given: what it is given besides.
    """

    rates: Tensor

    def __init__(self, made: LucidrainsKarras, channels: int, outputs: int, given: Embedded) -> None:
        super().__init__()
        self.channels, self.labels, self.picture, self.made = channels, given.labels, given.picture, made
        first, emb = made.channels, 4 * made.channels
        widths = [min(made.widest, first * 2**i) if i else first for i in range(made.levels)]
        at = [2**i in made.attention for i in range(made.levels)]
        self.register_buffer("rates", torch.randn(made.rates // 2))
        self.emb_noise = Along(made.rates, emb)
        self.emb_label = Along(given.labels, emb) if given.labels else None
        self.conv_in = Along(channels + given.picture + 1, first, 3, made.dimensions, ones=1)
        down, up = nn.ModuleList(), []  # up: from the last block to the first
        for i, width in enumerate(widths):
            if i:
                down.append(KarrasBlock(widths[i - 1], width, emb, made, resample="down", attention=at[i]))
                back = KarrasBlock(width, widths[i - 1], emb, made, decoder=True, resample="up", attention=at[i - 1])
                up.append(back)
            full = at[i] and i > 0  # at the image's own size only where the decoder comes back to it
            for _ in range(made.blocks):
                down.append(KarrasBlock(width, width, emb, made, attention=full))
            for _ in range(made.blocks + 1):
                up.append(KarrasBlock(2 * width, width, emb, made, decoder=True, attention=full))
        self.down, self.up = down, nn.ModuleList(reversed(up))
        self.middle = nn.ModuleList(
            KarrasBlock(widths[-1], widths[-1], emb, made, decoder=True, attention=at[-1]) for _ in range(2)
        )
        self.conv_out, self.out_gain = Along(first, outputs, 3, made.dimensions), nn.Parameter(torch.tensor(0.0))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), labels y (B,), a picture low_res (B, C', h, w) -> (B, outputs, H, W), as x's type.

        Raises: ValueError where an input does not fit the network.
        """
        self._check(x, y, low_res)
        dtype = self.conv_in.weight.dtype
        angles = t.to(self.rates.dtype)[:, None] * self.rates * (2 * math.pi)
        emb = self.emb_noise(math.sqrt(2) * torch.cat([angles.sin(), angles.cos()], dim=1).to(dtype))
        if self.emb_label is not None and y is not None:
            one = F.one_hot(y, self.labels).to(dtype) * math.sqrt(self.labels)
            emb = mp_sum(emb, self.emb_label(one), 0.5)
        emb = activate(emb)
        parts = [torch.ones_like(x[:, :1], dtype=dtype), x.to(dtype)]
        if low_res is not None:
            parts.append(F.interpolate(low_res.to(dtype), x.shape[2:], mode="bilinear"))
        h = self.conv_in(torch.cat(parts, dim=1))
        skips = [h]
        for block in self.down:
            h = block(h, emb)
            skips.append(h)
        for block in self.middle:
            h = block(h, emb)
        for block in self.up:
            h = block(h if block.resample else mp_cat(h, skips.pop()), emb)
        drawn: Tensor = self.conv_out(h, self.out_gain)
        return drawn.to(x.dtype)

    def _check(self, x: Tensor, y: Tensor | None, low_res: Tensor | None) -> None:
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x is (B, {self.channels}, H, W) for this network, not {tuple(x.shape)}")
        self.made.check_sides(tuple(x.shape[1:]))
        check_labels(y, self.labels or None, x.shape[0])
        if (low_res is None) == (self.picture > 0):
            raise ValueError("this network needs low_res" if low_res is None else "this network takes no low_res")


@dataclass(frozen=True)
class LucidrainsKarras(Backbone):
    """The magnitude-preserving U-Net of denoising-diffusion-pytorch, with its defaults for images of 64x64."""

    channels: Annotated[int, Range(1, 16_384)] = 192
    """Width of the first level; each further level doubles it, up to `widest`."""
    widest: Annotated[int, Range(1, 65_536)] = 768
    """The most channels of a level."""
    levels: Annotated[int, Range(1, 12)] = 4
    """Sizes of the image: one more than there are downsamplings."""
    blocks: Few = 4
    """Residual blocks a level, beside the one that resamples; one more in the decoder."""
    attention: Factors = (4, 8)
    """Downsampling factors with attention (16x16 of 64x64 is factor 4)."""
    head_channels: Annotated[int, Range(1, 16_384)] = 64
    """Channels of an attention head; there are two heads at least, whatever the width."""
    memory: Annotated[int, Range(0, 4096)] = 4
    """Learned keys and values beside those of the pixels."""
    rates: Annotated[int, Range(2, 4096)] = 16
    """Features of the noise level, two a random frequency; an even number."""
    dropout: Share = 0.1
    """Dropout inside the residual blocks."""
    dimensions: Literal[1, 2] = 2
    """1 for rows of numbers, as images of height 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.rates % 2:
            raise ValueError(f"rates is even, for sines and cosines, not {self.rates}")
        if unused := sorted(set(self.attention) - {2**i for i in range(self.levels)}):
            raise ValueError(f"no level is smaller by the attention factors {unused}")

    def check_sides(self, shape: tuple[int, ...]) -> None:
        """ValueError for an image (C, H, W) whose sides the levels do not halve evenly."""
        multiple, sides = 2 ** (self.levels - 1), shape[2:] if self.dimensions == 1 else shape[1:]
        if self.dimensions == 1 and shape[1] != 1:
            raise ValueError(f"a network of one dimension takes images of height 1, not {shape[1]}")
        if any(side % multiple for side in sides):
            raise ValueError(f"{self.levels} levels need sides that are multiples of {multiple}, not {shape[1:]}")

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> KarrasNet:
        refuse_numbers("lucidrains' Karras U-Net", given)
        self.check_sides(shape)
        return KarrasNet(self, shape[0], outputs, given)
