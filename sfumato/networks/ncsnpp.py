"""The networks of score-based SDEs (Song et al. 2021, appendix H): NCSN++, DDPM++, and the DDPM that they grew from.

They are U-Nets that differ in what `NCSNpp`, `DDPMpp` and `SongUNet` pass to the one module.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.backbone import NOTHING, Backbone, Channels, Embedded, Factors, Few, Multipliers, Share
from sfumato.networks.beside import Draw, InputResidual, InputSkip, OutputResidual, OutputSkip
from sfumato.networks.blocks import (
    Act,
    Attention,
    GroupNorm,
    ResBlock,
    dense_shortcut,
    fan_average,
    sin_cos,
    zeroed,
)
from sfumato.networks.fir import Down, Resample, Up, convolved, residual
from sfumato.networks.skeleton import Layers, Skeleton


class FourierFeatures(nn.Module):
    """Random Fourier features: sines, then cosines, of a number at `width` random rates (Tancik et al. 2020).

    The rates are drawn once and never learned; `scale` is their standard deviation, in turns.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.rates = nn.Parameter(scale * torch.randn(width), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B,) -> (B, 2 width) float32."""
        angles = x.float()[:, None] * self.rates.float() * (2 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class ScoreUNet(Skeleton):
    """A U-Net from noisy images and a number for the noise level to images of the same size, the image beside it.

    Unlike `unet.UNet` it attends once a level on the way up, however many blocks that has.

    Args:
        in_channels, out_channels: of the images; as many out as in where None.
        channels: the unit of width.
        multipliers: the width of each level in units of `channels`; their number is the number of levels.
        blocks_per_level, attention_factors, num_classes, low_res_channels, numbers: see `Skeleton`.
        dropout: rate inside the residual blocks.
        resample: between levels, `residual`, `convolved` or `pooled`.
        fir: taps of the filter through which everything is resampled; None for DDPM's ways, see `fir.Down`.
        progressive_input, progressive_output: how the image also travels beside the U-Net, a class of `beside`.
        skip_rescale: divide every sum of two branches by sqrt(2).
        fourier_scale: of the random features of ln t, see `FourierFeatures`; None for Ho et al.'s sinusoids of t.
        conditional: whether the network sees t at all.
        act: the activation.
        channels_per_group: of the group norms, at least; they have 32 groups or fewer.
        unit_range: the images lie in [0, 1], and the network begins with 2x - 1.
        scale_by_sigma: divide the output by the noise level, which is t, or sigmas[t] if these are given.
        sigmas: the noise levels, where t numbers them from 0.
        dims: 1 for signals (B, C, L), 2 for images, 3 for clips (B, C, T, H, W).
    """

    sigmas: Tensor | None

    def __init__(
        self,
        *,
        in_channels: int = 3,
        out_channels: int | None = None,
        channels: int = 128,
        multipliers: Sequence[float] = (1, 2, 2, 2),
        blocks_per_level: int = 4,
        attention_factors: Sequence[int] = (2,),
        dropout: float = 0.1,
        num_classes: int | None = None,
        low_res_channels: int = 0,
        numbers: int = 0,
        resample: Resample = residual,
        fir: Sequence[float] | None = (1, 3, 3, 1),
        progressive_input: type[InputSkip] | type[InputResidual] | None = InputResidual,
        progressive_output: type[OutputSkip] | type[OutputResidual] | None = None,
        skip_rescale: bool = True,
        fourier_scale: float | None = 16.0,
        conditional: bool = True,
        act: Act = F.silu,
        channels_per_group: int = 4,
        unit_range: bool = False,
        scale_by_sigma: bool = False,
        sigmas: Sequence[float] | None = None,
        dims: int = 2,
    ) -> None:
        widths = [int(multiplier * channels) for multiplier in multipliers]
        told = (num_classes, low_res_channels, act, numbers)
        super().__init__(in_channels, widths, blocks_per_level, attention_factors, *told, dims)
        if fir is not None and len(fir) < 2:
            raise ValueError(f"a filter that resamples by 2 has at least 2 taps, not {len(fir)}")
        if sigmas is None and scale_by_sigma and fourier_scale is None:
            raise ValueError("scale_by_sigma needs the sigmas where t is not the noise level itself")
        self.channels, self.conditional, self.resample = channels, conditional, resample
        self.unit_range, self.scale_by_sigma = unit_range, scale_by_sigma
        self.register_buffer("sigmas", None if sigmas is None else torch.tensor(sigmas, dtype=torch.float32))
        out_channels, scale = out_channels or in_channels, 0.5**0.5 if skip_rescale else None

        def norm(width: int) -> GroupNorm:
            return GroupNorm(width, max(1, min(32, width // channels_per_group)), eps=1e-6)

        styled: dict[str, Any] = {"norm": norm, "act": act, "scale": scale}
        width = 4 * channels if conditional or num_classes or numbers else None
        block = partial(ResBlock, emb_channels=width, dropout=dropout, shortcut=dense_shortcut, dims=dims, **styled)
        down, up = partial(Down, fir=fir, dims=dims), partial(Up, fir=fir, dims=dims)
        attention = partial(Attention, norm=norm, scale=scale)
        beside_down = progressive_input and partial(progressive_input, fir=fir, scale=scale, dims=dims)
        beside_up = progressive_output and partial(progressive_output, image=out_channels, fir=fir, dims=dims, **styled)
        self.fourier = FourierFeatures(channels, fourier_scale) if conditional and fourier_scale is not None else None
        ends = [channels if self.fourier is None else 2 * channels, 4 * channels, 4 * channels]
        self.time_mlp = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(ends) if conditional)
        self.embed_labels(4 * channels)
        layers = Layers(block, attention, lambda width: resample(width, block, down), beside=beside_down)
        skips = self.wire_down(layers, channels)
        self.wire_up(Layers(block, attention, lambda width: resample(width, block, up), True, beside_up), skips)
        self.out = None if progressive_output is OutputSkip else Draw(widths[0], out_channels, act, norm, dims)
        if self.out is not None:
            zeroed(self.out.conv)
        fan_average(self)

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """One evaluation, as `Skeleton`'s. With Fourier features t is the noise level itself, positive."""
        out = super().forward(2 * x - 1 if self.unit_range else x, t, y, low_res, numbers)
        if not self.scale_by_sigma:
            return out
        sigma = t if self.sigmas is None else self.sigmas[t.long()]
        return out / sigma.to(out)[(..., *(None,) * (x.ndim - 1))]

    def embed(self, t: Tensor, dtype: torch.dtype) -> Tensor | None:
        if not self.conditional:
            return None
        emb = sin_cos(t, self.channels) if self.fourier is None else self.fourier(t.float().log())
        return self.time_mlp[1](self.act(self.time_mlp[0](emb.to(dtype))))

    def draw(self, h: Tensor, beside: Tensor | None) -> Tensor:
        if self.out is not None:
            return self.out(h)
        assert beside is not None
        return beside


