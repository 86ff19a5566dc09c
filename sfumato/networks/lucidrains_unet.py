"""The U-Net of denoising-diffusion-pytorch (Wang, lucidrains, 2020 to 2026, MIT), for images and for rows of numbers.

Levels of two residual blocks that normalise after each convolution, linear attention (Shen et al. 2021) or full
attention with learned keys and values, and a second input at the last block. Its versions differ in norms: root mean
square (2.0 on), groups (1.8 on), and standardised convolutions (Qiao et al. 2019) before.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Embedded, Factors, Heads, Multipliers, Share
from sfumato.networks.lucidrains_blocks import Level, Parts


class Times(nn.Module):
    """The embedding of the time: sinusoids of fixed, learned or random rates, then two dense layers."""

    def __init__(self, made: LucidrainsUNet) -> None:
        super().__init__()
        self.channels, self.period = made.channels, made.period
        rates, width = None, made.channels
        if made.times != "sinusoids":
            rates, width = nn.Parameter(torch.randn(made.rates // 2), requires_grad=made.times == "learned"), made.rates
            width += 1  # the time itself
        self.rates = rates
        self.inner, self.outer = nn.Linear(width, 4 * made.channels), nn.Linear(4 * made.channels, 4 * made.channels)

    def forward(self, t: Tensor) -> Tensor:
        """t (B,) -> (B, 4 channels)."""
        features = self.features(t.float()).to(self.inner.weight.dtype)
        out: Tensor = self.outer(F.gelu(self.inner(features)))
        return out

    def features(self, t: Tensor) -> Tensor:
        if self.rates is None:
            half = self.channels // 2
            steps = torch.arange(half, dtype=torch.float32, device=t.device)
            angles = t[:, None] * torch.exp(steps * -(math.log(self.period) / (half - 1)))
            return torch.cat([angles.sin(), angles.cos()], dim=1)
        angles = t[:, None] * self.rates.float() * (2 * math.pi)
        return torch.cat([t[:, None], angles.sin(), angles.cos()], dim=1)


class LucidNet(nn.Module):
    """The network that `LucidrainsUNet` describes: (x, t, y, low_res) -> output.

    Args:
        shape: (C, H, W) of x; (C, 1, N) for a network of one dimension.

    Attributes:
        prenorm: whether the package's network of this kind keeps attention's norm around it, as names have it.
    """

    def __init__(self, made: LucidrainsUNet, shape: tuple[int, ...], outputs: int, given: Embedded) -> None:
        super().__init__()
        self.dimensions, self.labels, self.picture = made.dimensions, given.labels, given.picture
        self.prenorm = made.dimensions == 1 or bool(given.labels) or made.convolutions == "standardised"
        self.multiple = 2 ** (len(made.multipliers) - 1)
        first = made.first or made.channels
        parts = Parts(
            made.dimensions, 4 * made.channels * (2 if given.labels else 1), made.heads, made.head_channels,
            made.memory, made.dropout, made.norm == "group", made.attention_norm == "layer",
            made.convolutions == "standardised", made.shrink == "strided",
        )  # fmt: skip
        widths = [first, *(made.channels * m for m in made.multipliers)]
        self.conv_in = parts.conv(shape[0] + given.picture, first, 7)
        self.times = Times(made)
        self.label_embedding = self.label_mlp = None
        if given.labels:  # joined to the time's, so that blocks see both
            self.label_embedding = nn.Embedding(given.labels, made.channels)
            wide = 4 * made.channels
            self.label_mlp = nn.Sequential(nn.Linear(made.channels, wide), nn.GELU(), nn.Linear(wide, wide))
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        last = len(made.multipliers) - 1
        for i, (here, after) in enumerate(pairwise(widths)):
            full = 2**i in made.attention
            down, up = (parts.shrunk, parts.grown) if i < last else (parts.conv, parts.grown)
            onward = down(here, after, *([3] if i == last else []))
            blocks = [parts.block(here, here), parts.block(here, here)]
            self.down.append(Level(blocks, parts.attention(here, full), onward))
            blocks = [parts.block(after + here, after), parts.block(after + here, after)]
            back = up(after, here) if i else parts.conv(after, here, 3)
            self.up.append(Level(blocks, parts.attention(after, full), back))
        self.middle = Level([parts.block(widths[-1], widths[-1]) for _ in range(2)],
                            parts.attention(widths[-1], True), nn.Identity())  # fmt: skip
        self.last = parts.block(2 * first, first)
        self.conv_out = parts.conv(first, outputs, 1)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), labels y (B,), a picture low_res (B, C', h, w) -> (B, outputs, H, W), as x's type.

        ValueError where an input does not fit the network.
        """
        self._check(x, y, low_res)
        image = x
        if low_res is not None:  # what is beside x comes first
            image = torch.cat([F.interpolate(low_res.to(x.dtype), x.shape[2:], mode="bilinear"), x], dim=1)
        image = image.to(self.times.inner.weight.dtype)
        h = begun = self.conv_in(image.flatten(2) if self.dimensions == 1 else image)
        down, up, middle = (getattr(self, name) for name in ("down", "up", "middle"))
        emb, skips = F.silu(self._embedded(t, y)), []
        for level in down:
            before, after = level.block
            skips.append(before(h, emb))
            skips.append(level.attention(after(skips[-1], emb)))
            h = level.resample(skips[-1])
        before, after = middle.block
        h = after(middle.attention(before(h, emb)), emb)
        for level in reversed(up):
            for block in level.block:
                h = block(torch.cat([h, skips.pop()], dim=1), emb)
            h = level.resample(level.attention(h))
        out: Tensor = self.conv_out(self.last(torch.cat([h, begun], dim=1), emb))
        return out.view(x.shape[0], -1, *x.shape[2:]).to(x.dtype)

    def _embedded(self, t: Tensor, y: Tensor | None) -> Tensor:
        emb: Tensor = self.times(t)
        if self.label_embedding is None or self.label_mlp is None or y is None:
            return emb
        return torch.cat([emb, self.label_mlp(self.label_embedding(y))], dim=1)

    def _check(self, x: Tensor, y: Tensor | None, low_res: Tensor | None) -> None:
        for name, value, wanted in (("labels", y, self.labels), ("low_res", low_res, self.picture)):
            if (value is None) == bool(wanted):
                raise ValueError(f"this network {'needs' if wanted else 'takes no'} {name}")
        sides = x.shape[3:] if self.dimensions == 1 else x.shape[2:]
        if any(side % self.multiple for side in sides) or (self.dimensions == 1 and x.shape[2] != 1):
            row = "a row, and its length " if self.dimensions == 1 else "of height and width "
            raise ValueError(f"images are {row}a multiple of {self.multiple}, not {tuple(x.shape[2:])}")


