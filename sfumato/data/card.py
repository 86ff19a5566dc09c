"""The data card: what a set of images really holds, printed and saved before anything is trained on it."""

from __future__ import annotations

import hashlib
import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.data.decoding import PIXELS
from sfumato.data.loader import levels_of
from sfumato.data.spec import MOST_CHANNELS
from sfumato.runtime.printable import printable
from sfumato.shapes import described, kind

SMALL = 5_000
"""Images of a set that is called small."""

INPUTS = "each with an input of "
"""How the note on pairs begins."""

FEW, WITHOUT, OPEN = "a small set", "no image in", "attributes not known"
"""How the notes begin that follow from the counts."""

BLOCK = 2**26
"""Bytes of pixels that are counted at a time."""


@dataclass(frozen=True)
class DataCard:
    """What was found. `mean` and `std` are per channel, between the ends of `span`; `fingerprint` is over pixels and
    labels.

    Attributes:
        levels: grey levels of a channel, 256 or 65536; 0 for real numbers.
        values: of those, what black and white are.
    """

    spec: str
    count: int
    shape: tuple[int, ...]
    bits: str
    sizes: dict[str, int]
    classes: dict[str, int]
    corrupt: tuple[str, ...]
    notes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    fingerprint: str
    attributes: dict[str, int] = field(default_factory=dict)
    """How many images have each."""
    levels: Literal[0, 256, 65536] = 256
    values: tuple[float, float] = (-1.0, 1.0)

    @property
    def span(self) -> tuple[float, float]:
        """Black and white: 0 and 255, 0 and 65535, or the `values` of real numbers."""
        return (0.0, self.levels - 1.0) if self.levels else self.values

    @property
    def in_bytes(self) -> dict[str, list[float]]:
        """Mean and standard deviation of each channel in 0..255, whatever the depth, as of pictures on a sheet."""
        low, high = self.span
        return {
            "mean": [255 * (v - low) / (high - low) for v in self.mean],
            "std": [255 * v / (high - low) for v in self.std],
        }

    @property
    def own_notes(self) -> tuple[str, ...]:
        """The notes without those that follow from the counts."""
        return tuple(note for note in self.notes if not note.startswith((FEW, WITHOUT, OPEN)))

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        what = f"{self.count:,} {kind(self.shape)}, {described(self.shape)}, {self.bits}"
        lines = [f"data     {self.spec}: {what}"]
        if self.sizes:
            common = sorted(self.sizes.items(), key=lambda item: -item[1])
            shown = ", ".join(f"{size} ({n:,})" for size, n in common[:5])
            lines.append(f"sizes    {shown}{f' and {len(common) - 5} more' if len(common) > 5 else ''}")
        if self.classes:
            shown = ", ".join(f"{name} {n:,}" for name, n in list(self.classes.items())[:12])
            more = f", ... ({len(self.classes)} in all)" if len(self.classes) > 12 else ""
            lines.append(f"classes  {shown}{more}")
        if self.attributes:
            shown = ", ".join(f"{name} {n:,}" for name, n in list(self.attributes.items())[:40])
            more = f", ... ({len(self.attributes)} in all)" if len(self.attributes) > 40 else ""
            lines.append(f"has      {shown}{more}")
        form, (low, high) = ".1f" if self.levels else ".4g", self.span
        mean, std = (" ".join(f"{v:{form}}" for v in values) for values in (self.mean, self.std))
        what = "pixels" if len(self.shape) > 2 else "values"
        lines.append(f"{what}   mean {mean}, std {std} (of {low:.6g}..{high:.6g})")
        if self.corrupt:
            shown = ", ".join(self.corrupt[:5]) + (", ..." if len(self.corrupt) > 5 else "")
            lines.append(f"corrupt  {len(self.corrupt)} skipped: {shown}")
        lines += [f"note     {note}" for note in self.notes]
        if self.licence:
            lines.append(f"licence  {self.licence}")
        lines.append(f"sha256   {self.fingerprint}")
        return "\n".join(map(printable, lines))


def card_from_json(values: dict[str, Any]) -> DataCard:
    """What `DataCard.to_json` wrote. ValueError or TypeError where it did not write this."""

    def numbers(value: Any) -> bool:
        return all(isinstance(v, int | float) and math.isfinite(v) for v in value)

    held: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in values.items()}
    card = DataCard(**held)
    words = (card.spec, card.bits, card.licence, card.fingerprint, *card.corrupt, *card.notes)
    counts = (card.count, *card.shape, *card.sizes.values(), *card.classes.values(), *card.attributes.values())
    if not all(isinstance(word, str) for word in (*words, *card.sizes, *card.classes, *card.attributes)):
        raise ValueError("the data card has something else in the place of text")
    if not all(type(count) is int and count >= 0 for count in counts) or card.count < 1:
        raise ValueError("the data card has counts that are none")
    channels = card.shape[0] if 2 <= len(card.shape) <= 4 and min(card.shape) > 0 else 0
    if not 1 <= channels <= MOST_CHANNELS or math.prod(card.shape) > 3 * PIXELS:
        raise ValueError(f"the data card has images of the shape {card.shape}")
    if not len(card.mean) == len(card.std) == channels or not numbers((*card.mean, *card.std)):
        raise ValueError("the data card has no mean and standard deviation of each channel")
    if card.levels not in (0, 256, 65536) or len(card.values) != 2 or not numbers(card.values):
        raise ValueError("the data card has a depth that is none")
    return card


