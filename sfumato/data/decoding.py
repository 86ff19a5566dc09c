"""The one place where Pillow opens pictures: only the formats that are meant, of bounded size, few large ones at once.

Whatever the bytes are, they are a picture or `Unreadable`; no other program is started, and no pipe is waited for.
"""

from __future__ import annotations

import io
import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from sfumato.data import libtiff
from sfumato.data.room import is_hollow
from sfumato.data.spec import DataError
from sfumato.runtime.opening import open_regular, stored_bytes

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "PPM")
"""What is opened, by content and not by name. Pillow knows more, and one of those (EPS) starts Ghostscript."""

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".jfif", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".ppm", ".pgm", ".pbm"}
)
"""Names of such files, in small letters."""

PIXELS = 2**28
"""Of the largest picture: what a telephone with 200 megapixels takes."""

WHOLE = {"WEBP": 2**26, "AVIF": 2**26}
"""Pixels of the largest picture in formats whose decoders hold several copies of it."""

FILE_BYTES = 2**30
"""Of the largest file."""

ALONE = 2**26
"""Bytes of a file, and decoded bytes, above which only one is read at a time."""

Image.MAX_IMAGE_PIXELS = PIXELS  # Pillow's own bound is lower; `opened` looks at the size itself
logging.getLogger("PIL").addHandler(logging.NullHandler())  # else what is wrong with a file goes to standard error

_large = threading.RLock()


class Unreadable(ValueError):
    """A file that is no picture, is damaged or too large; the message says which, not where."""


class Slice(NamedTuple):
    """A file that lies inside another: in a tar shard, for example."""

    path: Path
    offset: int
    size: int


Source = Path | bytes | Slice


class Window(io.RawIOBase):
    """The bytes of a slice of a file as a file of their own."""

    def __init__(self, file: IO[bytes], offset: int, size: int) -> None:
        self.file, self.offset, self.size, self.at = file, offset, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self.at = max(0, offset + (0, self.at, self.size)[whence])
        return self.at

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        self.file.seek(self.offset + self.at)
        read = self.file.read(max(0, min(len(buffer), self.size - self.at)))
        buffer[: len(read)] = read
        self.at += len(read)
        return len(read)


@contextmanager
def _stream(source: Source) -> Iterator[tuple[IO[bytes], int]]:
    """A source as an open file, and its length."""
    if isinstance(source, bytes):
        yield io.BytesIO(source), len(source)
    elif isinstance(source, Slice):
        with open_regular(source.path) as file:
            yield io.BufferedReader(Window(file, source.offset, source.size)), source.size
    else:
        with open_regular(source) as file:
            yield file, file.seek(0, io.SEEK_END)


def stored(source: Source) -> int:
    """Bytes that a picture takes where it is stored; 0 where that cannot be told."""
    if isinstance(source, Path):
        try:
            return stored_bytes(source)
        except OSError:
            return 0
    return len(source) if isinstance(source, bytes) else source.size


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow knows: AVIF came with 11.3."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _quiet() -> None:
    """Pillow's warnings about damaged and large files are not printed; at each opening, since filters can be reset."""
    for category in (Image.DecompressionBombWarning, UserWarning):
        warnings.filterwarnings("ignore", category=category, module=r"PIL\.")


@contextmanager
def opened(source: Source) -> Iterator[Image.Image]:
    """A picture file, opened and not yet decoded; what is done with it inside is bounded like the opening.

    Raises:
        Unreadable: it is none of `FORMATS`, is damaged, or larger than `PIXELS` or `FILE_BYTES`; also for whatever
            goes wrong while the caller decodes it.
        DataError: as the caller raises it; memory that does not suffice.
    """
    try:
        with _stream(source) as (raw, length):
            if length > FILE_BYTES:
                raise Unreadable(f"a file of {length:,} bytes; at most {FILE_BYTES:,} are read")
            if is_hollow(length, stored(source)):
                raise Unreadable(f"a file of {length:,} bytes that is nearly all holes")
            raw.seek(0)
            libtiff.forget()
            _quiet()
            with _large if length > ALONE else nullcontext(), Image.open(raw, formats=_formats()) as file:
                most = WHOLE.get(file.format or "", PIXELS)
                if file.width * file.height > most:
                    raise Unreadable(f"{file.width}x{file.height} pixels; at most {most:,} are read")
                with _large if decoded_bytes(file) > ALONE else nullcontext():
                    yield file
                if file.format == "TIFF" and (count := libtiff.errors()):
                    raise Unreadable(f"damaged: {count:,} errors of its compression")
    except (DataError, Unreadable):
        raise
    except MemoryError:
        raise DataError("too little memory to read a picture; choose a smaller set, or fewer processes") from None
    except UnidentifiedImageError:
        raise Unreadable("no picture that is known here: PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or PPM") from None
    except Image.DecompressionBombError:
        raise Unreadable(f"more than twice the {PIXELS:,} pixels that are read") from None
    except Exception as error:  # Pillow raises nearly every kind for damaged files
        said = error.strerror if isinstance(error, OSError) else None
        raise Unreadable(said or f"damaged: {str(error) or type(error).__name__}") from error


def decoded_bytes(file: Image.Image) -> int:
    """Bytes that a picture takes once it is decoded; a bit a pixel where it is black and white."""
    pixels = file.width * file.height
    return pixels // 8 if file.mode == "1" else pixels * len(file.getbands()) * (2 if is_deep(file) else 1)


def is_deep(file: Image.Image) -> bool:
    """Whether a file, not decoded yet, has more than 8 bits a channel."""
    raw = [part.args for part in getattr(file, "tile", [])[:1]]
    words = [str(word) for part in raw for word in (part if isinstance(part, tuple) else (part,))]
    if file.format == "PPM":
        return file.mode.startswith("I") or any(word.isdigit() and int(word) > 255 for word in words)
    bits = getattr(file, "tag_v2", {}).get(258, ())
    return file.mode.startswith("I") or any(";16" in word for word in words) or any(b > 8 for b in bits)


def to_tensor(image: Image.Image) -> Tensor:
    """L or RGB -> uint8 (C, H, W), in strips, so that a large picture is copied once."""
    array = np.empty((len(image.getbands()), image.height, image.width), np.uint8)
    for top, part in strips(image):
        rows = np.asarray(part)
        array[:, top : top + len(rows)] = rows if rows.ndim == 2 else rows.transpose(2, 0, 1)
    return torch.from_numpy(array)


def strips(image: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """A picture cut across into parts of a few million pixels, each with the row at which it begins."""
    rows = max(1, 2**22 // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield top, image if bottom - top == image.height else image.crop((0, top, image.width, bottom))
