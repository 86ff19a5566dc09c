"""A set of pictures, in memory or mapped into it: what every source becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from torch import Tensor

from sfumato.data.card import DataCard, make_card


class Example(NamedTuple):
    """One image, uint8 (C, H, W), with its label, its text and a key that stays the same."""

    image: Tensor
    label: int | None
    text: str | None
    key: str


Fetch = Callable[[range], tuple[Tensor, Tensor | None, list[str]]]
"""Image counters -> pixels uint8 (B, C, H, W), labels int64 (B,) where there are any, and keys."""


class Streamed(Protocol):
    """More images than memory holds, which training reads as it goes (`stream`)."""

    def feed(self, batch: int, seed: int) -> Fetch:
        """What fetches them, in batches of so many, in an order that the seed decides."""
        ...


@dataclass(frozen=True)
class Images:
    """A set of pictures in memory (or mapped into it).

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), or None.
        texts: a caption each, or None.
        keys: a stable name each.
        classes: names of the labels.
        card: what was found.
        stream: where these are only a first look at more, which training reads as it goes (`stream`).
    """

    images: Tensor
    labels: Tensor | None
    texts: tuple[str, ...] | None
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    card: DataCard
    stream: Streamed | None = None

    @property
    def spec(self) -> str:
        return self.card.spec

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.card.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Example:
        label = None if self.labels is None else int(self.labels[i])
        return Example(self.images[i], label, None if self.texts is None else self.texts[i], self.keys[i])

    def take(self, indices: Tensor) -> Images:
        """Only these images, in this order; the card keeps its text and counts anew."""
        labels = None if self.labels is None else self.labels[indices]
        order = indices.tolist()
        texts = None if self.texts is None else tuple(self.texts[i] for i in order)
        images = self.images[indices].contiguous()
        card = self.card
        fresh = make_card(
            card.spec, images, labels, self.classes, bits=card.bits, corrupt=card.corrupt, licence=card.licence,
            notes=card.own_notes, sizes=card.sizes,
        )  # fmt: skip
        return Images(images, labels, texts, tuple(self.keys[i] for i in order), self.classes, fresh)
