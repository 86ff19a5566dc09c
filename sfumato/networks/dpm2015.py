"""The networks of 2015: multi-scale convolutions beside a dense path, radial basis functions, and a small MLP.

Sohl-Dickstein et al. 2015, appendix D.2, and the authors' code. None of them embeds the time: it enters by reading
their features out with weights of each level, or with a few bumps over the levels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Embedded, Few, Units, refuse
from sfumato.networks.blocks import zeroed

SLOPE = 0.05


class MultiScale(nn.Module):
    """3x3 convolutions at several scales in every layer (figure D.1): each is added up from coarse to fine."""

    layers: Any  # a ModuleList of ModuleLists of convolutions

    def __init__(self, in_channels: int, channels: int, layers: int, scales: int) -> None:
        super().__init__()
        inputs = [in_channels] + [channels] * (layers - 1)
        self.layers = nn.ModuleList(
            nn.ModuleList(nn.Conv2d(n, channels, 3, padding=1) for _ in range(scales)) for n in inputs
        )

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            total: Tensor | None = None
            for scale in reversed(range(len(layer))):
                small = F.avg_pool2d(x, 2**scale) if scale else x
                found = F.leaky_relu(layer[scale](small), SLOPE)
                total = found if total is None else F.interpolate(total, scale_factor=2, mode="nearest") + found
            assert total is not None
            x = total / len(layer)
        return x


class Dense(nn.Module):
    """The path that sees the whole image: its `outputs` a pixel come from all pixels."""

    def __init__(self, shape: tuple[int, int, int], hidden: int, outputs: int, layers: int) -> None:
        super().__init__()
        pixels = shape[1] * shape[2]
        widths = [shape[0] * pixels, *[hidden] * (layers - 1), pixels * outputs]
        self.side, self.outputs = shape[1:], outputs
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1)
        for layer in self.layers:
            x = F.leaky_relu(layer(x), SLOPE)
        return x.unflatten(1, (*self.side, self.outputs)).permute(0, 3, 1, 2)


class ImageNetwork(nn.Module):
    """Image -> how the mean and the variance of the reverse step differ from the forward one, at every level.

    Args:
        shape: (C, H, W).
        basis: (J, T) bumps over the levels, by which the features are read out.
        channels, layers, scales: of the convolutions.
        dense, dense_outputs, dense_layers: hidden width, outputs a pixel and depth of the dense path; width 0 for none.
        upper, upper_layers: width and depth of the network of each pixel at the end.

    Weights start as torch's do, but for the last layer, which starts at 0: the reverse step is the forward one then.
    The authors' start of the convolutions is so small that four layers of it let almost nothing through.

    Raises: ValueError where the side is no multiple of the coarsest scale.
    """

    basis: Tensor

    def __init__(
        self, shape: tuple[int, int, int], basis: Tensor, *, channels: int = 20, layers: int = 4, scales: int = 1,
        dense: int = 500, dense_outputs: int = 2, dense_layers: int = 4, upper: int = 20, upper_layers: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        if shape[1] % 2 ** (scales - 1) or shape[2] % 2 ** (scales - 1):
            raise ValueError(f"{scales} scales halve an image {scales - 1} times, which {shape[1:]} does not allow")
        self.register_buffer("basis", basis.float())
        self.conv = MultiScale(shape[0], channels, layers, scales)
        self.dense = Dense(shape, dense, dense_outputs, dense_layers) if dense else None
        width = channels + (dense_outputs if dense else 0)
        widths = [width, *[upper] * (upper_layers - 1), shape[0] * 2 * len(basis)]
        self.upper = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in pairwise(widths))
        zeroed(self.upper[-1])

    def features(self, x: Tensor) -> Tensor:
        """x (B, C, H, W) -> (B, C, 2, J, H, W): what is read out at each level."""
        h = self.conv(x)
        if self.dense is not None:
            h = torch.cat([h / h.shape[1] ** 0.5, self.dense(x) / self.dense.outputs**0.5], dim=1)
        for layer in self.upper[:-1]:
            h = F.leaky_relu(layer(h), SLOPE)
        out: Tensor = self.upper[-1](h)
        return out.unflatten(1, (x.shape[1], 2, len(self.basis)))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """x (B, C, H, W), 0-based levels () or (B,) -> (B, 2C, H, W): first for the mean, then for the variance."""
        weights = self.basis[:, index.to(self.basis.device).long()]  # (J,) or (J, B)
        read = "bckjhw,j->bkchw" if weights.ndim == 1 else "bckjhw,jb->bkchw"
        return torch.einsum(read, self.features(x), weights.to(x.dtype)).flatten(1, 2)


class RadialBasis(nn.Module):
    """Points -> the same two, from normalised radial basis functions with a read-out of their own at each level.

    The swiss roll's network: 16 hidden units (appendix D.1.1).

    Args:
        dims: of a point.
        units: bumps over the plane; where they lie and how wide they are is learned.
        levels: T.
    """

    def __init__(self, dims: int, units: int, levels: int) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(units, dims))
        self.log_widths = nn.Parameter(torch.zeros(units))
        self.readout = nn.Parameter(torch.zeros(levels, units, 2 * dims))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """x (B, 1, 1, D), 0-based levels () or (B,) -> (B, 2, 1, D)."""
        points = x.flatten(1)
        away = (points[:, None] - self.centres).square().sum(-1)  # (B, units)
        share = (-0.5 * away * (-2 * self.log_widths).exp()).softmax(-1)
        weights = self.readout[index.to(self.readout.device).long()].expand(x.shape[0], -1, -1)
        return torch.einsum("bu,bud->bd", share, weights).unflatten(1, (2, 1, -1))


class LocalLinear(nn.Module):
    """Radial basis functions each of which holds a linear map: points on a curve need few, and are met exactly.

    Not the paper's: its 16 constant units resolve the swiss roll only coarsely. Widths and centres move with the level,
    and what is read out changes smoothly over the levels, by a few bumps, so that every level learns from its
    neighbours.

    Args:
        dims: of a point.
        units: bumps over the space.
        basis: (J, T) bumps over the levels.
    """

    basis: Tensor

    def __init__(self, dims: int, units: int, basis: Tensor) -> None:
        super().__init__()
        self.register_buffer("basis", basis.float())
        bumps, levels = basis.shape
        self.centres = nn.Parameter(4.4 * torch.rand(units, dims) - 2.2)  # data of variance 1, ends included
        self.log_widths = nn.Parameter(torch.full((units,), -1.0))
        self.log_width_at, self.log_scale_at = (nn.Parameter(torch.zeros(levels)) for _ in range(2))
        self.constant = nn.Parameter(torch.zeros(bumps, units, 2 * dims))
        self.linear = nn.Parameter(torch.zeros(bumps, units, 2 * dims, dims))
        self.bias = nn.Parameter(torch.zeros(levels, 2 * dims))

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        """x (B, 1, 1, D), 0-based levels () or (B,) -> (B, 2, 1, D)."""
        index = index.to(self.basis.device).long().expand(x.shape[0])
        away = x.flatten(1)[:, None] - self.centres * self.log_scale_at[index].exp()[:, None, None]  # (B, units, D)
        widths = self.log_widths + self.log_width_at[index][:, None]
        share = (-0.5 * away.square().sum(-1) * (-2 * widths).exp()).softmax(-1)
        joint = torch.einsum("jb,bu->bju", self.basis[:, index], share)
        out = torch.einsum("bju,jud->bd", joint, self.constant) + self.bias[index]
        return (out + torch.einsum("bju,bue,jude->bd", joint, away, self.linear)).unflatten(1, (2, 1, -1))


class Bits(nn.Module):
    """Bits and how much each says of the data -> the logits of the data's bits: the heartbeat's MLP (appendix D.1.2).

    The paper reads 50 sigmoid units out by weights of each level. Here the input is weighed by its evidence instead,
    which is how time enters the exact answer, and every level shares all weights.
    """

    def __init__(self, bits: int, hidden: int = 50, layers: int = 3) -> None:
        super().__init__()
        widths = [bits, *[hidden] * layers]
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(widths))
        self.last = nn.Linear(hidden, bits)

    def forward(self, x: Tensor, evidence: Tensor) -> Tensor:
        """x (B, ...) in {0, 1}, evidence () or (B,) -> logits (B, ...)."""
        weight = evidence.to(x.device, x.dtype).reshape(-1, 1)
        h = (2 * x.flatten(1) - 1) * weight
        for layer in self.layers:
            h = F.silu(layer(h))
        out: Tensor = self.last(h)
        return out.reshape(x.shape)


# ---------------------------------------------------------------- configurations


def temporal_basis(T: int, n: int) -> Tensor:
    """n bumps over the levels, (n, T) float64: Gaussians of half the spacing, scaled to sum to 1 at each level."""
    if T < 1:
        raise ValueError("the networks of 2015 have weights for each noise level, and continuous time has none")
    if n < 2:
        raise ValueError(f"bumps over time are at least 2, not {n}")
    centres = torch.linspace(-1, 1, n, dtype=torch.float64)
    away = torch.linspace(-1, 1, T, dtype=torch.float64) - centres[:, None]
    bumps = (-0.5 * (away / (centres[1] - centres[0]) * 2) ** 2).exp()
    return bumps / bumps.sum(0)


@dataclass(frozen=True)
class DPMImage(Backbone):
    """The network for images of 2015: multi-scale convolutions beside a dense path (appendix D.2), as for MNIST."""

    hidden: Units = 20
    """Channels of the convolutions."""
    layers: Few = 4
    """Depth of the convolutions and of the dense path."""
    scales: Annotated[int, Range(1, 12)] = 1
    """Scales of each convolution, each half as fine as the one before."""
    dense: Annotated[int, Range(0, 65_536)] = 500
    """Hidden width of the path that sees the whole image; 0 leaves it out."""
    bumps: Annotated[int, Range(2, 1024)] = 10
    """Temporal basis functions of the read-out."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ImageNetwork:
        refuse("2015's image network", given, outputs, 2 * shape[0])
        channels, height, width = shape
        return ImageNetwork(
            (channels, height, width), temporal_basis(given.levels, self.bumps), channels=self.hidden,
            layers=self.layers, scales=self.scales, dense=self.dense, dense_layers=self.layers, upper=self.hidden,
        )  # fmt: skip


@dataclass(frozen=True)
class DPMRadial(Backbone):
    """The radial basis functions of 2015 for points, each constant (appendix D.1.1): a row of one channel."""

    hidden: Units = 16
    """Radial units."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> RadialBasis:
        refuse("2015's radial basis functions", given, outputs, 2)
        return RadialBasis(shape[-1], self.hidden, given.levels)


@dataclass(frozen=True)
class DPMLocal(Backbone):
    """Radial basis functions for points with a linear map each; not the paper's, whose units are constant."""

    hidden: Units = 64
    """Radial units."""
    bumps: Annotated[int, Range(2, 1024)] = 6
    """Temporal basis functions of the read-out."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> LocalLinear:
        refuse("the local linear network", given, outputs, 2)
        return LocalLinear(shape[-1], self.hidden, temporal_basis(given.levels, self.bumps))


@dataclass(frozen=True)
class DPMBits(Backbone):
    """The MLP of 2015 for bits, as for the heartbeat (appendix D.1.2)."""

    hidden: Units = 50
    """Hidden units of a layer."""
    layers: Few = 3
    """Hidden layers."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> Bits:
        refuse("2015's network for bits", given, outputs, shape[0])
        return Bits(math.prod(shape), self.hidden, self.layers)
