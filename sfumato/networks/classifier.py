"""ADM's classifier of noisy images (Dhariwal & Nichol 2021, section 4): the way down of its U-Net, and a pool.

Its input gradient is what guides sampling; four ways to pool are in use, of which the paper's is "attention".
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.networks.backbone import NOTHING, Backbone, Channels, Embedded, Factors, Few, Heads, RealMultipliers, Share
from sfumato.networks.blocks import (
    Attention,
    GroupNorm,
    ResBlock,
    attend,
    cos_sin,
    count_heads,
    heads_first,
    time_mlp,
    zeroed,
)
from sfumato.networks.fir import Down, Resample, residual
from sfumato.networks.skeleton import Layers, Skeleton


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


# ---------------------------------------------------------------- four ways to pool


class LastFeatures(nn.Sequential):
    """Layers that see the last of the features."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward(features[-1])


class AllFeatures(nn.Sequential):
    """Layers that see the means over pixels of all features."""

    def forward(self, features: list[Tensor]) -> Tensor:
        return super().forward(torch.cat([h.mean(dim=(2, 3)) for h in features], dim=1))


class Pooled(NamedTuple):
    """What there is to be pooled."""

    last: int
    """Channels of the last features."""
    all: int
    """Channels of all features together."""
    heads: int
    """Attention heads at the last features."""
    size: int
    """Height and width of the last features."""


Pool = Callable[[Pooled, int], nn.Sequential]
"""(what there is, number of classes) -> a layer of the features that returns logits."""


def attention_pool(found: Pooled, classes: int) -> LastFeatures:
    """`AttentionPool`, the paper's."""
    pool = AttentionPool(found.last, classes, found.heads, found.size)
    return LastFeatures(GroupNorm(found.last), nn.SiLU(), pool)


def adaptive_pool(found: Pooled, classes: int) -> LastFeatures:
    """The mean over pixels, then a 1x1 convolution."""
    conv = zeroed(nn.Conv2d(found.last, classes, 1))
    return LastFeatures(GroupNorm(found.last), nn.SiLU(), nn.AdaptiveAvgPool2d(1), conv, nn.Flatten())


def spatial_pool(found: Pooled, classes: int) -> AllFeatures:
    """The means over pixels of all features, then a small network."""
    return AllFeatures(nn.Linear(found.all, 2048), nn.ReLU(), nn.Linear(2048, classes))


def spatial_pool_v2(found: Pooled, classes: int) -> AllFeatures:
    """Likewise, with a group norm."""
    hidden = [nn.Linear(found.all, 2048), GroupNorm(2048), nn.SiLU()]
    return AllFeatures(*hidden, nn.Linear(2048, classes))


POOLS: dict[str, Pool] = {
    "adaptive": adaptive_pool,
    "attention": attention_pool,
    "spatial": spatial_pool,
    "spatial_v2": spatial_pool_v2,
}


# ---------------------------------------------------------------- the network


class EncoderUNet(Skeleton):
    """A classifier of noisy images, by default ADM's for 256x256 ImageNet: 54 million parameters.

    Args (those not named are `UNet`'s):
        num_classes: how many logits an image gets.
        pool: one of the four ways to pool.
        image_size: height and width of the images; only `attention_pool` needs it.
    """

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
        resample: Resample = residual,
        pool: Pool = attention_pool,
        image_size: int = 256,
    ) -> None:
        widths = [int(multiplier * channels) for multiplier in multipliers]
        super().__init__(in_channels, widths, blocks_per_level, attention_factors)
        self.channels = channels
        block = partial(ResBlock, emb_channels=4 * channels, dropout=dropout, scale_shift=scale_shift)
        down = partial(Down, asymmetric=False)

        def attention(width: int) -> nn.Module:
            return Attention(width, count_heads(width, heads, head_channels))

        self.time_mlp = time_mlp(channels, 4 * channels)
        skips = self.wire_down(Layers(block, attention, lambda width: resample(width, block, down)), widths[0])
        size = image_size // 2 ** (len(widths) - 1)
        last = widths[-1]
        found = Pooled(last, sum(skips) + last, count_heads(last, heads, head_channels), size)
        self.out = pool(found, num_classes)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """x (B, in_channels, H, W), t (B,) the number that stands for the noise level -> logits (B, num_classes).

        Raises: ValueError where an input does not fit the network.
        """
        self.check(x, t, y, low_res, numbers)
        emb = self.condition(t)
        features = self.descend(x, emb)
        return self.out([*features, self.bottom(features[-1], emb)]).to(x.dtype)

    def embed(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.time_mlp(cos_sin(t, self.channels).to(dtype))


@dataclass(frozen=True)
class Encoder(Backbone):
    """The classifier of noisy images (Dhariwal & Nichol 2021, section 4.1), as for 256x256 ImageNet: 54 million."""

    channels: Channels = 128
    """Width of the network's first level."""
    multipliers: RealMultipliers = (1, 1, 2, 2, 4, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: Few = 2
    """Residual blocks a level."""
    attention: Factors = (8, 16, 32)
    """Downsampling factors with self-attention."""
    head_channels: Heads = 64
    """Channels of an attention head."""
    pool: Literal["attention", "adaptive", "spatial", "spatial_v2"] = "attention"
    """How pixels become one answer."""
    dropout: Share = 0.0
    """Dropout inside the residual blocks."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> EncoderUNet:
        """The classifier of images of this shape; `outputs` is the number of classes that it tells apart."""
        if given.labels or given.picture or given.numbers:
            raise ValueError("a classifier is conditioned on the noise level alone")
        return EncoderUNet(
            in_channels=shape[0], num_classes=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, head_channels=self.head_channels,
            dropout=self.dropout, pool=POOLS[self.pool], image_size=shape[1],
        )  # fmt: skip
