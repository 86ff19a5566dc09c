"""Conditionings: labels, a small image, an augmentation's numbers, predictions fed back, and several together.

Class labels with dropout (Ho & Salimans 2022), the small image that an upsampler enlarges (Nichol & Dhariwal 2021,
section 6; Dhariwal & Nichol 2021, section 5), the numbers of an augmentation (Karras et al. 2022, appendix F.2), and
the model's own prediction (Chen, Zhang & Hinton 2023).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.conditioning.base import Conditioning, Predict, Unconditional
from sfumato.core import augmentation
from sfumato.core.denoisers import Denoise
from sfumato.core.diffusion import Inputs
from sfumato.core.distributions import Noise
from sfumato.core.feedback import Feedback
from sfumato.core.guidance import drop_labels
from sfumato.fields import Length, Range
from sfumato.networks.backbone import Embedded, Share
from sfumato.shapes import only_images


@dataclass(frozen=True)
class Labels(Conditioning):
    """Class labels, some of which are hidden in training for classifier-free guidance (Ho & Salimans 2022)."""

    classes: Annotated[int, Range(0, 1 << 20)] = 10
    """How many; taken from the data set. 0 where the data have none."""
    dropout: Share = 0.0
    """Share of labels hidden in training (Ho & Salimans hide 0.1 to 0.2)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.dropout and not self.classes:
            raise ValueError("label dropout needs classes")

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        return replace(given, labels=self.classes + bool(self.dropout))

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        if not self.classes:
            return {}
        y = given["y"]
        return {"y": drop_labels(y, self.dropout, self.classes, noise) if self.dropout else y}

    def inputs(self, labels: Tensor | None = None, picture: Tensor | None = None) -> Inputs:
        if labels is None and self.classes:
            raise ValueError("this model was trained with classes, so each picture needs its label")
        return {"y": labels} if labels is not None and self.classes else {}

    def hidden(self, inputs: Inputs) -> Inputs:
        if not self.dropout:
            return super().hidden(inputs)
        return {**inputs, "y": torch.full_like(inputs["y"], self.classes)}

    def fitted(self, classes: int, labelled: bool) -> Conditioning:
        return Labels(classes, self.dropout) if labelled and classes else Unconditional()