def make_card(
    spec: str,
    images: Tensor,
    labels: Tensor | None,
    classes: tuple[str, ...],
    *,
    bits: str | None = None,
    sizes: dict[str, int] | None = None,
    corrupt: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    licence: str = "",
    values: tuple[float, float] = (-1.0, 1.0),
) -> DataCard:
    """The card of images (N, C, H, W), uint8, uint16 or float32 in [-1, 1], or signals or clips, and labels (N,).

    Args:
        bits: the depth in words, where there is more to say than what the pixels tell.
        values: what -1 and 1 stand for in floats.
    """
    counts = torch.bincount(labels, minlength=len(classes)).tolist() if labels is not None else []
    named = dict(zip(classes, counts, strict=True)) if counts else {}
    notes = (*notes, *_remarks(len(images), named))
    (mean, std), levels = _moments(images, values), levels_of(images)
    return DataCard(
        spec=spec, count=len(images), shape=tuple(images.shape[1:]),
        bits=bits or DEPTHS[levels].format(*values), levels=levels, values=values,
        sizes=sizes or {}, classes=named, corrupt=corrupt, notes=notes, mean=mean, std=std, licence=licence,
        fingerprint=fingerprint(images, labels),
    )  # fmt: skip


DEPTHS = {
    256: "8 bits a channel", 65536: "16 bits a channel", 0: "real numbers from {:g} to {:g}",
}  # fmt: skip
"""The depth of pixels of so many grey levels, in words."""


def with_inputs(card: DataCard, inputs: Tensor) -> DataCard:
    """The card of targets with input pictures (N, C, h, w) beside them: a note, and a fingerprint of both."""
    mean = " ".join(f"{v:.1f}" for v in _moments(inputs)[0])
    note = f"{INPUTS}{described(inputs.shape[1:])}, mean {mean}"
    notes = (note, *(n for n in card.notes if not n.startswith(INPUTS)))
    both = hashlib.sha256(f"{card.fingerprint} {fingerprint(inputs, None)}".encode()).hexdigest()
    return replace(card, notes=notes, fingerprint=both)


def fingerprint(images: Tensor, labels: Tensor | None) -> str:
    """SHA-256 of the pixels, image by image, and the labels."""
    digest = hashlib.sha256()
    for block in images.split(_images_in(images, BLOCK)):
        digest.update(block.contiguous().numpy())
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    return digest.hexdigest()


def _remarks(count: int, classes: dict[str, int]) -> tuple[str, ...]:
    """What `DataCard.own_notes` leaves out: it follows from the counts."""
    found = []
    if none := [name for name, n in classes.items() if n == 0]:
        shown = ", ".join(none[:12]) + (", ..." if len(none) > 12 else "")
        found.append(f"{WITHOUT} {len(none):,} of {len(classes):,} classes: {shown}")
    if count < SMALL:
        found.append(f"{FEW}: below {SMALL:,} images a long run memorises; look at nearest neighbours")
    return tuple(found)


def _images_in(images: Tensor, most: int) -> int:
    """How many images so many bytes hold, at least one."""
    return max(1, most // max(1, images[:1].nbytes))


def _moments(images: Tensor, values: tuple[float, float] = (-1.0, 1.0)) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation, in blocks so that memory stays small.

    In grey levels from 0, or in the units of `values` where images are floats in [-1, 1].
    """
    channels, number = images.shape[1], levels_of(images)
    total, levels = torch.zeros(2, channels, dtype=torch.float64), torch.arange(number, dtype=torch.float64)
    low, high = values
    for block in images.split(_images_in(images, BLOCK)):
        if not number:
            x = low + (block.double() + 1) * ((high - low) / 2)
            places = (0, *range(2, x.ndim))
            total += torch.stack([x.sum(places), (x * x).sum(places)])
            continue
        for channel in range(channels):
            counts = torch.bincount(block[:, channel].reshape(-1).int(), minlength=number).double()
            total[:, channel] += torch.stack([counts @ levels, counts @ levels.square()])
    mean, square = total / (images.numel() / images.shape[1])
    digits = 3 if number else 6
    return tuple(round(v, digits) for v in mean.tolist()), tuple(
        round(v, digits) for v in (square - mean**2).clamp(min=0).sqrt().tolist()
    )
