"""All pictures of a folder, of tar shards or of a datasets folder, read into memory with a card of what was met."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor

from sfumato.data.card import make_card
from sfumato.data.images import Images
from sfumato.data.reading import DAMAGE, Met, Shelf, from_pillow, upright
from sfumato.data.spec import DataError


def collected(shelf: Shelf) -> Images:
    """Everything on a shelf, in memory. DataError where the pictures are of several kinds, or none can be read."""
    from tqdm import tqdm

    spec, met, found = shelf.spec, Met(), []
    for record in tqdm(shelf.records(), f"reading {shelf.place}", len(shelf), unit="image", disable=None, leave=False):
        assert not isinstance(record.picture, Tensor)
        try:
            image, seen = upright(record.picture, spec)
        except DAMAGE as error:
            if isinstance(error, DataError):
                raise
            met.corrupt.append(record.key)
            continue
        met.add(seen)
        found.append((image, record))
    if not found:
        raise DataError(f"none of the {len(shelf)} images in {shelf.place} can be read; the first is {met.corrupt[0]}")
    kinds = Counter(image.mode for image, _ in found)
    if spec.channels is None and len(kinds) > 1:
        raise DataError(
            f"{shelf.place} mixes {kinds['L']:,} grey and {kinds['RGB']:,} colour images; "
            "choose with ?channels=3 or ?channels=1"
        )
    mode = {1: "L", 3: "RGB", None: next(iter(kinds))}[spec.channels]
    shapes = Counter(image.size for image, _ in found)
    if len(shapes) > 1:
        raise DataError(
            f"{shelf.place} mixes {len(shapes)} image sizes, from {min(shapes)} to {max(shapes)} (width, height); "
            "choose with ?size=64, say"
        )
    images = torch.stack([from_pillow(image.convert(mode)) for image, _ in found])
    records = [record for _, record in found]
    labels = torch.tensor([record.label for record in records]) if shelf.classes else None
    notes = met.notes
    if mode == "L" and kinds["RGB"]:
        notes += (f"{kinds['RGB']:,} colour turned into grey",)
    if mode == "RGB" and kinds["L"]:
        notes += (f"{kinds['L']:,} grey repeated to three channels",)
    card = make_card(
        spec.text, images, labels, shelf.classes, bits=met.bits, sizes=dict(met.sizes), corrupt=tuple(met.corrupt),
        notes=notes, licence=shelf.licence,
    )  # fmt: skip
    texts = tuple(record.text or "" for record in records)
    keys = tuple(record.key for record in records)
    return Images(images, labels, texts if any(texts) else None, keys, shelf.classes, card)
