"""The U-Net of the diffusion papers: `ho` (Ho et al. 2020, appendix B), `improved` (Nichol & Dhariwal 2021) and `adm`
(Dhariwal & Nichol 2021), which differ in the options that these three functions state side by side.

Given `low_res_channels`, the network also sees a small image, which it learns to enlarge (both OpenAI papers).
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
    Upsample,
    cos_sin,
    count_heads,
    double,
    halve,
    norm_act,
    sin_cos,
    time_mlp,
    zeroed,
)

EMBEDDING = {"sin_cos": sin_cos, "cos_sin": cos_sin}


class UNet(nn.Module):
    """A convolutional network from noisy images and a number for the noise level to images of the same size.

    Level i works at 1 / 2^i of the resolution with `multipliers[i] * channels` channels; on the way up, every block
    also sees what the way down left at its resolution. All arguments are plain values, so that JSON can carry them.

    Args:
        in_channels, out_channels: of the images; out_channels is twice in_channels where a variance is learned too.
        channels: the unit of width.
        multipliers: the width of each level in units of `channels`; their number is the number of levels.
        blocks_per_level: residual blocks of each level on the way down; one more on the way up.
        attention_factors: the levels with self-attention, by the factor 2^i by which they are smaller than the image.
        heads: attention heads; `heads_up` of them on the way up, if given. Or:
        head_channels: channels of a head, from which the number of heads follows.
        dropout: rate inside the residual blocks.
        num_classes: makes the network conditional on a label y.
        low_res_channels: makes the network see a smaller image with this many channels.
        scale_shift: how the embedding enters the residual blocks, see `ResBlock`.
        resample: between levels, "conv" for strided convolutions, "pool" for plain pooling and nearest neighbours,
            "residual" for residual blocks that resample.
        asymmetric: padding of the strided convolutions, see `Downsample`.
        embedding: sinusoids of the time, see `sin_cos` and `cos_sin`.
        groups, norm_eps: of the group norms.
        stem: channels after the first convolution; `multipliers[0] * channels` where None.
    """

    down: Any  # a ModuleList of Level; so is up
    up: Any

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
        scale_shift: bool = False,
        resample: Literal["conv", "pool", "residual"] = "conv",
        asymmetric: bool = False,
        embedding: Literal["sin_cos", "cos_sin"] = "cos_sin",
        groups: int = 32,
        norm_eps: float = 1e-5,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        if embedding not in EMBEDDING:
            raise ValueError(f"embedding is one of {', '.join(EMBEDDING)}, not {embedding!r}")
        if resample not in ("conv", "pool", "residual"):
            raise ValueError(f"resample is one of conv, pool, residual, not {resample!r}")
        if unused := set(attention_factors) - {2**i for i in range(len(multipliers))}:
            raise ValueError(f"no level is smaller by the attention factors {sorted(unused)}")
        self.in_channels, self.channels = in_channels, channels
        self.num_classes, self.low_res_channels = num_classes, low_res_channels
        self.embedding = EMBEDDING[embedding]

        emb_channels = 4 * channels
        norm = partial(GroupNorm, groups=groups, eps=norm_eps)
        block = partial(
            ResBlock,
            emb_channels=emb_channels,
            dropout=dropout,
            scale_shift=scale_shift,
            groups=groups,
            norm_eps=norm_eps,
        )

        def attention(width: int, heads: int, factor: int = 0) -> nn.Module | None:
            if factor and factor not in attention_factors:
                return None
            return Attention(width, count_heads(width, heads, head_channels), groups, norm_eps)

        def down(width: int) -> nn.Module:
            if resample == "residual":
                return block(width, width, resample=halve)
            return Downsample(width, resample == "conv", asymmetric)

        def up(width: int) -> nn.Module:
            if resample == "residual":
                return block(width, width, resample=double)
            return Upsample(width, resample == "conv")

        self.time_mlp = time_mlp(channels, emb_channels)
        self.label_embedding = None if num_classes is None else nn.Embedding(num_classes, emb_channels)

        widths = [int(multiplier * channels) for multiplier in multipliers]
        last = len(widths) - 1
        width = stem or widths[0]
        self.conv_in = nn.Conv2d(in_channels + low_res_channels, width, 3, padding=1)
        skips = [width]  # channels of what the way down leaves for the way up

        self.down = nn.ModuleList()
        for i, out in enumerate(widths):
            blocks = [block(c, out) for c in [width] + [out] * (blocks_per_level - 1)]
            attentions = [attention(out, heads, 2**i) for _ in blocks]
            self.down.append(Level(blocks, attentions, down(out) if i < last else None))
            skips += [out] * (blocks_per_level + (i < last))
            width = out

        self.middle = Level([block(width, width), block(width, width)], [attention(width, heads), None])

        levels = []
        for i, out in reversed(list(enumerate(widths))):
            blocks = [block(c + skips.pop(), out) for c in [width] + [out] * blocks_per_level]
            attentions = [attention(out, heads_up or heads, 2**i) for _ in blocks]
            levels.append(Level(blocks, attentions, up(out) if i > 0 else None))
            width = out
        self.up = nn.ModuleList(reversed(levels))  # up[i] works at the resolution of down[i]

        self.norm_out = norm(width)
        self.conv_out = zeroed(nn.Conv2d(width, out_channels, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None) -> Tensor:
        """One evaluation.

        Args:
            x: (B, in_channels, H, W) images; H and W must be multiples of 2^(levels - 1).
            t: (B,) the number that stands for the noise level, integer or real.
            y: (B,) labels from 0 to num_classes - 1, where the network has classes.
            low_res: (B, low_res_channels, h, w), where it has low_res_channels; enlarged bilinearly to x's size.

        Returns: (B, out_channels, H, W) in x's precision.

        Raises: ValueError where an input does not fit the network.
        """
        self._check(x, t, y, low_res)
        dtype = self.conv_in.weight.dtype
        emb = self.time_mlp(self.embedding(t, self.channels).to(dtype))
        if self.label_embedding is not None:
            emb = emb + self.label_embedding(y)
        emb = F.silu(emb)

        h = x
        if low_res is not None:
            h = torch.cat([x, F.interpolate(low_res.to(x.dtype), x.shape[2:], mode="bilinear")], dim=1)
        h = self.conv_in(h.to(dtype))
        skips = [h]
        for level in self.down:
            for block, attention in level:
                h = attention(block(h, emb))
                skips.append(h)
            if level.resample is not None:
                h = level.resample(h, emb)
                skips.append(h)
        for block, attention in self.middle:
            h = attention(block(h, emb))
        for level in reversed(self.up):
            for block, attention in level:
                h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
            if level.resample is not None:
                h = level.resample(h, emb)
        return self.conv_out(norm_act(self.norm_out, h)).to(x.dtype)

    def _check(self, x: Tensor, t: Tensor, y: Tensor | None, low_res: Tensor | None) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x is (B, {self.in_channels}, H, W) for this network, not {tuple(x.shape)}")
        multiple = 2 ** (len(self.down) - 1)
        if x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(
                f"{x.shape[2]}x{x.shape[3]} images do not fit a U-Net with {len(self.down)} levels: "
                f"height and width must be multiples of {multiple}"
            )
        if t.shape != x.shape[:1]:
            raise ValueError(f"t is one number an image, ({len(x)},), not {tuple(t.shape)}")
        check_labels(y, self.num_classes, x.shape[0])
        if (low_res is None) == (self.low_res_channels > 0):
            raise ValueError("this network needs low_res" if low_res is None else "this network takes no low_res")
        if low_res is not None and (low_res.ndim != 4 or low_res.shape[:2] != (x.shape[0], self.low_res_channels)):
            raise ValueError(f"low_res is ({len(x)}, {self.low_res_channels}, h, w), not {tuple(low_res.shape)}")


def check_labels(y: Tensor | None, num_classes: int | None, batch: int) -> None:
    """Raise ValueError unless y fits: (batch,) labels below num_classes, or None where the network has no classes."""
    if num_classes is None:
        if y is not None:
            raise ValueError("labels y were given to a network without classes")
        return
    if y is None:
        raise ValueError(f"this network needs labels y, ({batch},) integers from 0 to {num_classes - 1}")
    if y.shape != (batch,) or y.is_floating_point():
        raise ValueError(f"y is one integer label an image, ({batch},), not {tuple(y.shape)} of {y.dtype}")
    if y.device.type == "cpu" and not torch.compiler.is_compiling():  # elsewhere a look at y would be a wait
        for label in y[(y < 0) | (y >= num_classes)].tolist():
            raise ValueError(f"labels run from 0 to {num_classes - 1}, but y holds {label}")


# ---------------------------------------------------------------- the papers' networks


def ho(
    *,
    in_channels: int = 3,
    out_channels: int = 3,
    channels: int = 128,
    multipliers: Sequence[float] = (1, 2, 2, 2),
    blocks_per_level: int = 2,
    attention_factors: Sequence[int] = (2,),
    dropout: float = 0.1,
    num_classes: int | None = None,
) -> UNet:
    """DDPM's and DDIM's network (Ho et al. 2020, appendix B), by default as for 32x32 images: 35.7 million parameters.

    For 256x256: multipliers (1, 1, 2, 2, 4, 4), attention_factors (16,), dropout 0: 114 million.
    """
    net = UNet(
        in_channels=in_channels,
        out_channels=out_channels,
        channels=channels,
        multipliers=multipliers,
        blocks_per_level=blocks_per_level,
        attention_factors=attention_factors,
        heads=1,
        dropout=dropout,
        num_classes=num_classes,
        scale_shift=False,
        resample="conv",
        asymmetric=True,
        embedding="sin_cos",
        norm_eps=1e-6,
        stem=channels,
    )
    return fan_average(net)


def improved(
    *,
    in_channels: int = 3,
    out_channels: int = 6,
    channels: int = 128,
    multipliers: Sequence[float] = (1, 2, 2, 2),
    blocks_per_level: int = 3,
    attention_factors: Sequence[int] = (2, 4),
    heads: int = 4,
    dropout: float = 0.0,
    num_classes: int | None = None,
    low_res_channels: int = 0,
    scale_shift: bool = True,
) -> UNet:
    """Improved DDPM's network (Nichol & Dhariwal 2021, appendix A), by default as for CIFAR-10: 52.5 million weights.

    For 64x64 ImageNet: multipliers (1, 2, 3, 4), attention_factors (4, 8): 121 million. The LSUN model has no
    scale_shift and one head.
    """
    return UNet(
        in_channels=in_channels,
        out_channels=out_channels,
        channels=channels,
        multipliers=multipliers,
        blocks_per_level=blocks_per_level,
        attention_factors=attention_factors,
        heads=heads,
        dropout=dropout,
        num_classes=num_classes,
        low_res_channels=low_res_channels,
        scale_shift=scale_shift,
        resample="conv",
        asymmetric=False,
        embedding="cos_sin",
        norm_eps=1e-5,
    )


def adm(
    *,
    in_channels: int = 3,
    out_channels: int = 6,
    channels: int = 256,
    multipliers: Sequence[float] = (1, 1, 2, 2, 4, 4),
    blocks_per_level: int = 2,
    attention_factors: Sequence[int] = (8, 16, 32),
    heads: int = 1,
    head_channels: int | None = 64,
    dropout: float = 0.0,
    num_classes: int | None = 1000,
    low_res_channels: int = 0,
) -> UNet:
    """ADM's network (Dhariwal & Nichol 2021, section 3), by default as for 256x256 ImageNet: 554 million parameters.

    For 64x64: channels 192, multipliers (1, 2, 3, 4), 3 blocks, attention_factors (2, 4, 8), dropout 0.1: 296 million.
    """
    return UNet(
        in_channels=in_channels,
        out_channels=out_channels,
        channels=channels,
        multipliers=multipliers,
        blocks_per_level=blocks_per_level,
        attention_factors=attention_factors,
        heads=heads,
        head_channels=head_channels,
        dropout=dropout,
        num_classes=num_classes,
        low_res_channels=low_res_channels,
        scale_shift=True,
        resample="residual",
        embedding="cos_sin",
        norm_eps=1e-5,
    )


def fan_average(net: UNet) -> UNet:
    """Ho et al.'s initial weights: uniform with variance 2 / (fan in + fan out), biases 0; what began as 0 stays 0."""
    for module in net.modules():
        if isinstance(module, nn.Conv2d | nn.Linear) and (module.weight.is_meta or module.weight.any()):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


