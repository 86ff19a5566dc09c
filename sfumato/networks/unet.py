"""One U-Net that is, by its options, DDPM's (`ho`), Improved DDPM's (`improved`) and ADM's (`adm`), and their upsamplers.

Ho et al. 2020, appendix B; Nichol & Dhariwal 2021, appendix A; Dhariwal & Nichol 2021, section 3. Down: at each level
some residual blocks, with attention where asked, then half the size; up: one block more a level, each of which takes
one kept feature map.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint as recompute

from sfumato.networks.blocks import (
    Attention,
    Downsample,
    Embedding,
    ResidualBlock,
    Upsample,
    conv,
    cos_sin,
    head_count,
    norm,
    sin_cos,
    zeroed,
)

Resample = Literal["conv", "pool", "residual"]
"""How the size changes: by convolutions, by pooling and repeating alone, or inside residual blocks (ADM)."""


class Stage(nn.Module):
    """One residual block, and attention after it where asked."""

    def __init__(self, block: ResidualBlock, attention: Attention | None = None) -> None:
        super().__init__()
        self.block, self.attention = block, attention

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        x = self.block(x, embedding)
        return x if self.attention is None else self.attention(x)


class Resize(nn.Module):
    """A change of size in the place of a stage."""

    def __init__(self, layer: Downsample | Upsample) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        return self.layer(x)


class Parts:
    """Makes the parts of a U-Net with its options filled in; `UNet` and the classifier both build from it."""

    def __init__(
        self, embedding: int, dropout: float, eps: float, scale_shift: bool, heads: int, head_channels: int | None,
        attention_factors: Sequence[int], resample: Resample, same_padding: bool,
    ) -> None:  # fmt: skip
        self.residual = partial(
            ResidualBlock, embedding=embedding, dropout=dropout, eps=eps, scale_shift=scale_shift
        )
        self.eps, self.heads, self.head_channels = eps, heads, head_channels
        self.attention_factors, self.resample, self.same_padding = tuple(attention_factors), resample, same_padding

    def attention(self, channels: int) -> Attention:
        return Attention(channels, head_count(channels, self.heads, self.head_channels), self.eps)

    def stage(self, in_channels: int, out_channels: int, factor: int) -> Stage:
        attention = self.attention(out_channels) if factor in self.attention_factors else None
        return Stage(self.residual(in_channels, out_channels), attention)

    def down(self, channels: int) -> nn.Module:
        if self.resample == "residual":
            return Stage(self.residual(channels, channels, resize=partial(F.avg_pool2d, kernel_size=2)))
        return Resize(Downsample(channels, self.resample == "conv", self.same_padding))

    def up(self, channels: int) -> nn.Module:
        if self.resample == "residual":
            return Stage(self.residual(channels, channels, resize=partial(F.interpolate, scale_factor=2.0)))
        return Resize(Upsample(channels, self.resample == "conv"))

    def middle(self, channels: int) -> nn.ModuleList:
        first = Stage(self.residual(channels, channels), self.attention(channels))
        return nn.ModuleList([first, Stage(self.residual(channels, channels))])


class TimeEmbedding(nn.Module):
    """Sinusoids of t through two linear layers, (B,) -> (B, 4 channels)."""

    def __init__(self, channels: int, waves: Embedding) -> None:
        super().__init__()
        self.channels, self.waves = channels, waves
        self.linear1 = nn.Linear(channels, 4 * channels)
        self.linear2 = nn.Linear(4 * channels, 4 * channels)

    def forward(self, t: Tensor) -> Tensor:
        return self.linear2(F.silu(self.linear1(self.waves(t, self.channels))))


class UNet(nn.Module):
    """The U-Net. `ho`, `improved` and `adm` below fill in what each paper fixed.

    Args:
        in_channels, out_channels: of the images; twice as many come out for a learned variance.
        channels: the width that `multipliers` multiply; the embedding of time is four times as wide.
        multipliers: the width of each level; each level has half the size of the one before.
        blocks_per_level: residual blocks on the way down; one more on the way up.
        attention_factors: downsampling factors (1, 2, 4, ...) at which attention follows each block.
        heads, head_channels: attention heads, by number or by width.
        dropout: before each block's second convolution.
        num_classes: labels y in [0, num_classes) are added to the time; None for an unconditional network.
        low_res_channels: channels of the small image that an upsampler is given besides.
        stem: width of the first convolution, where it differs from the first level's.
        waves: the sinusoids of time; eps: of GroupNorm; scale_shift, resample, same_padding: see `blocks`.
        checkpoint: recompute each block in the backward pass instead of keeping its activations.
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
        head_channels: int | None = None,
        dropout: float = 0.0,
        num_classes: int | None = None,
        low_res_channels: int = 0,
        stem: int | None = None,
        waves: Embedding = cos_sin,
        eps: float = 1e-5,
        scale_shift: bool = False,
        resample: Resample = "conv",
        same_padding: bool = False,
        checkpoint: bool = False,
    ) -> None:
        super().__init__()
        self.in_channels, self.num_classes, self.low_res_channels = in_channels, num_classes, low_res_channels
        self.checkpoint, self.factor = checkpoint, 2 ** (len(multipliers) - 1)
        widths = [int(m * channels) for m in multipliers]
        stem = widths[0] if stem is None else stem
        parts = Parts(
            4 * channels, dropout, eps, scale_shift, heads, head_channels, attention_factors, resample, same_padding
        )

        self.time = TimeEmbedding(channels, waves)
        self.label = None if num_classes is None else nn.Embedding(num_classes, 4 * channels)
        self.stem = conv(in_channels + low_res_channels, stem)

        self.down = nn.ModuleList()
        width, kept = stem, [stem]  # kept: the widths of the feature maps that the way up will take
        for level, out in enumerate(widths):
            for _ in range(blocks_per_level):
                self.down.append(parts.stage(width, out, 2**level))
                width = out
                kept.append(width)
            if level < len(widths) - 1:
                self.down.append(parts.down(width))
                kept.append(width)

        self.middle = parts.middle(width)

        self.up = nn.ModuleList()
        for level, out in reversed(list(enumerate(widths))):
            for _ in range(blocks_per_level + 1):
                self.up.append(parts.stage(width + kept.pop(), out, 2**level))
                width = out
            if level > 0:
                self.up.append(parts.up(width))
        # an up stage takes a kept feature map; a change of size takes none
        self.takes = [not _resizes(stage) for stage in self.up]

        self.norm = norm(width, eps)
        self.out = zeroed(conv(width, out_channels))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None) -> Tensor:
        """x (B, C, H, W), t (B,), y (B,) int64, low_res (B, C', h, w) -> (B, out_channels, H, W).

        Raises:
            ValueError: labels or a small image missing or not wanted, a wrong number of channels, a size that does
                not halve evenly at every level.
        """
        self._check(x, y, low_res)
        if low_res is not None:
            x = torch.cat([x, F.interpolate(low_res, x.shape[-2:], mode="bilinear")], dim=1)
        embedding = self.time(t)
        if self.label is not None:
            embedding = embedding + self.label(y)
        x = self.stem(x)
        kept = [x]
        for stage in self.down:
            x = self._run(stage, x, embedding)
            kept.append(x)
        for stage in self.middle:
            x = self._run(stage, x, embedding)
        for stage, takes in zip(self.up, self.takes, strict=True):
            x = self._run(stage, torch.cat([x, kept.pop()], dim=1) if takes else x, embedding)
        return self.out(F.silu(self.norm(x)))

    def _run(self, stage: nn.Module, x: Tensor, embedding: Tensor) -> Tensor:
        if self.checkpoint and torch.is_grad_enabled():
            return recompute(stage, x, embedding, use_reentrant=False)
        return stage(x, embedding)

    def _check(self, x: Tensor, y: Tensor | None, low_res: Tensor | None) -> None:
        if x.shape[1] != self.in_channels:
            raise ValueError(f"this network takes images of {self.in_channels} channels, not {x.shape[1]}")
        if x.shape[-1] % self.factor or x.shape[-2] % self.factor:
            raise ValueError(f"height and width must be multiples of {self.factor}, not {x.shape[-2]}x{x.shape[-1]}")
        if (y is None) != (self.num_classes is None):
            raise ValueError(
                "this network was built without classes, so it takes no labels"
                if y is not None
                else f"this network needs labels y (B,) in [0, {self.num_classes})"
            )
        if y is not None and self.num_classes and y.device.type == "cpu" and bool((y < 0).any() | (y >= self.num_classes).any()):
            raise ValueError(f"labels lie in [0, {self.num_classes}), not {int(y.min())} to {int(y.max())}")
        if (low_res is None) != (self.low_res_channels == 0):
            raise ValueError(
                "this network is no upsampler, so it takes no low_res" if low_res is not None else "an upsampler needs low_res"
            )


def _resizes(stage: nn.Module) -> bool:
    return isinstance(stage, Resize) or (isinstance(stage, Stage) and stage.block.resize is not None)


# ---------------------------------------------------------------- the three papers, side by side


def ho(*, channels: int = 128, **options: Any) -> UNet:
    """DDPM's: sines first, GroupNorm eps 1e-6, SAME padding, one head, embedding added (Ho et al. 2020)."""
    return UNet(channels=channels, stem=channels, waves=sin_cos, eps=1e-6, same_padding=True, **options)


def improved(*, channels: int = 128, scale_shift: bool = True, heads: int = 4, **options: Any) -> UNet:
    """Improved DDPM's: cosines first, four heads, the embedding scales and shifts (Nichol & Dhariwal 2021)."""
    return UNet(channels=channels, stem=channels, scale_shift=scale_shift, heads=heads, **options)


def adm(*, head_channels: int | None = 64, resample: Resample = "residual", **options: Any) -> UNet:
    """ADM's: heads of 64 channels, changes of size inside residual blocks (Dhariwal & Nichol 2021, table 4)."""
    return UNet(scale_shift=True, head_channels=head_channels, resample=resample, **options)