# ---------------------------------------------------------------- the paper's networks, as configurations

PROGRESSIVE: dict[str, tuple[Any, Any]] = {"residual": (InputResidual, None), "skip": (InputSkip, OutputSkip)}
"""How the image travels beside NCSN++, down and up."""


@dataclass(frozen=True)
class ScoreBackbone(Backbone):
    """What the configurations of the paper's three networks have in common."""

    channels: Channels = 128
    """Width of the network's first level."""
    multipliers: Multipliers = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: Few = 4
    """Residual blocks a level; the deep models have 8."""
    attention: Factors = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: Share = 0.1
    """Dropout inside the residual blocks."""

    dims: ClassVar[tuple[int, ...]] = (1, 2, 3)

    def common(self, shape: tuple[int, ...], outputs: int, given: Embedded) -> dict[str, Any]:
        """The options of `ScoreUNet` that follow."""
        return {
            "in_channels": shape[0], "out_channels": outputs, "channels": self.channels,
            "multipliers": self.multipliers, "blocks_per_level": self.blocks, "attention_factors": self.attention,
            "dropout": self.dropout, "num_classes": given.labels or None, "low_res_channels": given.picture,
            "numbers": given.numbers, "dims": len(shape) - 1,
        }  # fmt: skip


@dataclass(frozen=True)
class NCSNpp(ScoreBackbone):
    """The network NCSN++ (Song et al. 2021, appendix H), as for CIFAR-10 with the VE SDE: 62.8 million parameters.

    With 8 blocks 107.6 million. For 256x256: multipliers (1, 1, 2, 2, 2, 2, 2), 2 blocks, attention (16,), dropout 0,
    progressive "skip": 65.6 million.
    """

    progressive: Literal["residual", "skip"] = "residual"
    """The image is added to the features on the way down; for 256x256 and more, "skip" leads it both ways."""
    fourier: bool = True
    """Whether the noise level, which is sigma then, enters by random Fourier features of its logarithm, as for VE in
    continuous time; otherwise a number of the time enters by Ho et al.'s sinusoids."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreUNet:
        into, out = PROGRESSIVE[self.progressive]
        return ScoreUNet(
            **self.common(shape, outputs, given), progressive_input=into, progressive_output=out,
            fourier_scale=16.0 if self.fourier else None,
        )  # fmt: skip


@dataclass(frozen=True)
class DDPMpp(ScoreBackbone):
    """The network DDPM++ (Song et al. 2021, appendix H), as for CIFAR-10: 61.8 million parameters; 8 blocks: 106.6."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreUNet:
        return ScoreUNet(
            **self.common(shape, outputs, given), fir=None, progressive_input=None, fourier_scale=None,
        )  # fmt: skip


@dataclass(frozen=True)
class SongUNet(ScoreBackbone):
    """The U-Net that Song et al. 2021 call DDPM, as for CIFAR-10: 35.2 million parameters.

    It attends less often than Ho et al.'s, `unet.HoUNet`, whose weights it cannot take.
    """

    blocks: Few = 2
    """Residual blocks a level."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreUNet:
        return ScoreUNet(
            **self.common(shape, outputs, given), resample=convolved, fir=None, progressive_input=None,
            skip_rescale=False, fourier_scale=None, channels_per_group=1,
        )  # fmt: skip
