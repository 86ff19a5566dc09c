"""ADM's classifier of noisy images (Dhariwal & Nichol 2021, section 4): the way down of its U-Net, and a pool.

Its input gradient is what guides sampling; four ways to pool are in use, of which the paper's is "attention".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.backbone import NOTHING, Backbone, Embedded
from sfumato.networks.blocks import (
    Attention,
    Downsample,
    GroupNorm,
    Level,
    ResBlock,
    attend,
    check_choice,
    cos_sin,
    count_heads,
    halve,
    heads_first,
    time_mlp,
    zeroed,
)

POOLS = ("adaptive", "attention", "spatial", "spatial_v2")


class AttentionPool(nn.Module):
    """One vector an image: the output of self-attention (Radford et al. 2021, section 2.4) at the mean of the pixels.

    Args:
        channels, out_channels: of the input and of the output.
        heads: attention heads.
        size: height and width of the input; each pixel, and the mean, has its learned position.
    """

    def __init__(self, channels: int, out_channels: int, heads: int, size: int) -> None:
        super().__init__()
        self.heads, self.size = heads, size
        self.position = nn.Parameter(torch.randn(size**2 + 1, channels) / channels**0.5)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = nn.Linear(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, size, size) -> (B, out_channels)."""
        if x.shape[2:] != (self.size, self.size):
            raise ValueError(f"attention pooling was made for {self.size}x{self.size}, not {x.shape[2]}x{x.shape[3]}")
        tokens = x.flatten(2).transpose(1, 2)
        tokens = torch.cat([tokens.mean(dim=1, keepdim=True), tokens], dim=1) + self.position
        q, k, v = heads_first(self.qkv(tokens), self.heads)
        return self.out(attend(q[:, :, :1], k, v).flatten(1))


class EncoderUNet(nn.Module):
    """A classifier of noisy images, by default ADM's for 256x256 ImageNet: 54 million parameters.

    The arguments are plain values, so that JSON can carry them; those not named below are `UNet`'s.

    Args:
        num_classes: how many logits an image gets.
        pool: "attention" is `AttentionPool`; "adaptive" the mean over pixels and a 1x1 convolution; "spatial" and
            "spatial_v2" the means over pixels after every block, and a small network (without and with group norm).
        image_size: height and width of the images; only "attention" needs it.
    """

    down: Any  # a ModuleList of Level

    def __init__(
        self,
        *,
        in_channels: int = 3,
        num_classes: int = 1000,
        channels: int = 128,
        multipliers: Sequence[float] = (1, 1, 2, 2, 4, 4),
        blocks_per_level: int = 2,
        attention_factors: Sequence[int] = (8, 16, 32),
        heads: int = 1,
        head_channels: int | None = 64,
        dropout: float = 0.0,
        scale_shift: bool = True,
        resample: Literal["conv", "pool", "residual"] = "residual",
        pool: Literal["adaptive", "attention", "spatial", "spatial_v2"] = "attention",
        image_size: int = 256,
    ) -> None:
        super().__init__()
        if pool not in POOLS:
            raise ValueError(f"pool is one of {', '.join(POOLS)}, not {pool!r}")
        self.in_channels, self.channels, self.pool = in_channels, channels, pool
        emb_channels = 4 * channels
        block = partial(ResBlock, emb_channels=emb_channels, dropout=dropout, scale_shift=scale_shift)

        def attention(width: int) -> nn.Module:
            return Attention(width, count_heads(width, heads, head_channels))

        def downsample(width: int) -> nn.Module:
            if resample == "residual":
                return block(width, width, resample=halve)
            return Downsample(width, resample == "conv")

        self.time_mlp = time_mlp(channels, emb_channels)
        widths = [int(multiplier * channels) for multiplier in multipliers]
        last = len(widths) - 1
        width = widths[0]
        self.conv_in = nn.Conv2d(in_channels, width, 3, padding=1)
        features = width  # channels of everything that "spatial" pools

        self.down = nn.ModuleList()
        for i, out in enumerate(widths):
            blocks = [block(c, out) for c in [width] + [out] * (blocks_per_level - 1)]
            attentions = [attention(out) if 2**i in attention_factors else None for _ in blocks]
            self.down.append(Level(blocks, attentions, downsample(out) if i < last else None))
            features += out * (blocks_per_level + (i < last))
            width = out
        self.middle: Any = Level([block(width, width), block(width, width)], [attention(width), None])
        features += width

        if pool == "attention":
            pooling = AttentionPool(width, num_classes, count_heads(width, heads, head_channels), image_size // 2**last)
            self.out = nn.Sequential(GroupNorm(width), nn.SiLU(), pooling)
        elif pool == "adaptive":
            conv = zeroed(nn.Conv2d(width, num_classes, 1))
            self.out = nn.Sequential(GroupNorm(width), nn.SiLU(), nn.AdaptiveAvgPool2d(1), conv, nn.Flatten())
        elif pool == "spatial":
            self.out = nn.Sequential(nn.Linear(features, 2048), nn.ReLU(), nn.Linear(2048, num_classes))
        else:
            hidden = [nn.Linear(features, 2048), GroupNorm(2048), nn.SiLU()]
            self.out = nn.Sequential(*hidden, nn.Linear(2048, num_classes))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (B, in_channels, H, W), t (B,) the number that stands for the noise level -> logits (B, num_classes).

        Raises: ValueError where an input does not fit the network.
        """
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x is (B, {self.in_channels}, H, W) for this network, not {tuple(x.shape)}")
        multiple = 2 ** (len(self.down) - 1)
        if x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(f"{x.shape[2]}x{x.shape[3]} images do not fit: the sides must be multiples of {multiple}")
        if t.shape != x.shape[:1]:
            raise ValueError(f"t is one number an image, ({len(x)},), not {tuple(t.shape)}")
        dtype = self.conv_in.weight.dtype
        emb = F.silu(self.time_mlp(cos_sin(t, self.channels).to(dtype)))
        h = self.conv_in(x.to(dtype))
        features = [h.mean(dim=(2, 3))]
        for level in self.down:
            for block, attention in level:
                h = attention(block(h, emb))
                features.append(h.mean(dim=(2, 3)))
            if level.resample is not None:
                h = level.resample(h, emb)
                features.append(h.mean(dim=(2, 3)))
        for block, attention in self.middle:
            h = attention(block(h, emb))
        features.append(h.mean(dim=(2, 3)))
        h = torch.cat(features, dim=1) if self.pool.startswith("spatial") else h
        return self.out(h).to(x.dtype)


@dataclass(frozen=True)
class Encoder(Backbone):
    """The classifier of noisy images (Dhariwal & Nichol 2021, section 4.1), as for 256x256 ImageNet: 54 million."""

    channels: int = 128
    """Width of the network's first level."""
    multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (8, 16, 32)
    """Downsampling factors with self-attention."""
    head_channels: int = 64
    """Channels of an attention head."""
    pool: Literal["attention", "adaptive", "spatial", "spatial_v2"] = "attention"
    """How pixels become one answer."""
    dropout: float = 0.0
    """Dropout inside the residual blocks."""

    def __post_init__(self) -> None:
        check_choice("pool", self.pool, POOLS)

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> EncoderUNet:
        """The classifier of images of this shape; `outputs` is the number of classes that it tells apart."""
        if given.labels or given.picture:
            raise ValueError("a classifier is conditioned on the noise level alone")
        return EncoderUNet(
            in_channels=shape[0], num_classes=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, head_channels=self.head_channels,
            dropout=self.dropout, pool=self.pool, image_size=shape[1],
        )  # fmt: skip
