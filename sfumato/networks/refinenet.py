"""The score networks of NCSN (Song & Ermon 2019, appendix A) and NCSNv2 (Song & Ermon 2020, appendix B): RefineNets.

They are Lin et al.'s 2017 with instance normalisation, average or maximum pooling and dilated convolutions; in NCSN's
every normalisation is conditioned on the noise level, in NCSNv2's nothing is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.backbone import NOTHING, Backbone, Channels, Embedded, refuse
from sfumato.networks.blocks import Act
from sfumato.networks.fir import halve
from sfumato.networks.instance_norm import InstanceNormPlus, NoNorm
from sfumato.networks.skeleton import check_images, check_numbers

DEEPER: dict[str, Any] = {"multipliers": (1, 2, 2, 4, 4), "dilations": (1, 1, 1, 2, 4)}
DEEPEST: dict[str, Any] = {"multipliers": (1, 2, 2, 2, 4, 4), "dilations": (1, 1, 1, 1, 2, 4)}
"""The stages of NCSNv2's networks for larger images."""

NORMS: dict[str, type[InstanceNormPlus] | type[NoNorm]] = {"instance++": InstanceNormPlus, "none": NoNorm}
"""The normalisations of NCSNv2, by the words of `RefineNetV2`."""

Norm = Callable[[int], nn.Module]
"""channels -> a normalisation of (x, t)."""


class ResidualBlock(nn.Module):
    """shortcut(x) + conv(act(norm(conv(act(norm(x)))))), where `pool` at half the size.

    The first block of a stage (`first`) changes the width in its second convolution and has a convolution as its
    shortcut: 1x1 if it pools, otherwise 3x3 and as dilated as the others.
    """

    def __init__(
        self, channels: int, out_channels: int, dilation: int, first: bool, pool: bool, act: Act, norm: Norm
    ) -> None:
        super().__init__()
        self.act, self.pool = act, pool
        conv = partial(nn.Conv2d, kernel_size=3, padding=dilation, dilation=dilation)
        self.norm1 = norm(channels)
        self.conv1 = conv(channels, channels)
        self.norm2 = norm(channels)
        self.conv2 = conv(channels, out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if first:
            self.shortcut = nn.Conv2d(channels, out_channels, 1) if pool else conv(channels, out_channels)

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        """x (B, C, H, W) -> (B, out_channels, H, W), or half of H and W."""
        h = self.conv1(self.act(self.norm1(x, t)))
        h = self.conv2(self.act(self.norm2(h, t)))
        x = self.shortcut(x)
        return halve(x) + halve(h) if self.pool else x + h


class ConvUnit(nn.Module):
    """Lin et al.'s residual convolution unit: x + conv(act(norm(conv(act(norm(x)))))), without biases."""

    def __init__(self, channels: int, act: Act, norm: Norm) -> None:
        super().__init__()
        self.act = act
        self.norms = nn.ModuleList([norm(channels), norm(channels)])
        self.convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)])

    def forward(self, x: Tensor, t: Tensor | None) -> Tensor:
        """x (B, C, H, W) -> the same shape."""
        h = x
        for norm, conv in zip(self.norms, self.convs, strict=True):
            h = conv(self.act(norm(h, t)))
        return x + h


def mean_pool(x: Tensor) -> Tensor:
    """The mean of the 5x5 pixels around each: NCSN's."""
    return F.avg_pool2d(x, 5, stride=1, padding=2)


def max_pool(x: Tensor) -> Tensor:
    """The maximum of the 5x5 pixels around each: NCSNv2's."""
    return F.max_pool2d(x, 5, stride=1, padding=2)


