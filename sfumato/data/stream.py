"""Sources larger than memory, read block by block while training goes on: which image comes when, fetched ahead.

Blocks (tar shards, say) are dealt to lanes, and a batch is cut evenly into lanes. So a process, which takes a part of
each batch, reads the blocks of its own lanes, and which image has which number depends on nothing but the seed and the
size of a batch: not on the number of processes, nor on whether the run was ever interrupted.
"""

from __future__ import annotations

import os
import warnings
from bisect import bisect_right
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from itertools import accumulate, islice

import numpy as np
import torch
from torch import Tensor

from sfumato.core.randomness import mix
from sfumato.data.card import FEW, SMALL, make_card
from sfumato.data.framing import place_at
from sfumato.data.images import Images
from sfumato.data.reading import Reader, Record, Shelf
from sfumato.data.sources import CHOOSING, SHELVES, STREAMED, open_source, opened, parse_spec
from sfumato.data.spec import FRAMING, DataError, Spec

LANES = 32
"""Lanes at most: so many blocks are open at a time, over all processes."""

LOOK = 256
"""Images of the first look."""

CUT = 1
"""Of the random numbers of a seed, those for the places of random parts."""

AHEAD = 3
"""Batches that are read ahead."""


@dataclass(frozen=True)
class Lanes:
    """Image counter -> (lane, block, row).

    Each epoch lays the blocks, and the rows within each, end to end in a fresh order, and cuts that line into lanes of
    equal length; every step goes on a little in each lane. All images come once an epoch, but for fewer than a lane
    each that the cut leaves over.

    Args:
        sizes: rows of each block.
        batch: images a step.
    """

    sizes: tuple[int, ...]
    batch: int
    seed: int = 0

    @cached_property
    def number(self) -> int:
        """Lanes: the most that divide a batch and have about a block each."""
        most = min(LANES, sum(size > 0 for size in self.sizes))
        return max(n for n in range(1, most + 1) if self.batch % n == 0)

    @cached_property
    def total(self) -> int:
        """Images of an epoch, those that the cut leaves over included."""
        return sum(self.sizes)

    def at(self, counter: int) -> tuple[int, int, int]:
        """Where the image of this counter lies."""
        step, slot = divmod(counter, self.batch)
        lane, place = divmod(slot, self.batch // self.number)
        epoch, offset = divmod(step * (self.batch // self.number) + place, self.total // self.number)
        position = lane * self.total // self.number + offset
        blocks, ends = _line(self, epoch)
        nth = bisect_right(ends, position)
        block, size = blocks[nth], self.sizes[blocks[nth]]
        return lane, block, int(_permutation(size, self.seed, epoch, 1 + block)[position - ends[nth] + size])


@lru_cache(maxsize=4)
def _line(lanes: Lanes, epoch: int) -> tuple[list[int], list[int]]:
    """The blocks in the order of this epoch, and at which position each one ends."""
    blocks = _permutation(len(lanes.sizes), lanes.seed, epoch, 0).tolist()
    return blocks, list(accumulate(lanes.sizes[block] for block in blocks))


@lru_cache(maxsize=8 * LANES)
def _permutation(n: int, *key: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([k % 2**64 for k in key]))).permutation(n)


class Feed:
    """Fetches images by their counters, and those of the next batches in the background.

    Args:
        stream: what to read.
        batch: images a step, over all processes.
        seed: decides the order.
    """

    def __init__(self, stream: Stream, batch: int, seed: int) -> None:
        self.shelf, self.lanes = stream.shelf, Lanes(stream.shelf.sizes, batch, seed)
        self.reader = Reader(stream.shelf.spec, stream.shape, min(8, os.cpu_count() or 1), stream.levels)
        self.loader, self.cut = ThreadPoolExecutor(1, "stream"), mix(seed, CUT)
        self.ahead: dict[range, Future[list[tuple[Tensor, Record]]]] = {}
        self.open: dict[int, dict[int, list[Record]]] = {}

    def __call__(self, counters: range) -> tuple[Tensor, Tensor | None, list[str]]:
        """Pixels (B, C, H, W), labels int64 (B,) where there are any, and keys, of these counters."""
        batch = self.lanes.batch
        coming = [range(counters.start + k * batch, counters.stop + k * batch) for k in range(AHEAD + 1)]
        for part in coming:
            if part not in self.ahead:
                self.ahead[part] = self.loader.submit(self._load, part)
        rows = self.ahead.pop(counters).result()
        for part in [part for part in self.ahead if not counters.start <= part.start < coming[-1].stop]:
            self.ahead.pop(part).cancel()  # of a course that was left
        labels = torch.tensor([record.label for _, record in rows]) if self.shelf.classes else None
        return torch.stack([image for image, _ in rows]), labels, [record.key for _, record in rows]

    def _load(self, counters: range) -> list[tuple[Tensor, Record]]:
        places = [self.lanes.at(counter) for counter in counters]
        records = [self._block(lane, block)[row] for lane, block, row in places]
        cut = [place_at(self.cut, counter) for counter in counters]
        pictures = self.reader.tensors(records, cut)
        return [
            (image, record) if image is not None else self._neighbour(self._block(lane, block), row)
            for image, record, (lane, block, row) in zip(pictures, records, places, strict=True)
        ]

    def _block(self, lane: int, block: int) -> list[Record]:
        """The records of a block; of each lane, the last two blocks are kept."""
        held = self.open.setdefault(lane, {})
        if block not in held:
            held[block] = self.shelf.read(block)
            for old in list(held)[:-2]:
                del held[old]
        return held[block]

    def _neighbour(self, records: list[Record], row: int) -> tuple[Tensor, Record]:
        """The next picture of a block that can be read."""
        warnings.warn(f"{records[row].key} cannot be read; the next picture stands in for it", stacklevel=2)
        for record in records[row + 1 :] + records[:row]:
            (image,) = self.reader.tensors([record])
            if image is not None:
                return image, record
        raise DataError(f"no picture in the block of {records[row].key} can be read")


@dataclass(frozen=True)
class Stream:
    """A source to be read while training goes on."""

    shelf: Shelf
    shape: tuple[int, int, int]
    levels: int = 256

    def feed(self, batch: int, seed: int) -> Feed:
        """What fetches its images, in batches of so many."""
        return Feed(self, batch, seed)


def open_for_training(spec: str) -> Images:
    """As `open_source`; but of `STREAMED`, and with ?crop=random of any, only a first look is taken, and the rest is
    its `stream`.

    Raises:
        DataError: as there.
    """
    parsed = parse_spec(spec)
    if parsed.name not in STREAMED and parsed.crop != "random":
        return opened(parsed)
    if "attributes" in parsed.options:
        raise DataError(f"{spec}: attributes are not read while training goes on, as random crops are: leave one out")
    if "classes" in parsed.options and parsed.name not in CHOOSING:
        raise DataError(f"{spec}: classes are chosen when a set is prepared: sfumato prepare {spec!r} OUT")
    return _look(SHELVES[parsed.name](parsed).limited() if parsed.name in SHELVES else _larger(parsed))


def _larger(spec: Spec) -> Shelf:
    """The pictures of a set in memory or mapped, of which random parts are cut out as they are read."""
    whole = open_source(spec.without(*FRAMING))
    if whole.are_points:
        raise DataError(f"{spec.text} holds points, not pictures; there is nothing to cut out")
    card = whole.card
    rows = Shelf.of_rows(
        spec, spec.text, len(whole), lambda i: Record(*whole[i]), card.fingerprint, whole.classes, card.licence,
        card.own_notes,
    )  # fmt: skip
    return replace(rows, values=card.values)


def _look(shelf: Shelf) -> Images:
    """The first look at a stream: some images with the card of all."""
    n = min(LOOK, len(shelf))
    if shelf.at is not None:
        at = shelf.at
        some: Sequence[Record] = [at(i * len(shelf) // n) for i in range(n)]
    else:
        some = list(islice(shelf.records(), n))
    reader = Reader(shelf.spec)
    rows = reader(some)
    if not rows:
        raise DataError(f"none of the first {n:,} images in {shelf.place} can be read")
    images = torch.stack([image for image, _ in rows])
    records = [record for _, record in rows]
    labels = torch.tensor([record.label for record in records]) if shelf.classes else None
    met = reader.met
    card = make_card(
        shelf.spec.text, images, labels, shelf.classes, bits=met.bits, sizes=dict(met.sizes),
        corrupt=tuple(met.corrupt), licence=shelf.licence,
        notes=(f"read while training; all but the count is of {n:,} images", *shelf.notes, *met.notes),
        values=shelf.ends,
    )  # fmt: skip
    notes = (*card.own_notes, *(n for n in card.notes if n.startswith(FEW) and len(shelf) < SMALL))
    if shelf.spec.limit is not None:
        notes += ("?limit goes by the order of the source: classes may be missing",)
    card = replace(card, count=len(shelf), fingerprint=shelf.fingerprint, notes=notes)
    texts = tuple(record.text or "" for record in records)
    keys = tuple(record.key for record in records)
    channels, height, width = card.shape
    stream = Stream(shelf, (channels, height, width), card.levels)
    return Images(images, labels, texts if any(texts) else None, keys, shelf.classes, card, stream)
