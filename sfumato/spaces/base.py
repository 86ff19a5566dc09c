"""Spaces of pixels: what the diffusion sees of an image, and the way back; images outside are always in [-1, 1].

Every space carries the depth of the data: how many grey levels they have, and what black and white of floats are.
`Pixels` as they are, `Measured` with their deviation; `UnitPixels` for the score-based papers, whose images are 1 wide;
`Standardised` and `Bits` for Sohl-Dickstein et al. 2015. A space tells clipping its range and the likelihoods its
volume.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from sfumato.core.distributions import Noise
from sfumato.fields import Length, Range, check
from sfumato.spaces.measuring import mean_and_variance

FIRST_IMAGES = 512
"""So many images gave the authors of 2015 their mean and standard deviation."""


Deviation = Annotated[float, Range(0, 1_000_000, above=True)]
"""A standard deviation; that of images that are all one grey, 0, is none."""


Levels = Literal[0, 256, 65536]
"""Grey levels of 8 and of 16 bits; 0 for real numbers, which have none."""

Values = Annotated[tuple[float, ...], Length(2, 2)]
"""Black and white."""


@dataclass(frozen=True)
class Space:
    """Base class of spaces, frozen dataclasses of plain values. By itself it leaves images as they are.

    Attributes:
        has_moments: whether `fitted` looks at the images, which may be many.
        keeps_pixels: whether a number that it makes belongs to a pixel, so that pixels can be held, measured or told.
    """

    levels: Levels = field(default=256, kw_only=True)
    """Grey levels of the data, by which samples are rounded and decoders cut (see `bins`): 256 or 65536, or 0 for real
    numbers; taken from the data set."""
    values: Values = field(default=(-1.0, 1.0), kw_only=True)
    """What -1 and 1 stand for where the data are real numbers; taken from the data set."""

    has_moments: ClassVar[bool] = False
    keeps_pixels: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check(self)
        if not self.values[0] < self.values[1]:
            raise ValueError(f"values are black and white, the lower first, not {self.values}")

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Images (B, C, ...) in [-1, 1] -> what the diffusion sees; `noise` is for dequantisation, if there is any."""
        return images

    def decode(self, x: Tensor) -> Tensor:
        """What the diffusion sees -> images in [-1, 1]."""
        return x

    def attach(self, network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """The network of a model of images of this shape (C, H, W), with the weights beside it that the space needs."""
        return network

    def bound(self, network: nn.Module) -> Space:
        """The space with the weights that are beside a network; itself where it needs none."""
        return self

    def moments(self, images: Tensor) -> Tensor:
        """The part of encoding that takes long, is always the same, and may be kept: images -> what `drawn` takes."""
        return images

    def drawn(self, moments: Tensor, noise: Noise | None = None) -> Tensor:
        """The rest of encoding: encode(images, noise) = drawn(moments(images), noise)."""
        return self.encode(moments, noise)

    @property
    def range(self) -> tuple[float, float]:
        """Where clean data lie, for clipping."""
        low, high = self.encode(torch.tensor([-1.0, 1.0])).tolist()
        return low, high

    @property
    def bounds(self) -> tuple[float, float] | None:
        """The range; None where it is unbounded."""
        return self.range if math.isfinite(self.range[1] - self.range[0]) else None

    @property
    def bins(self) -> int:
        """Grey levels that the bound's decoder is cut into (Ho et al. 2020, eq. 13), where clean data lie in [-1, 1];
        0, for a decoder that is a density, where the levels are not those bins."""
        return self.levels if self.range == (-1, 1) else 0

    @property
    def log_volume(self) -> float:
        """log |d encode / d image| of one number, in nats: log p(image) = log p(encoded) + log_volume a dimension."""
        low, high = self.range
        return math.log((high - low) / 2)

    @property
    def deviation(self) -> float:
        """The standard deviation of clean data: a quarter of the range, as CIFAR-10's, where it was not measured."""
        low, high = self.range
        return (high - low) / 4

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what the diffusion sees, for images of this shape (C, H, W)."""
        return shape

    def fitted(self, parts: Iterable[Tensor]) -> Space:
        """The space fitted to a data set, in parts (n, C, ...) in [-1, 1], where it has moments of its own."""
        return self

    def of_depth(self, levels: Levels, values: tuple[float, ...] = (-1.0, 1.0)) -> Self:
        """The space of data with so many grey levels, or of real numbers between these values where levels are 0."""
        return replace(self, levels=levels, values=tuple(values))


@dataclass(frozen=True)
class Pixels(Space):
    """Images in [-1, 1], as they are."""


@dataclass(frozen=True)
class Measured(Space):
    """Images in [-1, 1] as they are, whose deviation is measured, for EDM's sigma_data (Karras et al. 2022)."""

    std: Deviation = 0.5
    """Of the data in [-1, 1], over all pixels; taken from the data set."""

    has_moments = True

    @property
    def deviation(self) -> float:
        return self.std

    def fitted(self, parts: Iterable[Tensor]) -> Measured:
        return replace(self, std=_mean_and_variance(parts)[1] ** 0.5)


@dataclass(frozen=True)
class UnitPixels(Space):
    """Images 1 wide, as those of NCSN, NCSNv2 and the VE SDE, so that sigmas and steps are the papers' own numbers.

    They are centred at 0, where the papers' lie in [0, 1]; the networks see them doubled, as the papers' see 2 x - 1.
    """

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        return images / 2

    def decode(self, x: Tensor) -> Tensor:
        return 2 * x


@dataclass(frozen=True)
class Standardised(Space):
    """Images of mean 0 and variance 1, dequantised by uniform noise (Sohl-Dickstein et al. 2015, section 3)."""

    mean: float = 0.0
    """Of the data in [-1, 1], over all pixels; taken from the data set."""
    std: Deviation = 1.0
    """Likewise."""
    bin: Annotated[float, Range(0, 2)] = 2 / 255
    """Width of the uniform noise that makes 8-bit data continuous, 2 / 65535 of 16 bits; 0 for data that are."""
    faithful: bool = False
    """With the slips of the authors' code: dequantisation noise divided by the deviation, not multiplied, and moments
    of the first 512 images."""

    has_moments = True

    @property
    def deviation(self) -> float:
        return 1.0

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        if noise is not None and self.bin:
            width = self.std**2 / 510 if self.faithful else self.bin
            images = images + width * (torch.special.ndtr(noise(images)) - 0.5)
        return (images - self.mean) / self.std

    def decode(self, x: Tensor) -> Tensor:
        return self.std * x + self.mean

    def fitted(self, parts: Iterable[Tensor]) -> Standardised:
        mean, variance = _mean_and_variance(_first(parts, FIRST_IMAGES) if self.faithful else parts)
        return replace(self, mean=mean, std=(variance + self.bin**2 / 12) ** 0.5)

    def of_depth(self, levels: Levels, values: tuple[float, ...] = (-1.0, 1.0)) -> Self:
        """Noise as wide as a grey level; none for real numbers, nor where there was none."""
        if self.faithful and self.bin and levels != self.levels:
            raise ValueError("the authors' dequantisation noise is that of 8 bits: set faithful to false")
        width = self.bin if levels == self.levels else 2 / (levels - 1) if levels and self.bin else 0.0
        return replace(self, levels=levels, values=tuple(values), bin=width)


@dataclass(frozen=True)
class Bits(Space):
    """Bits 0 and 1 for binomial diffusion, out of the ends of the range, black and white."""

    mean: Annotated[float, Range(-1, 1)] = 0.0
    """Of the data in {-1, 1}; taken from the data set, for the null model."""

    has_moments = True

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        return (images + 1) / 2

    def decode(self, x: Tensor) -> Tensor:
        return 2 * x - 1

    def fitted(self, parts: Iterable[Tensor]) -> Bits:
        return replace(self, mean=_mean_and_variance(parts)[0])


def _mean_and_variance(parts: Iterable[Tensor]) -> tuple[float, float]:
    """Of all the numbers in parts of any shape."""
    mean, variance = mean_and_variance(part.reshape(1, -1) for part in parts)
    return mean.item(), variance.item()


def _first(parts: Iterable[Tensor], count: int) -> Iterator[Tensor]:
    """The first so many images of parts (n, C, ...)."""
    for part in parts:
        yield part[:count]
        count -= len(part)
        if count <= 0:
            return