@dataclass(frozen=True)
class LowRes(Conditioning):
    """A small image that the model enlarges; in training, the mean over areas of the image itself."""

    picture: Annotated[int, Range(1, 4096)] = 64
    """Its height and width."""
    pictured = True

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        if not 0 < self.picture < shape[-1]:
            raise ValueError(f"an upsampler enlarges: {self.picture} pixels are not fewer than {shape[-1]}")
        return replace(given, picture=shape[0])

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        small = given.get("low_res")
        return {"low_res": self.made(images, noise) if small is None else small}

    def inputs(self, labels: Tensor | None = None, picture: Tensor | None = None) -> Inputs:
        if picture is None:
            side = f"{self.picture}x{self.picture}"
            raise ValueError(f"this model enlarges {side} images, so it needs some: give low_res")
        return {"low_res": picture}

    def asks(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (shape[0], self.picture, self.picture)

    def made(self, images: Tensor, noise: Noise) -> Tensor:
        return F.interpolate(images, self.picture, mode="area")

    def paired(self, shape: tuple[int, ...] | None) -> Conditioning:
        if shape is not None:
            raise ValueError("low-res shrinks the images itself: for pairs set conditioning to picture")
        return self


@dataclass(frozen=True)
class Augmented(Conditioning):
    """Non-leaky augmentation: random geometric transforms of which the network is told (Karras et al. 2022).

    Mirroring, scale, rotation, anisotropy and translation (appendix F.2). The nine numbers that describe them are zeros
    in sampling, so that the model draws images as they are; in validation nothing is augmented.
    """

    p: Annotated[float, Range(0, 1)] = 0.12
    """Probability of each transform but the mirroring left to right; the paper's for CIFAR-10, 0.15 for faces."""
    mirror: Annotated[float, Range(0, 1)] = 0.5
    """Share of the images that is mirrored left to right."""
    numbers = augmentation.NUMBERS
    augments = True

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        only_images(shape, "an augmentation", "train without")
        return replace(given, numbers=given.numbers + self.numbers)

    def changed(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, Mapping[str, Tensor]]:
        images, numbers = augmentation.augmented(images, self.p, self.mirror, noise)
        return images, {**given, "numbers": numbers}

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        return {"numbers": given["numbers"]} if "numbers" in given else {}


@dataclass(frozen=True)
class SelfConditioned(Conditioning):
    """Self-conditioning: the network also sees its own x0, predicted before (Chen, Zhang & Hinton 2023, Bit Diffusion).

    In training zeros, or for a share of the images what a first pass without gradient predicts: one more forward pass
    for these. In sampling see `core.feedback`; whatever else asks the denoiser, such as a likelihood, gives it zeros.
    """

    share: Annotated[float, Range(0, 1)] = 0.5
    """Share of training images that are seen twice."""
    feeds_back = True

    def seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return (2 * shape[0], *shape[1:])

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        return self.inputs()

    def twice(self, inputs: Inputs, predict: Predict, x: Tensor, noise: Noise) -> Inputs:
        z = noise(torch.empty(len(x), 1))[:, 0]  # on the host
        chosen = (torch.special.ndtr(z) < self.share).nonzero()[:, 0]
        some = chosen if len(chosen) else torch.zeros(1, dtype=torch.long)  # processes that share weights all look
        some = some.to(x.device, non_blocking=True)
        with torch.no_grad():
            first = predict({name: value[some] if value.ndim else value for name, value in inputs.items()}, some)
        previous = torch.zeros_like(x)
        return {**inputs, "previous": previous.index_copy(0, some, first.to(x)) if len(chosen) else previous}

    def fed(self, make: Callable[[Inputs], Denoise], inputs: Inputs, range: tuple[float, float]) -> Denoise:
        return Feedback(make, inputs, range)

    def inputs(self, labels: Tensor | None = None, picture: Tensor | None = None) -> Inputs:
        return {"previous": torch.zeros(())}


@dataclass(frozen=True)
class Together(Conditioning):
    """Several conditionings at once, such as labels and a small image."""

    parts: Annotated[tuple[Conditioning, ...], Length(1, 8)] = (Labels(), LowRes())

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("classes", "picture", "pictured", "noise", "level", "augments", "names", "reads"):
            object.__setattr__(self, name, max(getattr(part, name) for part in self.parts))
        object.__setattr__(self, "numbers", sum(part.numbers for part in self.parts))
        of_labels = [part.dropout for part in self.parts if part.classes or not self.classes]
        object.__setattr__(self, "dropout", max(of_labels))
        if sum(part.pictured for part in self.parts) > 1:
            raise ValueError("a model is given one picture: name picture or low-res a single time")
        if sum(part.augments for part in self.parts) > 1:
            raise ValueError("the images are augmented twice; one augmentation is enough")
        if sum(bool(part.names) for part in self.parts) > 1:
            raise ValueError("a model has one set of attributes or a text: name attributes or text a single time")
        feeding = [part for part in self.parts if part.feeds_back]
        if len(feeding) > 1:
            raise ValueError("predictions are fed back once: name self a single time")
        object.__setattr__(self, "feeds_back", bool(feeding))

    @property
    def each(self) -> tuple[Conditioning, ...]:
        return self.parts

    def seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return reduce(lambda so_far, part: part.seen(so_far), self.parts, shape)

    def twice(self, inputs: Inputs, predict: Predict, x: Tensor, noise: Noise) -> Inputs:
        return reduce(lambda so_far, part: part.twice(so_far, predict, x, noise), self.parts, inputs)

    def fed(self, make: Callable[[Inputs], Denoise], inputs: Inputs, range: tuple[float, float]) -> Denoise:
        feeding = next((part for part in self.parts if part.feeds_back), None)
        return make(inputs) if feeding is None else feeding.fed(make, inputs, range)

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        return reduce(lambda so_far, part: part.embedded(shape, so_far), self.parts, given)

    def changed(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, Mapping[str, Tensor]]:
        for part in self.parts:
            images, given = part.changed(images, given, noise)
        return images, given

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        return self._merged([part.training(images, given, noise) for part in self.parts])

    def inputs(self, labels: Tensor | None = None, picture: Tensor | None = None) -> Inputs:
        return self._merged([part.inputs(labels, picture) for part in self.parts])

    def told(self, attributes: Tensor | None) -> Inputs:
        return self._merged([part.told(attributes) for part in self.parts])

    def row(self, words: str) -> tuple[int, ...]:
        return next((part.row(words) for part in self.parts if part.names), None) or super().row(words)

    def hidden(self, inputs: Inputs) -> Inputs:
        hides = [part for part in self.parts if part.dropout and not (part.names and "numbers" not in inputs)]
        return reduce(lambda given, part: part.hidden(given), hides, inputs) if hides else super().hidden(inputs)

    def noised(self, picture: Tensor, noise: Noise) -> Tensor:
        return reduce(lambda so_far, part: part.noised(so_far, noise), self.parts, picture)

    def with_level(self, level: float) -> Conditioning:
        if not self.pictured:
            return super().with_level(level)
        return Together(tuple(part.with_level(level) if part.pictured else part for part in self.parts))

    def asks(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        return next((part.asks(shape) for part in self.parts if part.pictured), None)

    def made(self, images: Tensor, noise: Noise) -> Tensor | None:
        return next((part.made(images, noise) for part in self.parts if part.pictured), None)

    def paired(self, shape: tuple[int, ...] | None) -> Conditioning:
        if shape is not None and self.augments:
            raise ValueError("an augmentation moves the images and not their inputs: leave augmented out for pairs")
        if not self.pictured:
            return super().paired(shape)
        return Together(tuple(part.paired(shape) if part.pictured else part for part in self.parts))

    def fitted(self, classes: int, labelled: bool) -> Conditioning:
        return Together(tuple(part.fitted(classes, labelled) for part in self.parts))

    def attributed(self, names: tuple[str, ...]) -> Conditioning:
        return Together(tuple(part.attributed(names) for part in self.parts))

    def captioned(self, texts: Sequence[str] | None) -> Conditioning:
        return Together(tuple(part.captioned(texts) for part in self.parts))

    def written(self, texts: Sequence[str]) -> Tensor:
        reading = next((part for part in self.parts if part.reads), None)
        return super().written(texts) if reading is None else reading.written(texts)

    def strange(self, words: str) -> dict[str, str]:
        return next((part.strange(words) for part in self.parts if part.reads), {})

    def numbered(self) -> tuple[str, ...]:
        return tuple(word for part in self.parts for word in part.numbered())

    def _merged(self, given: Sequence[Inputs]) -> Inputs:
        """The inputs of all parts; numbers side by side, zeros where a part has none to tell."""
        merged = {key: value for inputs in given for key, value in inputs.items()}
        if "numbers" in merged:
            like = merged["numbers"]
            merged["numbers"] = torch.cat(
                [inputs.get("numbers", like.new_zeros(len(like), part.numbers))
                 for part, inputs in zip(self.parts, given, strict=True)], dim=1
            )  # fmt: skip
        return merged
