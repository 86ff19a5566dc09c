"""A set of pictures, in memory or mapped into it: what every source becomes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, Protocol

import torch
from torch import Tensor

from sfumato.data.attributes import Attributed
from sfumato.data.card import DataCard, make_card, with_inputs
from sfumato.data.loader import levels_of, to_float


class Example(NamedTuple):
    """One image, (C, H, W), with its label, its text and a key that stays the same."""

    image: Tensor
    label: int | None
    text: str | None
    key: str


Fetch = Callable[[range], tuple[Tensor, Tensor | None, list[str]]]
"""Image counters -> pixels (B, C, H, W), labels int64 (B,) where there are any, and keys."""


class Streamed(Protocol):
    """More images than memory holds, which training reads as it goes (`stream`)."""

    def feed(self, batch: int, seed: int) -> Fetch:
        """What fetches them, in batches of so many, in an order that the seed decides."""
        ...


@dataclass(frozen=True)
class Images:
    """A set of pictures in memory (or mapped into it).

    Attributes:
        images: (N, C, H, W), uint8 or uint16; real numbers, such as points, are float32 in [-1, 1]. Signals are
            (N, C, L), clips (N, C, T, H, W).
        labels: int64 (N,), or None.
        texts: a caption each, or None.
        keys: a stable name each.
        classes: names of the labels.
        card: what was found.
        stream: where these are only a first look at more, which training reads as it goes (`stream`).
        inputs: of pairs, the input picture of each, (N, C', h, w) (`pairs`).
        noise: that of which each was made by a flow, (N, C', H', W') floats in what the diffusion sees (`reflow`).
        attributes: several an image, by name (`attributes`), or None.
        buckets: of a set with several sizes, the images of each, of which these are the first and most.
        moments: what the space of a model makes of each in the first part of encoding, float (N, ...), kept
            (`Space.moments`); None where it is computed when needed.
    """

    images: Tensor
    labels: Tensor | None
    texts: tuple[str, ...] | None
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    card: DataCard
    stream: Streamed | None = None
    inputs: Tensor | None = None
    noise: Tensor | None = None
    buckets: tuple[Images, ...] = ()
    attributes: Attributed | None = None
    moments: Tensor | None = None

    @property
    def spec(self) -> str:
        return self.card.spec

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, (C, L) of a signal, (C, T, H, W) of a clip."""
        return self.card.shape

    @property
    def levels(self) -> Literal[0, 256, 65536]:
        """Grey levels of a channel: 256 or 65536, or 0 for real numbers."""
        return levels_of(self.images)

    @property
    def are_points(self) -> bool:
        """Whether these are points in the plane, real numbers in the form of pictures of two pixels."""
        return not self.levels and tuple(self.images.shape[2:]) == (1, 2)

    def __len__(self) -> int:
        return len(self.images)

    @property
    def parts(self) -> tuple[Images, ...]:
        """The images of each size."""
        return self.buckets or (self,)

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
            notes=card.own_notes, sizes=card.sizes, values=card.values,
        )  # fmt: skip
        inputs = None if self.inputs is None else self.inputs[indices].contiguous()
        keys = tuple(self.keys[i] for i in order)
        attributes = None if self.attributes is None else self.attributes.take(indices)
        noise = None if self.noise is None else self.noise[indices]
        taken = Images(
            images, labels, texts, keys, self.classes, fresh, inputs=inputs, attributes=attributes, noise=noise
        )  # fmt: skip
        return taken.carded(fresh)

    def carded(self, card: DataCard) -> Images:
        """The same with the card of its pixels and labels, to which what lies beside them is added."""
        card = card if self.inputs is None else with_inputs(card, self.inputs)
        return replace(self, card=card if self.attributes is None else self.attributes.carded(card))

    @property
    def named(self) -> tuple[str, ...]:
        """The names of the attributes."""
        return () if self.attributes is None else self.attributes.names

    def given(self, chosen: Tensor, labelled: bool, device: torch.device | str = "cpu") -> dict[str, Tensor]:
        """What training hands over beside these images (n,): labels y where the model has them, inputs of pairs,
        noise eps of reflow, attributes."""
        found: dict[str, Tensor] = {}
        if labelled and self.labels is not None:
            found["y"] = self.labels[chosen].to(device, non_blocking=True)
        if self.inputs is not None:
            found["picture"] = to_float(self.inputs[chosen].to(device, non_blocking=True))
        if self.noise is not None:
            found["eps"] = self.noise[chosen].to(device, non_blocking=True).float()
        if self.attributes is not None:
            found["attributes"] = self.attributes.values[chosen].to(device, non_blocking=True)
        if self.moments is not None:
            found["moments"] = self.moments[chosen].to(device, non_blocking=True)
        return found


def in_buckets(parts: Sequence[Images]) -> Images:
    """Images of several sizes as one set, by its first part: its card counts all, and is of the pixels of all."""
    first, *others = parts
    if not others:
        return first
    cards = [part.card for part in parts]
    digest = hashlib.sha256(" ".join(card.fingerprint for card in cards).encode()).hexdigest()
    listed = ", ".join(f"{card.shape[2]}x{card.shape[1]} {card.count:,}" for card in cards)
    card = replace(
        first.card, count=sum(card.count for card in cards), fingerprint=digest,
        classes={name: sum(card.classes[name] for card in cards) for name in first.card.classes},
        attributes={name: sum(card.attributes[name] for card in cards) for name in first.card.attributes},
        notes=(f"in {len(cards)} buckets: {listed}; pixels are of the first", *first.card.notes),
    )  # fmt: skip
    return replace(first, card=card, buckets=tuple(parts))
