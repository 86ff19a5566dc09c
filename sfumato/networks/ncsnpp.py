"""The networks of score-based SDEs (Song et al. 2021, appendix H): NCSN++, DDPM++, and the DDPM that they grew from.

They are U-Nets that differ in the options which `ncsnpp`, `ddpmpp` and `ddpm` state side by side.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.backbone import NOTHING, Backbone, Embedded, refuse
from sfumato.networks.blocks import (
    ACTIVATIONS,
    Attention,
    GroupNorm,
    Level,
    check_choice,
    norm_act,
    sin_cos,
    zeroed,
)
from sfumato.networks.fir import Down, Up

SKIPS = ("none", "skip", "residual")
"""How the image also travels beside the U-Net, shrinking on the way down or growing on the way up."""

Act = Callable[[Tensor], Tensor]
Norm = Callable[[int], GroupNorm]
Fir = Sequence[float] | None


class Pointwise(nn.Linear):
    """A dense layer over the channels of each pixel, which is a 1x1 convolution: (B, C, H, W) -> (B, C', H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight[:, :, None, None], self.bias)


class FourierFeatures(nn.Module):
    """Sines, then cosines, of a number at `width` random rates (Tancik et al. 2020), drawn once and never learned.

    Args:
        width: the number of rates.
        scale: their standard deviation, in turns.
    """

    def __init__(self, width: int, scale: float) -> None:
        super().__init__()
        self.rates = nn.Parameter(scale * torch.randn(width), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """x (B,) -> (B, 2 width) float32."""
        angles = x.float()[:, None] * self.rates.float() * (2 * math.pi)
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class Block(nn.Module):
    """scale * (x + f(x, emb)), with f = conv(dropout(act(norm(conv(act(norm(x))) + emb)))).

    Args:
        channels, out_channels: of the input and of the output.
        resample: a layer without weights, applied to both branches before the first convolution (BigGAN's block).
            Where there is one, or where the channels differ, x passes a 1x1 convolution.
        emb_channels: width of the embedding; None where there is none.
        scale: of the sum; 1 / sqrt(2) keeps the variance.
        dropout: its rate, before the second convolution.
        act, norm: activation, and channels -> normalisation.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        resample: nn.Module | None = None,
        *,
        emb_channels: int | None,
        scale: float,
        dropout: float,
        act: Act,
        norm: Norm,
    ) -> None:
        super().__init__()
        self.scale, self.act, self.resample = scale, act, resample
        self.norm1 = norm(channels)
        self.conv1 = nn.Conv2d(channels, out_channels, 3, padding=1)
        self.emb = None if emb_channels is None else nn.Linear(emb_channels, out_channels)
        self.norm2 = norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(nn.Conv2d(out_channels, out_channels, 3, padding=1))
        plain = channels == out_channels and resample is None
        self.shortcut = nn.Identity() if plain else Pointwise(channels, out_channels)

    def forward(self, x: Tensor, emb: Tensor | None) -> Tensor:
        """x (B, C, H, W) and emb (B, emb_channels), already activated, or None -> (B, out_channels, H', W')."""
        h = norm_act(self.norm1, x, self.act)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)
        add = None if self.emb is None or emb is None else self.emb(emb)
        h = self.conv2(self.dropout(norm_act(self.norm2, h, self.act, add=add)))
        return (self.shortcut(x) + h) * self.scale


class ScaledAttention(Attention):
    """scale * (x + self-attention), see `Attention`."""

    def __init__(self, channels: int, scale: float, groups: int, norm_eps: float) -> None:
        super().__init__(channels, groups=groups, norm_eps=norm_eps)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> the same shape."""
        return super().forward(x) * self.scale


class Draw(nn.Module):
    """conv(act(norm(h))): (B, C, H, W) features -> (B, out_channels, H, W), mostly an image."""

    def __init__(self, channels: int, out_channels: int, act: Act, norm: Norm) -> None:
        super().__init__()
        self.act = act
        self.norm = norm(channels)
        self.conv = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(norm_act(self.norm, h, self.act))


# ---------------------------------------------------------------- the image beside the U-Net


class InputSkip(nn.Module):
    """The image itself, made smaller, joins each level through a 1x1 convolution, by a sum or a concatenation."""

    def __init__(self, image: int, channels: int, fir: Fir, cat: bool) -> None:
        super().__init__()
        self.cat = cat
        self.down = Down(image, image, False, fir)
        self.mix = Pointwise(image, channels)

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The image of the level above and this level's features -> both for this level."""
        image = self.down(image)
        mixed = self.mix(image)
        return image, torch.cat([mixed, h], dim=1) if self.cat else mixed + h


class InputResidual(nn.Module):
    """What came from the level above, made smaller by a convolution, is added to this level's features."""

    def __init__(self, above: int, channels: int, fir: Fir, scale: float) -> None:
        super().__init__()
        self.scale = scale
        self.down = Down(above, channels, True, fir)

    def forward(self, above: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """What came from above and this level's features -> their sum, to go on beside and inside."""
        h = (self.down(above) + h) * self.scale
        return h, h


class OutputSkip(nn.Module):
    """Each level draws a part of the image, and all parts, made larger, are summed."""

    def __init__(self, channels: int, image: int, fir: Fir, act: Act, norm: Norm) -> None:
        super().__init__()
        self.up = Up(image, image, False, fir)
        self.draw = Draw(channels, image, act, norm)
        zeroed(self.draw.conv)

    def forward(self, image: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        """The image so far, if any, and this level's features -> the image with this level's part, and the features."""
        part = self.draw(h)
        return part if image is None else self.up(image) + part, h


class OutputResidual(nn.Module):
    """What came from the level below, made larger by a convolution, is added to this level's; the lowest draws it."""

    def __init__(self, below: int | None, channels: int, fir: Fir, scale: float, act: Act, norm: Norm) -> None:
        super().__init__()
        self.scale = scale
        self.layer = Draw(channels, channels, act, norm) if below is None else Up(below, channels, True, fir)

    def forward(self, below: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        """What came from below, if any, and this level's features -> what goes on beside and inside."""
        if below is None:
            return self.layer(h), h
        h = (self.layer(below) + h) * self.scale
        return h, h


# ---------------------------------------------------------------- the network


class ScoreUNet(nn.Module):
    """A convolutional network from noisy images and a number for the noise level to images of the same size.

    Level i works at 1 / 2^i of the resolution with `multipliers[i] * channels` channels. Unlike in `unet.UNet`, a level
    attends once on the way up, however many blocks it has. All arguments are plain values, so that JSON can carry them.

    Args:
        in_channels: of the images, which come out with as many.
        channels: the unit of width.
        multipliers: the width of each level in units of `channels`; their number is the number of levels.
        blocks_per_level: residual blocks of each level on the way down; one more on the way up.
        attention_factors: the levels with self-attention, by the factor 2^i by which they are smaller than the image.
        dropout: rate inside the residual blocks.
        resample: between levels, "residual" for residual blocks that resample (BigGAN's), "conv" for convolutions that
            do, "pool" for resampling alone.
        fir: taps of the filter through which everything is resampled; None for DDPM's ways, see `fir.Down`.
        progressive_input, progressive_output: "skip" or "residual", how the image also travels beside the U-Net, see
            `InputSkip` and the classes after it; or "none".
        progressive_combine: "sum" or "cat", how an input skip joins.
        skip_rescale: divide every sum of two branches by sqrt(2).
        embedding: of t, "fourier" for random features of ln t, "sin_cos" for Ho et al.'s sinusoids.
        fourier_scale: see `FourierFeatures`.
        conditional: whether the network sees t at all.
        activation: "silu", "elu", "relu" or "leaky_relu".
        groups, channels_per_group: of the group norms, at most so many groups, each of at least so many channels.
        norm_eps: of the group norms.
        unit_range: the images lie in [0, 1], and the network begins with 2x - 1.
        scale_by_sigma: divide the output by the noise level, which is t, or sigmas[t] if these are given.
        sigmas: the noise levels, where t numbers them from 0.
    """

    down: Any  # a ModuleList of Level; so is up
    up: Any

    def __init__(
        self,
        *,
        in_channels: int = 3,
        channels: int = 128,
        multipliers: Sequence[float] = (1, 2, 2, 2),
        blocks_per_level: int = 4,
        attention_factors: Sequence[int] = (2,),
        dropout: float = 0.1,
        resample: Literal["residual", "conv", "pool"] = "residual",
        fir: Sequence[float] | None = (1, 3, 3, 1),
        progressive_input: Literal["none", "skip", "residual"] = "residual",
        progressive_output: Literal["none", "skip", "residual"] = "none",
        progressive_combine: Literal["sum", "cat"] = "sum",
        skip_rescale: bool = True,
        embedding: Literal["fourier", "sin_cos"] = "fourier",
        fourier_scale: float = 16.0,
        conditional: bool = True,
        activation: str = "silu",
        groups: int = 32,
        channels_per_group: int = 4,
        norm_eps: float = 1e-6,
        unit_range: bool = False,
        scale_by_sigma: bool = False,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        check_choice("resample", resample, ("residual", "conv", "pool"))
        check_choice("progressive_input", progressive_input, SKIPS)
        check_choice("progressive_output", progressive_output, SKIPS)
        check_choice("progressive_combine", progressive_combine, ("sum", "cat"))
        check_choice("embedding", embedding, ("fourier", "sin_cos"))
        check_choice("activation", activation, ACTIVATIONS)
        if unused := set(attention_factors) - {2**i for i in range(len(multipliers))}:
            raise ValueError(f"no level is smaller by the attention factors {sorted(unused)}")
        if fir is not None and len(fir) < 2:
            raise ValueError(f"a filter that resamples by 2 has at least 2 taps, not {len(fir)}")
        if sigmas is None and scale_by_sigma and embedding == "sin_cos":
            raise ValueError("scale_by_sigma needs the sigmas where t is not the noise level itself")
        act = self.act = ACTIVATIONS[activation]
        self.in_channels, self.channels, self.resample = in_channels, channels, resample
        self.unit_range, self.scale_by_sigma, self.conditional = unit_range, scale_by_sigma, conditional
        self.sigmas: Tensor | None
        self.register_buffer("sigmas", None if sigmas is None else torch.tensor(sigmas, dtype=torch.float32))

        scale = 0.5**0.5 if skip_rescale else 1.0
        emb_channels = 4 * channels if conditional else None

        def group_count(width: int) -> int:
            return max(1, min(groups, width // channels_per_group))

        def norm(width: int) -> GroupNorm:
            return GroupNorm(width, group_count(width), norm_eps)

        block = partial(Block, emb_channels=emb_channels, scale=scale, dropout=dropout, act=act, norm=norm)

        def attention(width: int, factor: int = 0) -> nn.Module | None:
            if factor and factor not in attention_factors:
                return None
            return ScaledAttention(width, scale, group_count(width), norm_eps)

        def resampling(layer: type[Down] | type[Up], width: int) -> nn.Module:
            if resample == "residual":
                return block(width, width, resample=layer(width, width, False, fir))
            return layer(width, width, resample == "conv", fir)

        features = channels
        self.fourier = None
        if conditional and embedding == "fourier":
            self.fourier, features = FourierFeatures(channels, fourier_scale), 2 * channels
        dense = [nn.Linear(features, 4 * channels), nn.Linear(4 * channels, 4 * channels)]
        self.time_mlp = nn.ModuleList(dense if conditional else [])

        widths = [int(multiplier * channels) for multiplier in multipliers]
        last = len(widths) - 1
        width, beside = channels, in_channels  # of the features, and of the image beside them
        self.conv_in = nn.Conv2d(in_channels, channels, 3, padding=1)
        skips = [channels]  # channels of what the way down leaves for the way up

        self.down = nn.ModuleList()
        self.beside_down = nn.ModuleList()  # beside_down[i] joins after level i
        for i, out in enumerate(widths):
            blocks = [block(c, out) for c in [width] + [out] * (blocks_per_level - 1)]
            attentions = [attention(out, 2**i) for _ in blocks]
            self.down.append(Level(blocks, attentions, resampling(Down, out) if i < last else None))
            skips += [out] * blocks_per_level
            width = out
            if i == last:
                break
            if progressive_input == "skip":
                self.beside_down.append(InputSkip(in_channels, out, fir, progressive_combine == "cat"))
                width = 2 * out if progressive_combine == "cat" else out
            elif progressive_input == "residual":
                self.beside_down.append(InputResidual(beside, out, fir, scale))
                beside = out
            skips.append(width)

        self.middle = Level([block(width, width), block(width, width)], [attention(width), None])

        levels: list[nn.Module] = []
        beside_up: list[nn.Module] = []
        below = None
        for i, out in reversed(list(enumerate(widths))):
            blocks = [block(c + skips.pop(), out) for c in [width] + [out] * blocks_per_level]
            none: list[nn.Module | None] = [None] * blocks_per_level
            levels.append(Level(blocks, [*none, attention(out, 2**i)], resampling(Up, out) if i > 0 else None))
            if progressive_output == "skip":
                beside_up.append(OutputSkip(out, in_channels, fir, act, norm))
            elif progressive_output == "residual":
                beside_up.append(OutputResidual(below, out, fir, scale, act, norm))
            width = below = out
        self.up = nn.ModuleList(reversed(levels))  # up[i] works at the resolution of down[i]
        self.beside_up = nn.ModuleList(reversed(beside_up))

        self.out = None if progressive_output == "skip" else Draw(width, in_channels, act, norm)
        if self.out is not None:
            zeroed(self.out.conv)
        for module in self.modules():  # Ho et al.'s initial weights; what begins as 0 stays 0
            if isinstance(module, nn.Conv2d | nn.Linear) and (module.weight.is_meta or module.weight.any()):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """One evaluation.

        Args:
            x: (B, in_channels, H, W) images; H and W must be multiples of 2^(levels - 1).
            t: (B,) the number that stands for the noise level: with Fourier features the noise level itself, positive.

        Returns: (B, in_channels, H, W) in x's precision.

        Raises: ValueError where an input does not fit the network.
        """
        self._check(x, t)
        dtype = self.conv_in.weight.dtype
        emb = self._embed(t, dtype)
        beside: Any
        h = beside = (2 * x - 1 if self.unit_range else x).to(dtype)
        h = self.conv_in(h)
        skips = [h]
        for i, level in enumerate(self.down):
            for block, attention in level:
                h = attention(block(h, emb))
                skips.append(h)
            if level.resample is not None:
                h = level.resample(h, emb)
                if self.beside_down:
                    beside, h = self.beside_down[i](beside, h)
                skips.append(h)
        for block, attention in self.middle:
            h = attention(block(h, emb))
        beside = None
        for i, level in reversed(list(enumerate(self.up))):
            for block, attention in level:
                h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
            if self.beside_up:
                beside, h = self.beside_up[i](beside, h)
            if level.resample is not None:
                h = level.resample(h, emb)
        out = (beside if self.out is None else self.out(h)).to(x.dtype)
        if not self.scale_by_sigma:
            return out
        sigma = t if self.sigmas is None else self.sigmas[t.long()]
        return out / sigma.to(out)[:, None, None, None]

    def _embed(self, t: Tensor, dtype: torch.dtype) -> Tensor | None:
        if not self.conditional:
            return None
        emb = sin_cos(t, self.channels) if self.fourier is None else self.fourier(t.float().log())
        emb = self.time_mlp[0](emb.to(dtype))
        return self.act(self.time_mlp[1](self.act(emb)))

    def _check(self, x: Tensor, t: Tensor) -> None:
        if x.ndim != 4 or x.shape[1] != self.in_channels:
            raise ValueError(f"x is (B, {self.in_channels}, H, W) for this network, not {tuple(x.shape)}")
        multiple = 2 ** (len(self.down) - 1)
        if x.shape[2] % multiple or x.shape[3] % multiple:
            raise ValueError(
                f"{x.shape[2]}x{x.shape[3]} images do not fit a network with {len(self.down)} levels: "
                f"height and width must be multiples of {multiple}"
            )
        if t.shape != x.shape[:1]:
            raise ValueError(f"t is one number an image, ({len(x)},), not {tuple(t.shape)}")


# ---------------------------------------------------------------- the paper's networks


def ncsnpp(
    *,
    in_channels: int = 3,
    channels: int = 128,
    multipliers: Sequence[float] = (1, 2, 2, 2),
    blocks_per_level: int = 4,
    attention_factors: Sequence[int] = (2,),
    dropout: float = 0.1,
    progressive_input: Literal["none", "skip", "residual"] = "residual",
    progressive_output: Literal["none", "skip", "residual"] = "none",
    embedding: Literal["fourier", "sin_cos"] = "fourier",
) -> ScoreUNet:
    """NCSN++ (appendix H), by default as for CIFAR-10 with the VE SDE: 62.8 million parameters; 8 blocks: 107.6.

    For 256x256: multipliers (1, 1, 2, 2, 2, 2, 2), 2 blocks, attention_factors (16,), dropout 0, both ways "skip": 65.6
    million.
    """
    return ScoreUNet(
        in_channels=in_channels,
        channels=channels,
        multipliers=multipliers,
        blocks_per_level=blocks_per_level,
        attention_factors=attention_factors,
        dropout=dropout,
        resample="residual",
        fir=(1, 3, 3, 1),
        progressive_input=progressive_input,
        progressive_output=progressive_output,
        skip_rescale=True,
        embedding=embedding,
    )


def ddpmpp(
    *,
    in_channels: int = 3,
    channels: int = 128,
    multipliers: Sequence[float] = (1, 2, 2, 2),
    blocks_per_level: int = 4,
    attention_factors: Sequence[int] = (2,),
    dropout: float = 0.1,
) -> ScoreUNet:
    """DDPM++ (appendix H), by default as for CIFAR-10: 61.8 million parameters; with 8 blocks 106.6 million."""
    return ScoreUNet(
        in_channels=in_channels,
        channels=channels,
        multipliers=multipliers,
        blocks_per_level=blocks_per_level,
        attention_factors=attention_factors,
        dropout=dropout,
        resample="residual",
        fir=None,
        progressive_input="none",
        skip_rescale=True,
        embedding="sin_cos",
    )


def ddpm(
    *,
    in_channels: int = 3,
    channels: int = 128,
    multipliers: Sequence[float] = (1, 2, 2, 2),
    blocks_per_level: int = 2,
    attention_factors: Sequence[int] = (2,),
    dropout: float = 0.1,
) -> ScoreUNet:
    """The paper's DDPM, by default as for CIFAR-10: 35.2 million parameters.

    It attends less often than Ho et al.'s, `unet.ho`, whose weights it cannot take.
    """
    return ScoreUNet(
        in_channels=in_channels,
        channels=channels,
        multipliers=multipliers,
        blocks_per_level=blocks_per_level,
        attention_factors=attention_factors,
        dropout=dropout,
        resample="conv",
        fir=None,
        progressive_input="none",
        skip_rescale=False,
        embedding="sin_cos",
        channels_per_group=1,
    )


# ---------------------------------------------------------------- the paper's networks, as configurations


@dataclass(frozen=True)
class NCSNpp(Backbone):
    """The network NCSN++ (Song et al. 2021, appendix H), as for CIFAR-10 with the VE SDE: 62.8 million parameters.

    With 8 blocks 107.6 million. For 256x256: multipliers (1, 1, 2, 2, 2, 2, 2), 2 blocks, attention (16,), dropout 0,
    progressive "skip": 65.6 million.
    """

    channels: int = 128
    """Width of the network's first level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: int = 4
    """Residual blocks a level; the deep models have 8."""
    attention: tuple[int, ...] = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: float = 0.1
    """Dropout inside the residual blocks."""
    progressive: Literal["residual", "skip"] = "residual"
    """The image is added to the features on the way down; for 256x256 and more, "skip" leads it both ways."""
    fourier: bool = True
    """Whether the noise level, which is sigma then, enters by random Fourier features of its logarithm, as for VE in
    continuous time; otherwise a number of the time enters by Ho et al.'s sinusoids."""

    def __post_init__(self) -> None:
        check_choice("progressive", self.progressive, ("residual", "skip"))

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreUNet:
        refuse("NCSN++", given, outputs, shape[0])
        return ScoreUNet(
            in_channels=shape[0], channels=self.channels, multipliers=self.multipliers, blocks_per_level=self.blocks,
            attention_factors=self.attention, dropout=self.dropout, progressive_input=self.progressive,
            progressive_output="skip" if self.progressive == "skip" else "none",
            embedding="fourier" if self.fourier else "sin_cos",
        )  # fmt: skip


@dataclass(frozen=True)
class DDPMpp(Backbone):
    """The network DDPM++ (Song et al. 2021, appendix H), as for CIFAR-10: 61.8 million parameters; 8 blocks: 106.6."""

    channels: int = 128
    """Width of the network's first level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: int = 4
    """Residual blocks a level; the deep models have 8."""
    attention: tuple[int, ...] = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: float = 0.1
    """Dropout inside the residual blocks."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreUNet:
        refuse("DDPM++", given, outputs, shape[0])
        return ScoreUNet(
            in_channels=shape[0], channels=self.channels, multipliers=self.multipliers, blocks_per_level=self.blocks,
            attention_factors=self.attention, dropout=self.dropout, fir=None, progressive_input="none",
            embedding="sin_cos",
        )  # fmt: skip


@dataclass(frozen=True)
class SongUNet(Backbone):
    """The U-Net that Song et al. 2021 call DDPM, as for CIFAR-10: 35.2 million parameters.

    It attends less often than Ho et al.'s, `unet.HoUNet`, whose weights it cannot take.
    """

    channels: int = 128
    """Width of the network's first level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: float = 0.1
    """Dropout inside the residual blocks."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreUNet:
        refuse("score_sde's DDPM", given, outputs, shape[0])
        return ScoreUNet(
            in_channels=shape[0], channels=self.channels, multipliers=self.multipliers, blocks_per_level=self.blocks,
            attention_factors=self.attention, dropout=self.dropout, resample="conv", fir=None,
            progressive_input="none", skip_rescale=False, embedding="sin_cos", channels_per_group=1,
        )  # fmt: skip
