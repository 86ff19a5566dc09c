"""Sources that are read block by block, and the reader that makes pixels of one shape and depth of what they hold.

A shelf says which records there are; nothing is decoded before the reader is given them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.data import pictures
from sfumato.data.decoding import Source, Unreadable, to_tensor
from sfumato.data.framing import Place, framed_array, place_of
from sfumato.data.loader import Order, levels_of
from sfumato.data.room import Room, gigabytes
from sfumato.data.spec import Spec, UnfitError
from sfumato.data.upright import Met, upright

BLOCK = 256
"""Records in a block, about, where a source has no blocks of its own."""

AT_ONCE = 2**31
"""Bytes of the pictures that are read together: a batch, or a shard."""


DEPTH_WORDS = {256: "8 bits", 65536: "16 bits", 0: "real numbers"}
"""A depth by its grey levels."""


class Record(NamedTuple):
    """One image as it is stored: a file, its bytes or pixels (C, H, W); with label, text, a key that stays, and
    attributes of 1, -1 or 0."""

    picture: Source | Tensor
    label: int | None
    text: str | None
    key: str
    attributes: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Shelf:
    """A source that is read block by block, so that only the block at hand is in memory.

    Attributes:
        spec: what it was opened with; its size, channels and background say how to read pictures.
        place: where it is, for messages.
        sizes: how many records each block holds.
        read: the number of a block -> its records, the same ones each time.
        fingerprint: of what is in it, as far as can be told without reading all.
        classes: names of the labels; empty where records have none.
        at: the number of a record -> the record, where they can be read in any order.
        notes: what the card says of it.
        named: the attributes of the records.
        values: black and white of real numbers, where its records are tensors; else the spec says them.
    """

    spec: Spec
    place: str
    sizes: tuple[int, ...]
    read: Callable[[int], list[Record]]
    fingerprint: str
    classes: tuple[str, ...] = ()
    licence: str = ""
    at: Callable[[int], Record] | None = None
    notes: tuple[str, ...] = ()
    named: tuple[str, ...] = ()
    values: tuple[float, float] | None = None

    @property
    def ends(self) -> tuple[float, float]:
        """Black and white of its real numbers."""
        return self.values or self.spec.values or (-1.0, 1.0)

    @classmethod
    def of_rows(
        cls, spec: Spec, place: str, n: int, at: Callable[[int], Record], fingerprint: str,
        classes: tuple[str, ...] = (), licence: str = "", notes: tuple[str, ...] = (), named: tuple[str, ...] = (),
    ) -> Shelf:  # fmt: skip
        """n records that can be read in any order, in blocks of about equal size."""
        number = -(-n // BLOCK)
        edges = [n * block // number for block in range(number + 1)]

        def read(block: int) -> list[Record]:
            return [at(i) for i in range(edges[block], edges[block + 1])]

        sizes = tuple(b - a for a, b in pairwise(edges))
        return cls(spec, place, sizes, read, fingerprint, classes, licence, at, notes, named)

    def __len__(self) -> int:
        return sum(self.sizes)

    def records(self, start: int = 0) -> Iterator[Record]:
        """All records from the number `start` on, in order."""
        for block, size in enumerate(self.sizes):
            if start < size:
                yield from self.read(block)[start:]
            start = max(0, start - size)

    def limited(self) -> Shelf:
        """Only the first records, where the spec has a limit."""
        if self.spec.limit is None:
            return self
        left, sizes = self.spec.limit, list[int]()
        for size in self.sizes:
            sizes.append(min(size, left))
            left -= sizes[-1]
        notes = (f"?limit keeps the first {sum(sizes):,} of {len(self):,}",) if sum(sizes) < len(self) else ()
        return replace(
            self, sizes=tuple(sizes), read=lambda block: self.read(block)[: sizes[block]], notes=(*self.notes, *notes)
        )

    def shuffled(self, seed: int = 0) -> Shelf:
        """The same records in another order; where they cannot be read in any order, blocks are shuffled as wholes."""
        if self.at is not None:
            at, rows = self.at, Order(len(self), seed).batch(0, len(self)).tolist()
            return self.of_rows(
                self.spec, self.place, len(self), lambda i: at(rows[i]), self.fingerprint, self.classes, self.licence,
                self.notes, self.named,
            )  # fmt: skip
        blocks = Order(len(self.sizes), seed).batch(0, len(self.sizes)).tolist()
        return replace(self, sizes=tuple(self.sizes[b] for b in blocks), read=lambda block: self.read(blocks[block]))


class Reader:
    """Records -> pixels (C, H, W) of one shape and depth, by several threads; damaged files are skipped and counted.

    The spec's channels and bits, or those of the first picture, hold for all.

    Args:
        shape, levels: (C, H, W) and grey levels of pictures that were read before; None where this is the first.
    """

    def __init__(
        self, spec: Spec, shape: tuple[int, int, int] | None = None, threads: int = 4, levels: int | None = None
    ) -> None:
        self.spec, self.shape, self.met, self.threads, self.levels = spec, shape, Met(), threads, levels
        self.size = None if shape is None else shape[1:]
        self.pool, self.room = ThreadPoolExecutor(threads, "pictures"), Room(spec.text)

    def __call__(self, records: Iterable[Record]) -> list[tuple[Tensor, Record]]:
        """The pictures that can be read, in order. UnfitError where one is of another kind than those before it."""
        records = list(records)
        found = zip(self.tensors(records), records, strict=True)
        return [(pixels, record) for pixels, record in found if pixels is not None]

    def tensors(self, records: Iterable[Record], places: Sequence[Place] | None = None) -> list[Tensor | None]:
        """The same, with None for those that cannot be read.

        Args:
            places: where a part is cut out of each, with ?crop=random; by default where their keys say.
        """
        records, found = list(records), []
        where = [place_of(record.key) for record in records] if places is None else places
        for start in range(0, len(records), 4 * self.threads):
            end = start + 4 * self.threads
            part = records[start:end]
            read_part = self.pool.map(partial(_read, self.spec, self.room), part, where[start:end])
            for record, read in zip(part, read_part, strict=True):
                found.append((record.key, read))
                self.met.add(read.met)
                if isinstance(read.pixels, str):
                    self.met.corrupt.append(record.key + read.pixels)
                else:
                    self._check_size(read.pixels, record.key, len(records))
        channels = self._channels([read for _, read in found])
        return [self._kept(key, read, channels) for key, read in found]

    def _channels(self, found: list[_Read]) -> int:
        """Of all pictures: as before, as those that are not both, or grey."""
        if self.shape is not None:
            return self.shape[0]
        fixed = (len(read.pixels) for read in found if isinstance(read.pixels, Tensor) and not read.either)
        return next(fixed, 1)

    def _kept(self, key: str, read: _Read, channels: int) -> Tensor | None:
        if isinstance(read.pixels, str):
            return None
        pixels = read.pixels.expand(channels, -1, -1) if read.either else read.pixels
        if len(pixels) != channels:
            raise UnfitError(
                f"{self.spec.text} mixes grey and colour images, {key} among them; "
                "choose with ?channels=3 or ?channels=1"
            )
        if read.either and channels == 3:
            self.met.converted["grey repeated to three channels"] += 1
        self.shape = (channels, pixels.shape[1], pixels.shape[2])
        return pixels

    def _check_size(self, pixels: Tensor, key: str, number: int) -> None:
        shape = (pixels.shape[1], pixels.shape[2])
        self.size = self.size or shape
        if shape != self.size:
            sizes = [f"{width}x{height}" for height, width in (self.size, shape)]
            raise UnfitError(
                f"{self.spec.text} mixes image sizes, {sizes[0]} and {sizes[1]} ({key}); choose with ?size=64, say"
            )
        here = levels_of(pixels)
        self.levels = here if self.levels is None else self.levels
        if here != self.levels:
            raise UnfitError(
                f"{self.spec.text} mixes images of {DEPTH_WORDS[self.levels]} and of {DEPTH_WORDS[here]}, {key} among "
                "the latter; choose with ?bits=8 or ?bits=16"
            )
        if number * pixels.nbytes > AT_ONCE:
            raise UnfitError(
                f"{self.spec.text}: {number:,} images of {shape[1]}x{shape[0]} at a time take "
                f"{gigabytes(number * pixels.nbytes)} of memory; choose a smaller ?size=, or fewer at a time"
            )


class _Read(NamedTuple):
    """A record as it was read; in the place of pixels, where there are none, why (empty where it is damaged)."""

    pixels: Tensor | str
    met: Met
    either: bool = False


def _read(spec: Spec, room: Room, record: Record, at: Place) -> _Read:
    if isinstance(record.picture, Tensor):
        return _Read(framed_array(record.picture, spec, at), Met())
    try:
        picture = upright(record.picture, spec, room, at)
    except Unreadable as error:
        return _Read(reason(error), Met())
    pixels, met = picture.pixels, picture.met
    if spec.channels is not None and len(pixels) != spec.channels:
        met.converted["colour turned into grey" if spec.channels == 1 else "grey repeated to three channels"] += 1
        pixels = with_channels(pixels, spec.channels)
    either = picture.either and spec.channels is None
    return _Read(pixels, met, either)


def with_channels(pixels: Tensor, channels: int) -> Tensor:
    """Grey as colour (C, H, W), or colour as grey by the weights of ITU-R 601 (of 8 bits as Pillow rounds them)."""
    if len(pixels) == channels:
        return pixels
    if channels == 3:
        return pixels.expand(3, -1, -1)
    if pixels.dtype == torch.uint8:
        return to_tensor(pictures.to_pillow(pixels).convert("L"))
    grey = (pixels.double() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(0, keepdim=True)
    return grey.round().to(pixels.dtype) if levels_of(pixels) else grey.to(pixels.dtype)


def reason(error: Unreadable) -> str:
    """Why a picture was left out, to be written behind its key, where it is not simply damaged."""
    text = str(error)
    return "" if text.startswith(("damaged", "no picture")) else f" ({text})"