@dataclass(frozen=True)
class LucidrainsUNet(Backbone):
    """The U-Net of denoising-diffusion-pytorch, `Unet` and `Unet1D`, with its defaults: 35.7 million parameters.

    Its Unet1D is dimensions 1, attention (), memory 0 and shrink "strided"; versions 0.x to 1.7 have norm "group",
    convolutions "standardised", memory 0 and no level with full attention.
    """

    channels: Annotated[int, Range(4, 16_384)] = 64
    """Width of the U-Net's first level; an even number."""
    multipliers: Multipliers = (1, 2, 4, 8)
    """Width of each level, in multiples of `channels`."""
    attention: Factors = (8,)
    """Downsampling factors with full attention; the other levels have linear attention, the middle always full."""
    heads: Heads = 4
    """Attention heads."""
    head_channels: Heads = 32
    """Channels of an attention head."""
    memory: Annotated[int, Range(0, 4096)] = 4
    """Learned keys and values beside those of the pixels."""
    first: Annotated[int, Range(0, 16_384)] = 0
    """Channels after the first convolution; 0 for `channels`."""
    times: Literal["sinusoids", "learned", "random"] = "sinusoids"
    """Rates of the time's sinusoids: fixed, for numbered levels; learned or random, for log SNR and ln sigma."""
    rates: Annotated[int, Range(2, 4096)] = 16
    """Features of learned and random rates, two a rate; an even number."""
    period: Annotated[float, Range(1, 1e9, above=True)] = 10_000.0
    """The slowest of the fixed sinusoids, as a multiple of the fastest."""
    dropout: Share = 0.0
    """Dropout inside the residual blocks."""
    norm: Literal["rms", "group"] = "rms"
    """Of the residual blocks."""
    attention_norm: Literal["rms", "layer"] = "rms"
    """Of attention; layer in versions up to 1.6."""
    convolutions: Literal["plain", "standardised"] = "plain"
    """Of the residual blocks; standardised up to 1.7, where linear attention also averages over pixels."""
    shrink: Literal["unshuffled", "strided"] = "unshuffled"
    """How levels halve the size: 2 x 2 pixels as channels, or a convolution of 4 x 4."""
    dimensions: Literal[1, 2] = 2
    """1 for rows of numbers, as images of height 1."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.channels % 2 or self.rates % 2:
            raise ValueError("channels and rates are even, for sines and cosines")
        if self.dimensions == 1 and (self.shrink, self.convolutions) != ("strided", "plain"):
            raise ValueError("a network of one dimension has strided, plain convolutions")

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> nn.Module:
        multiple = 2 ** (len(self.multipliers) - 1)
        if self.dimensions == 1 and shape[1] != 1:
            raise ValueError(f"a network of one dimension takes images of height 1, not {shape[1]}")
        if any(side % multiple for side in shape[2 if self.dimensions == 1 else 1 :]):
            raise ValueError(
                f"{len(self.multipliers)} levels need sides that are multiples of {multiple}, not {shape[1:]}"
            )
        return LucidNet(self, shape, outputs, given)
