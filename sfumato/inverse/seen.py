"""Operators for training image-to-image models alone: random holes (Saharia et al. 2022, Palette), and edge maps.

Holes are drawn anew for each picture, and edges are no linear function of one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.distributions import Noise
from sfumato.fields import Range, check
from sfumato.inverse.operators import Mask, Operator

Side = Annotated[float, Range(0, 1, above=True)]


@dataclass(frozen=True)
class Boxes(Operator):
    """Inpainting masks for training: one random box of each picture is missing, seen as 0."""

    least: Side = 0.25
    """The shortest side of the box, as a share of the picture's."""
    most: Side = 0.75
    """The longest."""
    stable: ClassVar[bool] = False
    hides: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)
        if self.least > self.most:
            raise ValueError(f"the sides of a box go from least to most, not from {self.least:g} to {self.most:g}")

    def drawn(self, x: Tensor, noise: Noise) -> Mask:
        """A mask for each picture of a batch (B, C, H, W): sides uniform from least to most, places uniform."""
        u = torch.special.ndtr(noise(torch.empty(len(x), 4, device=x.device)).double())
        known = [_outside(side, u[:, i], u[:, i + 2], self.least, self.most) for i, side in enumerate(x.shape[2:])]
        return Mask(known[0][:, None, :, None] | known[1][:, None, None, :])


def _outside(side: int, of_length: Tensor, of_place: Tensor, least: float, most: float) -> Tensor:
    """(B, side), true outside an interval of each picture of at least one pixel."""
    length = ((least + (most - least) * of_length) * side).round().clamp(1, side)
    start = (of_place * (side - length + 1)).floor()[:, None]
    at = torch.arange(side, device=start.device)
    return (at < start) | (at >= start + length[:, None])


@dataclass(frozen=True)
class Edges(Operator):
    """Edge maps: the length of Sobel's gradient of the mean channel (B, 1, H, W), -1 where even, 1 at full contrast."""

    gain: Annotated[float, Range(0, 100, above=True)] = 2.0
    """Multiplies the length before it is held at full contrast."""
    linear: ClassVar[bool] = False
    stable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check(self)

    def __call__(self, x: Tensor) -> Tensor:
        across = torch.tensor([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]], device=x.device, dtype=x.dtype) / 8
        kernels = torch.stack([across, across.T])[:, None]
        grey = F.pad(x.mean(1, keepdim=True), (1, 1, 1, 1), mode="replicate")
        length = F.conv2d(grey, kernels).square().sum(1, keepdim=True).sqrt()
        return 2 * (self.gain * length).clamp(max=1) - 1

    def check(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (1, *shape[1:])
