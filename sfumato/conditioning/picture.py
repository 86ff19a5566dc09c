"""Image-to-image: a model conditioned on a picture (SR3, Saharia et al. 2021; Palette, Saharia et al. 2022).

The picture is enlarged to the size of x and concatenated with it; beside it stand, where there are any, a channel that
is 1 where the picture is known, and one with the level of noise on it (cascades: Ho et al. 2022, section 4.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated

import torch
from torch import Tensor

from sfumato import spec
from sfumato.conditioning.base import Conditioning
from sfumato.core.diffusion import Inputs
from sfumato.core.distributions import Noise
from sfumato.fields import Length, Range
from sfumato.inverse import CONDITIONS, Operator
from sfumato.networks.backbone import Embedded, Share

PAIRS = "pairs"
"""The word for pictures that come with the images."""


@dataclass(frozen=True)
class Picture(Conditioning):
    """Image-to-image translation: a picture as input, such as a grey, small, blurred or incomplete one of the image."""

    by: str = PAIRS
    """What makes it of an image: grey, mean-pool?factor=4, bicubic?factor=4, blur?std=2, mask (random boxes) or edges;
    or pairs, where the data have an input for each image (pair:INPUTS|TARGETS)."""
    dropout: Share = 0.0
    """Share of pictures hidden in training, for classifier-free guidance: zeros, and 0 in the channel of the known."""
    noise: Annotated[float, Range(0, 1)] = 0.0
    """Noise-conditioning augmentation: Gaussian noise on the picture, of a deviation uniform from 0 to this and told to
    the network, the picture itself times sqrt(1 - deviation^2)."""
    level: Annotated[float, Range(0, 1)] = 0.0
    """Deviation of the noise on the picture in sampling, at most `noise`."""
    shape: Annotated[tuple[Annotated[int, Range(1, 1 << 20)], ...], Length(0, 3)] = ()
    """Of the pictures of pairs, (C, h, w); taken from the data."""
    pictured = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.level > self.noise:
            raise ValueError(f"the noise on pictures is at most that of training, {self.noise:g}, not {self.level:g}")
        if self.by != PAIRS:
            _ = self.operator
            if self.shape:
                raise ValueError("the shape of a picture follows from what makes it; it is for pairs alone")

    @cached_property
    def operator(self) -> Operator:
        """What makes the picture. ValueError for what is unknown, and for pairs, which nothing makes."""
        known: dict[str, type[Operator]] = {PAIRS: _Given, **CONDITIONS}
        return spec.construct(known, self.by, "picture")

    @property
    def marked(self) -> bool:
        """Whether a channel says where the picture is known."""
        return self.dropout > 0 or self.operator.hides

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        channels = self._of_picture(shape)[0]
        return replace(given, picture=channels + self.marked + (self.noise > 0))

    def asks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        channels, *sides = self._of_picture(shape)
        return (channels + self.operator.hides, *sides)

    def made(self, images: Tensor, noise: Noise) -> Tensor | None:
        if self.by == PAIRS:
            return None
        operator = self.operator.drawn(images, noise)
        seen = operator(images)
        if not self.operator.hides:
            return seen
        return torch.cat([seen, 2 * operator.seen(torch.ones_like(seen[:, :1])) - 1], dim=1)

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        picture = given["picture"] if self.by == PAIRS else self.made(images, noise)
        assert picture is not None
        picture, known = self._parted(picture)
        level = None
        if self.noise:
            level = self.noise * _uniform(picture, noise)
            picture = _augmented(picture, level, noise)
        inputs = self._joined(picture, known, level)
        if not self.dropout:
            return inputs
        return {"low_res": torch.where(_uniform(picture, noise) < self.dropout, 0.0, inputs["low_res"])}

    def inputs(self, labels: Tensor | None = None, picture: Tensor | None = None) -> Inputs:
        if picture is None:
            raise ValueError(f"this model was trained with pictures as inputs ({self.by}), so it needs some")
        picture, known = self._parted(picture)
        return self._joined(picture, known, torch.full_like(known[:, :, :1, :1], self.level) if self.level else None)

    def noised(self, picture: Tensor, noise: Noise) -> Tensor:
        if not self.level:
            return picture
        picture, known = self._parted(picture)
        level = torch.full_like(known[:, :, :1, :1], self.level)
        augmented = _augmented(picture, level, noise)
        return torch.cat([augmented, 2 * known - 1], dim=1) if self.operator.hides else augmented

    def with_level(self, level: float) -> Conditioning:
        return replace(self, level=level)

    def hidden(self, inputs: Inputs) -> Inputs:
        if not self.dropout:
            raise ValueError("guidance needs a model whose pictures were hidden in training: picture?dropout=0.1, say")
        return {**inputs, "low_res": torch.zeros_like(inputs["low_res"])}

    def paired(self, shape: tuple[int, ...] | None) -> Conditioning:
        if (self.by == PAIRS) == (shape is None):
            raise ValueError(
                'no inputs to the images: the data are pair:INPUTS|TARGETS, or made by "picture?by=grey", say'
                if shape is None else f"these data are pairs: leave out by={self.by}"
            )  # fmt: skip
        return self if shape is None else replace(self, shape=tuple(shape))

    def _of_picture(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """(C, h, w) of the picture of an image (C, H, W)."""
        return (self.shape or tuple(shape)) if self.by == PAIRS else self.operator.check(shape)

    def _parted(self, picture: Tensor) -> tuple[Tensor, Tensor]:
        """A picture, 0 where it is not known, and where it is, (B, 1, h, w) of 0 and 1."""
        if not self.operator.hides:
            return picture, torch.ones_like(picture[:, :1])
        known = (picture[:, -1:] > 0).to(picture)
        return picture[:, :-1] * known, known

    def _joined(self, picture: Tensor, known: Tensor, level: Tensor | None) -> Inputs:
        """What the network is given; no level is 0."""
        parts = [picture, known] if self.marked else [picture]
        if self.noise:
            parts.append(torch.zeros_like(known) if level is None else level.expand_as(known))
        return {"low_res": torch.cat(parts, dim=1)}


@dataclass(frozen=True)
class _Given(Operator):
    """Pictures that come with the images."""


def _augmented(picture: Tensor, level: Tensor, noise: Noise) -> Tensor:
    """The picture (B, C, h, w) with noise of this deviation (B, 1, 1, 1)."""
    return (1 - level.square()).sqrt() * picture + level * noise(picture)


def _uniform(picture: Tensor, noise: Noise) -> Tensor:
    """A uniform number of each picture, (B, 1, 1, 1), from its own noise."""
    z = noise(torch.empty(len(picture), 1, device=picture.device))
    return torch.special.ndtr(z).to(picture)[:, :, None, None]
