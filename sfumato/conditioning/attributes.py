"""Multi-label conditioning: several binary attributes of an image at once, and how they are asked for in words.

An image's attributes are numbers a: 1 where one is present, -1 where it is absent, 0 where that is not known. The
network adds a . E to its embedding, E an embedding of each; 0 for all is what guidance hides (Ho & Salimans 2022).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from sfumato.conditioning.base import Conditioning
from sfumato.core.diffusion import Inputs
from sfumato.core.distributions import Noise
from sfumato.fields import Length
from sfumato.networks.backbone import Embedded, Share
from sfumato.spec import unknown

SAID = {"1": 1, "0": -1, "?": 0}
"""What NAME=... stands for: present, absent, not known."""


@dataclass(frozen=True)
class Attributes(Conditioning):
    """Multi-label conditioning: the embeddings of several binary attributes, summed, such as smiling and with a hat.

    That of a present one is added, that of an absent one taken away, which is the sum of those that are present but for
    a constant; one that is not known adds nothing.
    """

    dropout: Share = 0.1
    """Share of images whose attributes are all hidden in training, for classifier-free guidance."""
    unknown: Share = 0.0
    """Share of single attributes that are hidden besides, so that a request may leave some open."""
    names: Annotated[tuple[str, ...], Length(0, 4096)] = ()
    """Of the attributes; taken from the data set."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(set(self.names)) < len(self.names):
            raise ValueError("an attribute is named twice")
        object.__setattr__(self, "numbers", len(self.names))

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        return replace(given, numbers=given.numbers + len(self.names))

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        if not self.names:
            return {}
        a = given["attributes"].float()
        if self.dropout or self.unknown:
            z = noise(torch.empty(len(a), 1 + len(self.names) * (self.unknown > 0), device=a.device))
            chance = torch.special.ndtr(z)
            a = a.where(chance[:, :1] >= self.dropout, 0.0)
            a = a.where(chance[:, 1:] >= self.unknown, 0.0) if self.unknown else a
        return {"numbers": a}

    def told(self, attributes: Tensor | None) -> Inputs:
        if attributes is None and self.names and not self.dropout:
            raise ValueError(f"this model was trained with attributes, so each picture needs its own: {_example(self)}")
        return {} if attributes is None or not self.names else {"numbers": attributes.float()}

    def hidden(self, inputs: Inputs) -> Inputs:
        if not self.dropout:
            return super().hidden(inputs)
        if "numbers" not in inputs:
            raise ValueError(f"guidance exaggerates attributes, and none are asked for: {_example(self)}")
        return {**inputs, "numbers": torch.zeros_like(inputs["numbers"])}

    def row(self, words: str) -> tuple[int, ...]:
        """The numbers of words such as `smiling,-hat` or `smiling,hat=0,young=?`.

        What is not named is not known where single ones were hidden in training (`unknown`), and else absent.
        """
        found: dict[str, int] = {}
        for word in filter(None, words.split(",")):
            name, value = _parted(word.strip(), self.names)
            if name not in self.names:
                raise ValueError(unknown("attribute", name, self.names))
            if found.setdefault(name, value) != value:
                raise ValueError(f"{name} is asked for and against in {words!r}")
        return tuple(found.get(name, 0 if self.unknown else -1) for name in self.names)

    def attributed(self, names: tuple[str, ...]) -> Conditioning:
        if not names:
            raise ValueError(
                "the data have no attributes, which this conditioning needs: folder:...?attributes=FILE.csv"
            )
        if self.names and self.names != names:
            other = next((name for name in names if name not in self.names), names[0])
            raise ValueError(f"the model has other attributes than the data: {unknown('attribute', other, self.names)}")
        return replace(self, names=names)

    def numbered(self) -> tuple[str, ...]:
        return self.names


def _parted(word: str, names: tuple[str, ...]) -> tuple[str, int]:
    """The name and the number of a word: NAME, -NAME, NAME=1, NAME=0 or NAME=?."""
    name, mark, value = word.rpartition("=")
    if mark and word not in names:
        if value not in SAID:
            raise ValueError(f"an attribute is NAME, -NAME, or NAME=1, NAME=0 or NAME=? for not known, not {word!r}")
        return name, SAID[value]
    return (word[1:], -1) if word.startswith("-") and word not in names else (word, 1)


def _example(attributes: Attributes) -> str:
    return f"{attributes.names[0]}, say, of {', '.join(attributes.names[:8])}"