class RefineBlock(nn.Module):
    """Lin et al.'s refinement: adapt each input by two units, fuse them, pool in a chain of two, adapt by some units.

    Args:
        inputs: the channels of each input; the first input's size is the output's.
        channels: of the output.
        units: how many units end it.
        pool: to the same size, `max_pool` or `mean_pool`.
        act, norm: activation, and channels -> normalisation.
    """

    adapt: Any  # a ModuleList of ModuleLists of ConvUnit

    def __init__(self, inputs: Sequence[int], channels: int, units: int, pool: Act, act: Act, norm: Norm) -> None:
        super().__init__()
        self.act, self.pool = act, pool
        self.adapt = nn.ModuleList([nn.ModuleList([ConvUnit(c, act, norm) for _ in range(2)]) for c in inputs])
        fused = inputs if len(inputs) > 1 else []
        self.fuse_norms = nn.ModuleList([norm(c) for c in fused])
        self.fuse_convs = nn.ModuleList([nn.Conv2d(c, channels, 3, padding=1) for c in fused])
        self.pool_norms = nn.ModuleList([norm(channels) for _ in range(2)])
        self.pool_convs = nn.ModuleList([nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2)])
        self.out = nn.ModuleList([ConvUnit(channels, act, norm) for _ in range(units)])

    def forward(self, xs: Sequence[Tensor], t: Tensor | None) -> Tensor:
        """xs: one (B, inputs[i], Hi, Wi) for each input -> (B, channels, H0, W0)."""
        adapted = []
        for x, units in zip(xs, self.adapt, strict=True):
            for unit in units:
                x = unit(x, t)
            adapted.append(x)
        h = adapted[0]
        if len(adapted) > 1:
            parts = [c(n(x, t)) for x, n, c in zip(adapted, self.fuse_norms, self.fuse_convs, strict=True)]
            parts = [F.interpolate(p, xs[0].shape[2:], mode="bilinear", align_corners=True) for p in parts]
            h = sum(parts[1:], parts[0])
        h = path = self.act(h)
        for norm, conv in zip(self.pool_norms, self.pool_convs, strict=True):
            path = conv(self.pool(norm(path, t)))
            h = h + path
        for unit in self.out:
            h = unit(h, t)
        return h


# ---------------------------------------------------------------- the network


class ScoreRefineNet(nn.Module):
    """A RefineNet from noisy images to images of the same size, conditioned on the noise level or not.

    Stages of two residual blocks follow each other, and refinements lead back from the last stage to the first.

    Args:
        in_channels: of the images, which come out with as many.
        channels: the unit of width.
        multipliers: the width of each stage in units of `channels`.
        dilations: of the convolutions of each stage. A stage that is not dilated halves the size, but for the first.
        levels: how many noise levels the normalisations know; None for a network that is not conditioned on t.
        norm: (channels, levels) -> normalisation, and `refine_norm` that of the refinements.
        pool: in the refinements, `max_pool` or `mean_pool`.
        act: the activation.
        unit_range: the images lie in [0, 1], and the network begins with 2x - 1.
        sigmas: noise levels; where given, the output is divided by sigmas[t] (Song & Ermon 2020, technique 3).
    """

    stages: Any  # a ModuleList of ModuleLists of ResidualBlock

    def __init__(
        self,
        *,
        in_channels: int = 3,
        channels: int = 128,
        multipliers: Sequence[float] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 2, 4),
        levels: int | None = None,
        norm: Callable[[int, int | None], nn.Module] = InstanceNormPlus,
        refine_norm: Callable[[int, int | None], nn.Module] = NoNorm,
        pool: Act = max_pool,
        act: Act = F.elu,
        unit_range: bool = False,
        sigmas: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        if len(multipliers) != len(dilations):
            raise ValueError(f"{len(multipliers)} multipliers and {len(dilations)} dilations do not make stages")
        self.in_channels, self.levels, self.unit_range = in_channels, levels, unit_range
        self.multiple = 2 ** sum(dilation == 1 for dilation in dilations[1:])
        self.sigmas: Tensor | None
        self.register_buffer("sigmas", None if sigmas is None else torch.tensor(sigmas, dtype=torch.float32))
        self.numbers = levels if sigmas is None else len(sigmas)  # how many values t has, where t is seen
        self.act = act

        def normed(width: int) -> nn.Module:
            return norm(width, levels)

        def refine(inputs: Sequence[int], width: int, units: int) -> nn.Module:
            return RefineBlock(inputs, width, units, pool, act, lambda channels: refine_norm(channels, levels))

        widths = [int(multiplier * channels) for multiplier in multipliers]

        self.conv_in = nn.Conv2d(in_channels, widths[0], 3, padding=1)
        self.stages = nn.ModuleList()
        for i, (width, out, dilation) in enumerate(zip([widths[0], *widths[:-1]], widths, dilations, strict=True)):
            first = ResidualBlock(width, out, dilation, i > 0, i > 0 and dilation == 1, act, normed)
            self.stages.append(nn.ModuleList([first, ResidualBlock(out, out, dilation, False, False, act, normed)]))

        outs = [widths[0], *widths[:-1]]
        outs[-1] = widths[-1]  # with one input there is nothing to fuse, and so nothing that changes the width
        self.refine = nn.ModuleList()  # refine[i] works at the resolution of stages[i]
        for i, (width, out) in enumerate(zip(widths, outs, strict=True)):
            self.refine.append(refine([width, *outs[i + 1 : i + 2]], out, 1 if i > 0 else 3))
        self.norm_out = normed(widths[0])
        self.conv_out = nn.Conv2d(widths[0], in_channels, 3, padding=1)

    def forward(self, x: Tensor, t: Tensor | None = None) -> Tensor:
        """One evaluation.

        Args:
            x: (B, in_channels, H, W) images; H and W must be multiples of 2^(stages that halve the size).
            t: (B,) the numbers of the noise levels from 0, rounded, where the network has levels or sigmas; elsewhere
                it is not looked at.

        Returns: (B, in_channels, H, W) in x's precision.

        Raises: ValueError where an input does not fit the network.
        """
        check_images(x, self.in_channels, self.multiple)
        t = None if self.numbers is None else self._numbered(x, t, self.numbers)
        h = self.conv_in((2 * x - 1 if self.unit_range else x).to(self.conv_in.weight.dtype))
        seen = []
        for stage in self.stages:
            for block in stage:
                h = block(h, t)
            seen.append(h)
        below: list[Tensor] = []
        for stage_out, refine in zip(reversed(seen), reversed(self.refine), strict=True):
            below = [refine([stage_out, *below], t)]
        out = self.conv_out(self.act(self.norm_out(below[0], t))).to(x.dtype)
        return out if self.sigmas is None else out / self.sigmas[t].to(out)[:, None, None, None]

    def _numbered(self, x: Tensor, t: Tensor | None, numbers: int) -> Tensor:
        if t is None or t.shape != x.shape[:1]:
            found = "nothing" if t is None else f"{tuple(t.shape)}"
            raise ValueError(f"t is the number of each image's noise level, ({len(x)},), not {found}")
        t = t.round().long()
        check_numbers(t, numbers, "noise levels are numbered", "t")
        return t


