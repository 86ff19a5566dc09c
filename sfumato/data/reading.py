"""Picture files, of whatever kind, as uint8 tensors of one shape, with a note of what was met and changed."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sfumato.data.loader import Order
from sfumato.data.spec import DataError, Spec

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".tga"})

BLOCK = 256
"""Records in a block, about, where a source has no blocks of its own."""

DAMAGE = (OSError, ValueError, SyntaxError, Image.DecompressionBombError)
"""What Pillow raises for files that it cannot read."""


class Record(NamedTuple):
    """One image as it is stored: a file, its bytes or uint8 (C, H, W); with label, text and a key that stays."""

    picture: Path | bytes | Tensor
    label: int | None
    text: str | None
    key: str


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
    """

    spec: Spec
    place: str
    sizes: tuple[int, ...]
    read: Callable[[int], list[Record]]
    fingerprint: str
    classes: tuple[str, ...] = ()
    licence: str = ""
    at: Callable[[int], Record] | None = None

    @classmethod
    def of_rows(
        cls, spec: Spec, place: str, n: int, at: Callable[[int], Record], fingerprint: str,
        classes: tuple[str, ...] = (), licence: str = "",
    ) -> Shelf:  # fmt: skip
        """n records that can be read in any order, in blocks of about equal size."""
        number = -(-n // BLOCK)
        edges = [n * block // number for block in range(number + 1)]

        def read(block: int) -> list[Record]:
            return [at(i) for i in range(edges[block], edges[block + 1])]

        sizes = tuple(b - a for a, b in pairwise(edges))
        return cls(spec, place, sizes, read, fingerprint, classes, licence, at)

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
        left, sizes = self.spec.limit, []
        for size in self.sizes:
            sizes.append(min(size, left))
            left -= sizes[-1]
        return replace(self, sizes=tuple(sizes), read=lambda block: self.read(block)[: sizes[block]])

    def shuffled(self, seed: int = 0) -> Shelf:
        """The same records in another order; where they cannot be read in any order, blocks are shuffled as wholes."""
        if self.at is not None:
            at, rows = self.at, Order(len(self), seed).batch(0, len(self)).tolist()
            return self.of_rows(
                self.spec, self.place, len(self), lambda i: at(rows[i]), self.fingerprint, self.classes, self.licence
            )
        blocks = Order(len(self.sizes), seed).batch(0, len(self.sizes)).tolist()
        return replace(self, sizes=tuple(self.sizes[b] for b in blocks), read=lambda block: self.read(blocks[block]))


@dataclass
class Met:
    """What was met among so many pictures, counted."""

    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    converted: Counter[str] = field(default_factory=Counter)
    corrupt: list[str] = field(default_factory=list)

    def add(self, other: Met) -> None:
        """Count what another met as well."""
        for mine, theirs in ((self.sizes, other.sizes), (self.modes, other.modes), (self.converted, other.converted)):
            mine.update(theirs)
        self.corrupt += other.corrupt

    @property
    def bits(self) -> str:
        """The depth of the colours."""
        deep = any(mode.startswith("I") for mode in self.modes)
        return "16 bits a channel, kept as 8" if deep else "8 bits a channel"

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed, in words."""
        return tuple(f"{n:,} {what}" for what, n in self.converted.items())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value if name == "corrupt" else dict(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Met:
        """What `to_json` wrote."""
        counts = {name: Counter(values[name]) for name in ("sizes", "modes", "converted")}
        return cls(**counts, corrupt=list(values["corrupt"]))


def upright(picture: Path | bytes, spec: Spec) -> tuple[Image.Image, Met]:
    """One file as an upright L or RGB picture of the spec's size; raises whatever Pillow raises for a damaged one."""
    with Image.open(io.BytesIO(picture) if isinstance(picture, bytes) else picture) as file:
        frames = getattr(file, "n_frames", 1)
        file.load()
        image: Image.Image = ImageOps.exif_transpose(file)
        mode = file.mode
    notes = [] if frames == 1 else ["animated, first frame kept"]
    met = Met(Counter([f"{image.width}x{image.height}"]), Counter([mode]))
    if mode.startswith("I") or mode == "F":
        values = np.asarray(image).astype(np.float64)
        if mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError("pixel values outside 16 bits")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
        notes.append("16-bit scaled to 8 bits")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        grey = mode in ("LA", "La") and len(set(spec.background)) == 1
        under = Image.new("RGBA", rgba.size, (*spec.background, 255))
        under.alpha_composite(rgba)
        image = under.convert("L" if grey else "RGB")
        notes.append("transparent, laid on the background")
    elif mode in ("L", "1"):
        image = image.convert("L")
    elif mode != "RGB":
        image = image.convert("RGB")
        notes.append(f"{'palette' if mode == 'P' else mode} turned into colour")
    size = spec.size
    if size is not None and image.size != (size, size):
        if image.width != image.height:
            notes.append("not square, centre kept")
        image = fit(image, size)
    met.converted.update(notes)
    return image, met


def fit(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to size, then the centre."""
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def from_pillow(image: Image.Image) -> Tensor:
    """L or RGB -> uint8 (C, H, W)."""
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


class Reader:
    """Records -> uint8 (C, H, W) of one shape, by several threads; damaged files are skipped and counted.

    The spec's channels, or those of the first picture, hold for all.

    Args:
        shape: (C, H, W) of pictures that were read before; None where this is the first.
    """

    def __init__(self, spec: Spec, shape: tuple[int, int, int] | None = None, threads: int = 4) -> None:
        self.spec, self.shape, self.met = spec, shape, Met()
        self.pool = ThreadPoolExecutor(threads, "pictures")

    def __call__(self, records: Iterable[Record]) -> list[tuple[Tensor, Record]]:
        """The pictures that can be read, in order. DataError where one is of another kind than those before it."""
        records = list(records)
        found = zip(self.tensors(records), records, strict=True)
        return [(pixels, record) for pixels, record in found if pixels is not None]

    def tensors(self, records: Iterable[Record]) -> list[Tensor | None]:
        """The same, with None for those that cannot be read."""
        found = []
        for record, pixels, met in self.pool.map(partial(_read, self.spec), records):
            self.met.add(met)
            if pixels is None:
                self.met.corrupt.append(record.key)
            else:
                self._check(pixels, record.key)
            found.append(pixels)
        return found

    def _check(self, pixels: Tensor, key: str) -> None:
        shape = (pixels.shape[0], pixels.shape[1], pixels.shape[2])
        self.shape = self.shape or shape
        if shape[0] != self.shape[0]:
            raise DataError(
                f"{self.spec.text} mixes grey and colour images, {key} among them; "
                "choose with ?channels=3 or ?channels=1"
            )
        if shape != self.shape:
            sizes = [f"{width}x{height}" for _, height, width in (self.shape, shape)]
            raise DataError(
                f"{self.spec.text} mixes image sizes, {sizes[0]} and {sizes[1]} ({key}); choose with ?size=64, say"
            )


def _read(spec: Spec, record: Record) -> tuple[Record, Tensor | None, Met]:
    if isinstance(record.picture, Tensor):
        return record, record.picture, Met()
    try:
        image, met = upright(record.picture, spec)
    except DataError:
        raise
    except DAMAGE:
        return record, None, Met()
    mode = {1: "L", 3: "RGB", None: image.mode}[spec.channels]
    if mode != image.mode:
        met.converted["colour turned into grey" if mode == "L" else "grey repeated to three channels"] += 1
    return record, from_pillow(image.convert(mode)), met
