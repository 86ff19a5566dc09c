"""All pictures of a folder, of tar shards or of a datasets folder, read into memory with a card of what was met."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from sfumato.data.attributes import Attributed
from sfumato.data.card import make_card
from sfumato.data.decoding import Unreadable
from sfumato.data.framing import place_of
from sfumato.data.images import Images, in_buckets
from sfumato.data.loader import levels_of
from sfumato.data.reading import DEPTH_WORDS, Record, Shelf, reason, with_channels
from sfumato.data.room import Room
from sfumato.data.spec import DataError
from sfumato.data.upright import Met, upright

Found = tuple[Tensor, Record, bool]
"""Pixels (C, H, W), where they come from, and whether grey ones were stored as a palette."""


def collected(shelf: Shelf) -> Images:
    """Everything on a shelf, in memory. DataError where the pictures are of several kinds, or none can be read."""
    spec, met = shelf.spec, Met()
    found = _read_all(shelf, met)
    if not found:
        raise DataError(f"none of the {len(shelf)} images in {shelf.place} can be read; the first is {met.corrupt[0]}")
    channels = _channels(shelf, found)
    sizes = Counter((pixels.shape[2], pixels.shape[1]) for pixels, *_ in found)
    if len(sizes) > 1 and not spec.buckets:
        raise DataError(
            f"{shelf.place} mixes {len(sizes)} image sizes, from {min(sizes)} to {max(sizes)} (width, height); "
            "choose with ?size=64, say"
        )
    _check_depth(shelf, found)
    notes = (*shelf.notes, *met.notes)
    if spec.limit is not None and spec.limit < len(shelf):
        notes += (f"?limit keeps the first {len(found):,} of {len(shelf):,}",)
    turned = Counter(len(pixels) for pixels, *_ in found)
    if channels == 1 and turned[3]:
        notes += (f"{turned[3]:,} colour turned into grey",)
    if channels == 3 and turned[1]:
        notes += (f"{turned[1]:,} grey repeated to three channels",)
    if not spec.buckets:
        return _together(shelf, found, channels, met, notes)
    if spec.bucket is not None:
        sizes = Counter({spec.bucket: sizes[spec.bucket]})
        if not sizes[spec.bucket]:
            raise DataError(f"{shelf.place} has no picture in the bucket {spec.bucket}")
    parts = [
        _together(shelf, [row for row in found if (row[0].shape[2], row[0].shape[1]) == size], channels, met, notes)
        for size, _ in sizes.most_common()
    ]  # fmt: skip
    return in_buckets(parts)


def _together(shelf: Shelf, found: list[Found], channels: int, met: Met, notes: tuple[str, ...]) -> Images:
    """Pictures of one size as one tensor, with their card."""
    spec = shelf.spec
    records = [record for _, record, _ in found]
    images = torch.empty((len(found), channels, *found[0][0].shape[1:]), dtype=found[0][0].dtype)
    for i in range(len(found)):
        images[i] = with_channels(found[i][0], channels)
        found[i] = (images[i], *found[i][1:])  # the pixels are held once
    labels = torch.tensor([record.label for record in records]) if shelf.classes else None
    card = make_card(
        spec.text, images, labels, shelf.classes, bits=met.bits, sizes=dict(met.sizes), corrupt=tuple(met.corrupt),
        notes=notes, licence=shelf.licence, values=shelf.ends,
    )  # fmt: skip
    texts = tuple(record.text or "" for record in records)
    keys = tuple(record.key for record in records)
    attributes = None
    if shelf.named:
        attributes = Attributed(shelf.named, torch.tensor([record.attributes for record in records], dtype=torch.int8))
    made = Images(
        images, labels, texts if any(texts) else None, keys, shelf.classes, card, attributes=attributes
    )  # fmt: skip
    return made.carded(card)


def _check_depth(shelf: Shelf, found: list[Found]) -> None:
    """DataError where pictures are of several depths: which, how many of each, and the first of the fewer."""
    kinds = Counter(levels_of(pixels) for pixels, *_ in found)
    if len(kinds) < 2:
        return
    (most, _), *_, (least, _) = kinds.most_common()
    first = next(record.key for pixels, record, _ in found if levels_of(pixels) == least)
    counts = " and ".join(f"{kinds[levels]:,} images of {DEPTH_WORDS[levels]}" for levels in (most, least))
    raise DataError(f"{shelf.place} mixes {counts}, {first} for one; choose with ?bits=8 or ?bits=16")


def _read_all(shelf: Shelf, met: Met) -> list[Found]:
    """The pictures that can be read; up to the limit, where none are chosen by class afterwards."""
    from tqdm import tqdm

    spec, room, found = shelf.spec, Room(shelf.place), list[Found]()
    most = None if "classes" in spec.options else spec.limit
    for record in tqdm(shelf.records(), f"reading {shelf.place}", len(shelf), unit="image", disable=None, leave=False):
        assert not isinstance(record.picture, Tensor)
        try:
            picture = upright(record.picture, spec, room, place_of(record.key))
        except Unreadable as error:
            met.corrupt.append(record.key + reason(error))
            continue
        met.add(picture.met)
        pixels = picture.pixels
        room.add(held=pixels.nbytes)
        found.append((pixels, record._replace(picture=b""), picture.either))  # the file is not held
        if len(found) == most:
            break
    return found


def _channels(shelf: Shelf, found: list[Found]) -> int:
    """As the spec says, or as all pictures are; palettes of greys go with both. DataError where they are of both."""
    if shelf.spec.channels is not None:
        return shelf.spec.channels
    kinds = Counter(len(pixels) for pixels, _, either in found if not either)
    if len(kinds) > 1:
        raise DataError(
            f"{shelf.place} mixes {kinds[1]:,} grey and {kinds[3]:,} colour images; "
            "choose with ?channels=3 or ?channels=1"
        )
    return next(iter(kinds), 1)