# ---------------------------------------------------------------- the papers' networks, as configurations


@dataclass(frozen=True)
class RefineNet(Backbone):
    """The RefineNet of NCSN (Song & Ermon 2019, appendix A.1), as for CIFAR-10: 30.1 million parameters.

    It is conditioned on the number of the noise level, from 0. For MNIST: channels 64: 7.6 million.
    """

    channels: Channels = 128
    """Width of the RefineNet; the paper's is 64 for MNIST."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreRefineNet:
        refuse("NCSN's RefineNet", given, outputs, shape[0])
        if not given.levels:
            raise ValueError("NCSN's RefineNet has normalisations for each noise level, and continuous time has none")
        return ScoreRefineNet(
            in_channels=shape[0], channels=self.channels, levels=given.levels, refine_norm=InstanceNormPlus,
            pool=mean_pool,
        )  # fmt: skip


STAGES: dict[int, dict[str, Any]] = {4: {}, 5: DEEPER, 6: DEEPEST}


@dataclass(frozen=True)
class RefineNetV2(Backbone):
    """The RefineNet of NCSNv2 (Song & Ermon 2020, appendix B), up to 64x64: 29.7 million parameters.

    With depth 5 it has 83.4 million, with depth 6 94.1 million. It is not conditioned on the noise level.
    """

    channels: Channels = 128
    """Width of the RefineNet."""
    depth: Literal[4, 5, 6] = 4
    """Stages of the RefineNet: 4 for images up to 64x64, 5 for 96x96 and 128x128, 6 for 256x256."""
    norm: Literal["instance++", "none"] = "instance++"
    """The normalisation; "none" is the authors' option NoneNorm."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ScoreRefineNet:
        refuse("NCSNv2's RefineNet", given, outputs, shape[0])
        return ScoreRefineNet(in_channels=shape[0], channels=self.channels, norm=NORMS[self.norm], **STAGES[self.depth])
