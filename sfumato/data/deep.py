"""Picture files of more than 8 bits a channel at their full depth: 16-bit PNG, TIFF and PGM, and floats in TIFF.

Pillow has 16-bit grey and floats, and of 16-bit colour the upper bytes; the lower ones are what the same decoder reads
with the order of the bytes turned round.
"""

from __future__ import annotations

import sys

import numpy as np
from PIL import Image, ImageFile, ImageOps

from sfumato.data.decoding import Source, Unreadable, is_deep, opened
from sfumato.data.depth import of_depth
from sfumato.data.spec import DataError, Spec

TURNED = {"16B": "16L", "16L": "16B", "16N": "16B" if sys.byteorder == "little" else "16L"}
"""The order of bytes in which the lower ones of 16 bits are where Pillow looks for the upper ones."""

GREY_ALPHA = "LA;16B"
"""How Pillow calls 16-bit grey with alpha, which it holds as colour of 8 bits."""

SHALLOW = "; ?bits=8 takes the upper 8 bits"


def deep_pixels(source: Source, file: Image.Image, spec: Spec) -> np.ndarray:
    """16-bit or float pixels (C, H, W) of a file, upright: uint16, float32 in [-1, 1], or as the spec asks.

    Grey or colour, with transparent colour laid on the spec's background; of two, four or more channels, alpha as it
    is stored, or the pages of a file one behind the other.

    Args:
        source: where the file was opened, for its second reading.
        file: not decoded yet.

    Raises: Unreadable where it is stored in a way that is not read, or has other values or channels.
    """
    assert isinstance(file, ImageFile.ImageFile)  # as `opened` gives it
    if spec.channels in (None, 1, 3):
        pages = getattr(file, "n_frames", 1) if file.format == "TIFF" and spec.channels == 3 else 1
        plain = _pages(source, file, 3) if pages == 3 else _planes(source, file)
        if len(plain) in (2, 4):
            plain = _laid(plain, spec.background)
    else:
        plain = _pages(source, file, spec.channels)
    values = spec.values if plain.dtype == np.float32 or spec.levels == 0 else None
    if plain.dtype == np.float32 and values is None:
        raise Unreadable("pixels that are floats; ?values=0,1, say, tells what black and white are")
    try:
        return of_depth(plain, spec.levels, values, "pixels")
    except DataError as error:
        raise Unreadable(str(error)) from None


def _laid(plain: np.ndarray, background: tuple[int, int, int]) -> np.ndarray:
    """Grey or colour with alpha, on a background; grey on one that is none becomes colour."""
    share = plain[-1:] / np.float64(65535)
    under = 257 * np.array(background, np.float64)[:, None, None]
    if len(plain) == 2 and len(set(background)) == 1:
        under = under[:1]
    return np.rint(plain[:-1] * share + under * (1 - share)).astype(np.uint16)


def _pages(source: Source, file: ImageFile.ImageFile, channels: int) -> np.ndarray:
    """The channels of all pages, one behind the other."""
    pages = getattr(file, "n_frames", 1) if file.format == "TIFF" else 1
    if pages > channels:
        raise Unreadable(f"{pages:,} pages, where channels={channels} are asked for")
    found = []
    for page in range(pages):
        file.seek(page)
        if not is_deep(file):
            raise Unreadable("pages of 8 bits among deeper ones")
        found.append(_planes(source, file))
        if found[-1].shape[1:] != found[0].shape[1:] or found[-1].dtype != found[0].dtype:
            raise Unreadable("pages of several sizes or depths")
    if (count := sum(map(len, found))) != channels:
        raise Unreadable(f"{count} channels on {pages} pages, where channels={channels} are asked for")
    return np.concatenate(found)


def _planes(source: Source, file: ImageFile.ImageFile) -> np.ndarray:
    """All channels of the page at hand as they are stored, (C, H, W), uint16 or float32."""
    page = file.tell()
    if _words(file) == GREY_ALPHA:
        file.tile = [tile._replace(args="RGBA") for tile in file.tile]  # four bytes: upper and lower of each
        grey = _upright(file).astype(np.uint16)
        return grey[0::2] << 8 | grey[1::2]
    if file.mode in ("RGB", "RGBA"):
        with opened(source) as again:
            assert isinstance(again, ImageFile.ImageFile)
            again.seek(page)
            _turn(again)
            low = _upright(again)
        return (_upright(file).astype(np.uint16) << 8) | low
    array = _upright(file)
    if array.dtype.kind == "f":
        return array.astype(np.float32)
    if array.min() < 0 or array.max() > 65535:
        raise Unreadable("pixel values outside 16 bits")
    return array.astype(np.uint16)


def _words(file: ImageFile.ImageFile) -> str:
    """How the file's first tile is stored, in Pillow's words."""
    arguments = file.tile[0].args if getattr(file, "tile", None) else ""
    return str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)


def _turn(file: ImageFile.ImageFile) -> None:
    """Have the lower bytes read in the place of the upper ones. Unreadable where Pillow has no word for that."""
    tiles = []
    for tile in file.tile:
        raw = tile.args[0] if isinstance(tile.args, tuple) else tile.args
        name, _, order = str(raw).partition(";")
        if name not in ("RGB", "RGBA", "RGBX") or order not in TURNED:
            raise Unreadable(f"16-bit colour stored in this way is not read at its depth{SHALLOW}")
        turned = f"{name};{TURNED[order]}"
        tiles.append(tile._replace(args=(turned, *tile.args[1:]) if isinstance(tile.args, tuple) else turned))
    file.tile = tiles


def _upright(file: ImageFile.ImageFile) -> np.ndarray:
    """The page at hand decoded, upright, (C, H, W)."""
    file.load()
    array = np.asarray(ImageOps.exif_transpose(file))
    return array[None] if array.ndim == 2 else array.transpose(2, 0, 1)