# ---------------------------------------------------------------- the papers' networks, as configurations


@dataclass(frozen=True)
class HoUNet(Backbone):
    """The U-Net of DDPM and DDIM (Ho et al. 2020, appendix B), as for 32x32 images: 35.7 million parameters.

    For 256x256: multipliers (1, 1, 2, 2, 4, 4), attention (16,), dropout 0: 114 million.
    """

    channels: int = 128
    """Width of the U-Net's first level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: float = 0.1
    """Dropout inside the residual blocks."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UNet:
        net = UNet(
            in_channels=shape[0], out_channels=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, dropout=self.dropout,
            num_classes=given.labels or None, low_res_channels=given.picture, resample="conv", asymmetric=True,
            embedding="sin_cos", norm_eps=1e-6, stem=self.channels,
        )  # fmt: skip
        return fan_average(net)


@dataclass(frozen=True)
class ImprovedUNet(Backbone):
    """The U-Net of Improved DDPM (Nichol & Dhariwal 2021, appendix A), as for CIFAR-10: 52.5 million parameters.

    For 64x64 ImageNet: multipliers (1, 2, 3, 4), attention (4, 8): 121 million. The LSUN model has no scale_shift and
    one head.
    """

    channels: int = 128
    """Width of the U-Net's first level."""
    multipliers: tuple[float, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`."""
    blocks: int = 3
    """Residual blocks a level."""
    attention: tuple[int, ...] = (2, 4)
    """Downsampling factors with self-attention."""
    heads: int = 4
    """Attention heads."""
    scale_shift: bool = True
    """Whether the embedding scales and shifts the residual blocks; the paper's LSUN model only adds it."""
    dropout: float = 0.3
    """Dropout inside the residual blocks."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UNet:
        return UNet(
            in_channels=shape[0], out_channels=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, heads=self.heads, dropout=self.dropout,
            num_classes=given.labels or None, low_res_channels=given.picture, scale_shift=self.scale_shift,
        )  # fmt: skip


@dataclass(frozen=True)
class ADMUNet(Backbone):
    """The U-Net of ADM (Dhariwal & Nichol 2021, section 3), as for 256x256 ImageNet: 554 million parameters.

    For 64x64: channels 192, multipliers (1, 2, 3, 4), 3 blocks, attention (2, 4, 8), dropout 0.1: 296 million.
    """

    channels: int = 256
    """Width of the U-Net's first level."""
    multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (8, 16, 32)
    """Downsampling factors with self-attention."""
    head_channels: int = 64
    """Channels of an attention head; 0 takes `heads` heads instead."""
    heads: int = 4
    """Attention heads where head_channels is 0, as in the 128x128 model and the 64 -> 256 upsampler."""
    dropout: float = 0.0
    """Dropout inside the residual blocks."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UNet:
        return UNet(
            in_channels=shape[0], out_channels=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, heads=self.heads,
            head_channels=self.head_channels or None, dropout=self.dropout, num_classes=given.labels or None,
            low_res_channels=given.picture, scale_shift=True, resample="residual",
        )  # fmt: skip
