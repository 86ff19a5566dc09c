"""The U-Net of the diffusion papers: `HoUNet` (Ho et al. 2020, appendix B), `ImprovedUNet` (Nichol & Dhariwal 2021) and
`ADMUNet` (Dhariwal & Nichol 2021), which differ in what they pass to the one module.

Given a further picture, the network also sees a small image, which it learns to enlarge (both OpenAI papers).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import (
    NOTHING,
    Backbone,
    Channels,
    Embedded,
    Factors,
    Few,
    Heads,
    Multipliers,
    RealMultipliers,
    Share,
)
from sfumato.networks.blocks import (
    Attention,
    GroupNorm,
    ResBlock,
    convolution,
    cos_sin,
    count_heads,
    fan_average,
    norm_act,
    sin_cos,
    time_mlp,
    zeroed,
)
from sfumato.networks.fir import Down, Resample, Up, convolved, residual
from sfumato.networks.skeleton import Layers, Skeleton


class UNet(Skeleton):
    """A U-Net from noisy images and a number for the noise level to images of the same size.

    Args:
        in_channels, out_channels: of the images; out_channels is twice in_channels where a variance is learned too.
        channels: the unit of width.
        multipliers: the width of each level in units of `channels`; their number is the number of levels.
        blocks_per_level, attention_factors, num_classes, low_res_channels, numbers: see `Skeleton`.
        heads: attention heads; `heads_up` of them on the way up, if given. Or:
        head_channels: channels of a head, from which the number of heads follows.
        dropout: rate inside the residual blocks.
        scale_shift: how the embedding enters the residual blocks, see `ResBlock`.
        resample: between levels, `convolved`, `pooled` or `residual`.
        asymmetric: padding of the strided convolutions, see `Down`.
        embedding: sinusoids of the time, `sin_cos` or `cos_sin`.
        groups, norm_eps: of the group norms.
        stem: channels after the first convolution; `multipliers[0] * channels` where None.
        dims: 1 for signals (B, C, L), 2 for images, 3 for clips (B, C, T, H, W).
    """

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int = 3,
        channels: int = 128,
        multipliers: Sequence[float] = (1, 2, 2, 2),
        blocks_per_level: int = 2,
        attention_factors: Sequence[int] = (2,),
        heads: int = 1,
        heads_up: int | None = None,
        head_channels: int | None = None,
        dropout: float = 0.0,
        num_classes: int | None = None,
        low_res_channels: int = 0,
        numbers: int = 0,
        scale_shift: bool = False,
        resample: Resample = convolved,
        asymmetric: bool = False,
        embedding: Callable[[Tensor, int], Tensor] = cos_sin,
        groups: int = 32,
        norm_eps: float = 1e-5,
        stem: int | None = None,
        dims: int = 2,
    ) -> None:
        widths = [int(multiplier * channels) for multiplier in multipliers]
        super().__init__(
            in_channels, widths, blocks_per_level, attention_factors, num_classes, low_res_channels, numbers=numbers,
            dims=dims,
        )  # fmt: skip
        self.channels, self.embedding = channels, embedding
        norm = partial(GroupNorm, groups=groups, eps=norm_eps)
        block = partial(
            ResBlock, emb_channels=4 * channels, dropout=dropout, scale_shift=scale_shift, norm=norm, dims=dims
        )

        def attention(width: int, heads: int = heads) -> nn.Module:
            return Attention(width, count_heads(width, heads, head_channels), norm)

        down, up = partial(Down, asymmetric=asymmetric, dims=dims), partial(Up, dims=dims)
        attention_up = partial(attention, heads=heads_up or heads)
        self.time_mlp = time_mlp(channels, 4 * channels)
        self.embed_labels(4 * channels)
        skips = self.wire_down(Layers(block, attention, lambda width: resample(width, block, down)), stem or widths[0])
        self.wire_up(Layers(block, attention_up, lambda width: resample(width, block, up)), skips)
        self.norm_out = norm(widths[0])
        self.conv_out = zeroed(convolution(dims, widths[0], out_channels, padding=1))

    def embed(self, t: Tensor, dtype: torch.dtype) -> Tensor:
        return self.time_mlp(self.embedding(t, self.channels).to(dtype))

    def draw(self, h: Tensor, beside: None) -> Tensor:
        return self.conv_out(norm_act(self.norm_out, h))


# ---------------------------------------------------------------- the papers' networks, as configurations


@dataclass(frozen=True)
class HoUNet(Backbone):
    """The U-Net of DDPM and DDIM (Ho et al. 2020, appendix B), as for 32x32 images: 35.7 million parameters.

    For 256x256: multipliers (1, 1, 2, 2, 4, 4), attention (16,), dropout 0: 114 million.
    """

    channels: Channels = 128
    """Width of the U-Net's first level."""
    multipliers: Multipliers = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: Few = 2
    """Residual blocks a level."""
    attention: Factors = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: Share = 0.1
    """Dropout inside the residual blocks."""

    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UNet:
        net = UNet(
            in_channels=shape[0], out_channels=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, dropout=self.dropout,
            num_classes=given.labels or None, low_res_channels=given.picture, numbers=given.numbers,
            asymmetric=True, embedding=sin_cos, norm_eps=1e-6, stem=self.channels, dims=len(shape) - 1,
        )  # fmt: skip
        return fan_average(net)


