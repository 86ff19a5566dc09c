"""Pictures of more than 8 bits written as files: 16-bit PNG, or TIFF with a page for each channel, also of floats.

PNG is written here, by the W3C's specification, since Pillow has no 16-bit colour to write.
"""

from __future__ import annotations

import io
import re
import struct
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from sfumato.data.depth import in_units
from sfumato.data.loader import levels_of
from sfumato.data.pictures import write_bytes

COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}
"""PNG's number for so many channels: grey, grey with alpha, colour, colour with alpha."""


def write_all(folder: Path, images: Tensor, values: tuple[float, ...] = (-1.0, 1.0)) -> None:
    """Write images (n, C, H, W) as 00000.png, or .tif, in a folder; those of before go.

    Args:
        images: uint16, which become PNG up to 4 channels; or float32 in [-1, 1], which become TIFF.
        values: black and white of floats, in whose units they are written.
    """
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        if re.fullmatch(r"\d{5,}\.(png|tif)", old.name):
            old.unlink()
    for i, image in enumerate(images):
        suffix, content = encoded(image, values)
        write_bytes(folder / f"{i:05d}{suffix}", content)


def encoded(image: Tensor, values: tuple[float, ...] = (-1.0, 1.0)) -> tuple[str, bytes]:
    """The suffix and the bytes of a picture file of an image (C, H, W), uint16 or float32; see `write_all`."""
    array = image.numpy()
    if not levels_of(image):
        return ".tif", _tiff(in_units(array, values))
    return (".png", _png(array)) if len(array) in COLOUR else (".tif", _tiff(array))


def _tiff(array: np.ndarray) -> bytes:
    """A page for each channel."""
    buffer, pages = io.BytesIO(), [Image.fromarray(plane) for plane in array]
    pages[0].save(buffer, "TIFF", save_all=True, append_images=pages[1:], compression="tiff_adobe_deflate")
    return buffer.getvalue()


def _png(array: np.ndarray) -> bytes:
    """uint16 (C, H, W) of up to four channels."""
    channels, height, width = array.shape
    rows = array.transpose(1, 2, 0).astype(">u2").reshape(height, -1).view(np.uint8)
    rows = np.concatenate([np.zeros((height, 1), np.uint8), rows], axis=1)  # filter 0 of each row
    head = struct.pack(">IIBBBBB", width, height, 16, COLOUR[channels], 0, 0, 0)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunks(chunks))


def _chunks(parts: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for kind, data in parts:
        yield struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