@dataclass(frozen=True)
class ImprovedUNet(Backbone):
    """The U-Net of Improved DDPM (Nichol & Dhariwal 2021, appendix A), as for CIFAR-10: 52.5 million parameters.

    For 64x64 ImageNet: multipliers (1, 2, 3, 4), attention (4, 8): 121 million. The LSUN model has no scale_shift and
    one head.
    """

    channels: Channels = 128
    """Width of the U-Net's first level."""
    multipliers: RealMultipliers = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`."""
    blocks: Few = 3
    """Residual blocks a level."""
    attention: Factors = (2, 4)
    """Downsampling factors with self-attention."""
    heads: Heads = 4
    """Attention heads."""
    scale_shift: bool = True
    """Whether the embedding scales and shifts the residual blocks; the paper's LSUN model only adds it."""
    dropout: Share = 0.3
    """Dropout inside the residual blocks."""

    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UNet:
        return UNet(
            in_channels=shape[0], out_channels=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, heads=self.heads, dropout=self.dropout,
            num_classes=given.labels or None, low_res_channels=given.picture, numbers=given.numbers,
            scale_shift=self.scale_shift, dims=len(shape) - 1,
        )  # fmt: skip


@dataclass(frozen=True)
class ADMUNet(Backbone):
    """The U-Net of ADM (Dhariwal & Nichol 2021, section 3), as for 256x256 ImageNet: 554 million parameters.

    For 64x64: channels 192, multipliers (1, 2, 3, 4), 3 blocks, attention (2, 4, 8), dropout 0.1: 296 million.
    """

    channels: Channels = 256
    """Width of the U-Net's first level."""
    multipliers: RealMultipliers = (1, 1, 2, 2, 4, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: Few = 2
    """Residual blocks a level."""
    attention: Factors = (8, 16, 32)
    """Downsampling factors with self-attention."""
    head_channels: Annotated[int, Range(0, 16_384)] = 64
    """Channels of an attention head; 0 takes `heads` heads instead."""
    heads: Heads = 4
    """Attention heads where head_channels is 0, as in the 128x128 model and the 64 -> 256 upsampler."""
    dropout: Share = 0.0
    """Dropout inside the residual blocks."""

    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UNet:
        return UNet(
            in_channels=shape[0], out_channels=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, heads=self.heads,
            head_channels=self.head_channels or None, dropout=self.dropout, num_classes=given.labels or None,
            low_res_channels=given.picture, numbers=given.numbers, scale_shift=True, resample=residual,
            dims=len(shape) - 1,
        )  # fmt: skip
