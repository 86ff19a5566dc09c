"""Writing pictures out: grids, PNG, npz as evaluators read it, and animations; every file is complete or absent."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data import drawing
from sfumato.data.depth import in_units
from sfumato.data.loader import eight_bits
from sfumato.runtime.files import whole_file
from sfumato.shapes import kind

FRAME = 125
"""Milliseconds that a frame of a clip is shown."""
PAPER = 235
"""The grey between the pictures of a grid."""


class View(NamedTuple):
    """What sheets show of pictures that are more than 8 bits of grey or colour.

    Attributes:
        channels: one channel or three, from 0, of more than three; by default the first three, or the first of two.
        window: of deeper pictures, the part of the range from black, 0, to white, 1; all of it by default.
    """

    channels: tuple[int, ...] | None = None
    window: tuple[float, float] | None = None


def visible(images: Tensor, show: View | None = None) -> Tensor:
    """Preview of images (..., C, H, W) of any depth, as uint8: grey and colour, of other channels some."""
    channels, show = images.shape[-3], show or View()
    if channels not in (1, 3):
        known = show.channels and max(show.channels) < channels
        images = images[..., list(show.channels or ()) if known else [0] if channels == 2 else [0, 1, 2], :, :]
    return eight_bits(images, show.window)


def seen_as(levels: int, values: tuple[float, ...], show: View | None = None) -> str:
    """A line on what sheets show of pictures of so many levels; nothing where these are 8 bits.

    Args:
        values: black and white of real numbers, which have 0 levels.
    """
    if levels == 256:
        return ""
    low, high = (0.0, levels - 1.0) if levels else values
    ends = [low + share * (high - low) for share in ((show or View()).window or (0.0, 1.0))]
    return f"sheets show {ends[0]:g} to {ends[1]:g} as 8 bits, black to white (?window=0,1 chooses)"


def grid(
    images: Tensor, columns: int | None = None, pad: int = 2, scale: int | None = None,
    show: View | None = None,
) -> Tensor:  # fmt: skip
    """One picture (C, H', W'), uint8, of many (N, C, H, W) of any depth.

    Args:
        columns: by default about as many as rows.
        pad: grey pixels between pictures, before scaling.
        scale: each pixel this many times; by default so that a picture is at least 64 wide.
        show: what is shown of many channels and of deeper pictures, see `View`.

    Points in the plane, (N, 1, 1, 2), become one picture of them all; signals (N, C, L) become curves, and clips
    (N, C, T, H, W) a row of their frames each.
    """
    if tuple(images.shape[1:]) == (1, 1, 2):
        return scatter(images)
    if images.ndim == 3:
        return drawing.curves(images, columns)
    if images.ndim == 5:
        images, columns = drawing.strips(images), images.shape[2]
        scale = scale or max(1, math.ceil(32 / images.shape[-1]))
    images = visible(images, show)
    n, channels, height, width = images.shape
    columns = min(columns or math.ceil(math.sqrt(n)), n)
    scale = scale or max(1, math.ceil(64 / width))
    rows = -(-n // columns)
    sheet = torch.full((channels, pad + rows * (height + pad), pad + columns * (width + pad)), PAPER, dtype=torch.uint8)
    for i, image in enumerate(images):
        y, x = (pad + c * (s + pad) for c, s in zip(divmod(i, columns), (height, width), strict=True))
        sheet[:, y : y + height, x : x + width] = image
    return sheet.repeat_interleave(scale, 1).repeat_interleave(scale, 2)


def sheet_bytes(images: Tensor, show: View | None = None) -> bytes:
    """The grid of images as a PNG file; of clips an animated one (APNG), which shows all of them at once."""
    if images.ndim != 5:
        return png_bytes(grid(images, show=show))
    return animation_bytes(films(images, show), "png", FRAME, FRAME)


def films(clips: Tensor, show: View | None = None) -> list[Tensor]:
    """Clips (N, C, T, H, W) as T grids of their frames, of which an animation is made."""
    return [grid(frames, show=show) for frames in drawing.by_frame(clips)]


def scatter(points: Tensor, side: int = 256) -> Tensor:
    """Points (N, 1, 1, 2), in [-1, 1] or as uint8, dark on white: one picture (1, side, side), y upwards."""
    x, y = points.double().reshape(-1, 2).T / (1 if points.is_floating_point() else 127.5)
    if not points.is_floating_point():
        x, y = x - 1, y - 1
    column, row = (((v + 1) / 2 * side).long().clamp(0, side - 1) for v in (x, -y))
    seen = torch.bincount(row * side + column, minlength=side * side).reshape(1, side, side)
    return (255 - 255 * (seen > 0)).to(torch.uint8)


def to_pillow(image: Tensor) -> Image.Image:
    """uint8 (C, H, W), or uint16 (1, H, W) -> Pillow: grey, grey and alpha, RGB or RGBA. ValueError for others."""
    if len(image) > 4:
        raise ValueError(f"a picture file has at most 4 channels, not {len(image)}: keep them as npz, or choose three")
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).contiguous().numpy())


def png_bytes(image: Tensor) -> bytes:
    """uint8 (C, H, W) as a PNG file."""
    buffer = io.BytesIO()
    to_pillow(image).save(buffer, "png")
    return buffer.getvalue()


def save_png(path: str | Path, image: Tensor) -> None:
    """Write uint8 (C, H, W) as PNG."""
    write_bytes(path, png_bytes(image))


def save_npz(
    path: str | Path, images: Tensor, labels: Tensor | None = None, values: tuple[float, ...] = (-1.0, 1.0)
) -> None:
    """Write arr_0 (N, H, W, C), and arr_1 int64 (N,) where there are labels: what ADM's evaluator reads.

    Signals (N, C, L) and clips (N, C, T, H, W) are written as they are laid, under these names.

    Args:
        images: uint8 or uint16 (N, C, H, W), or real numbers in [-1, 1], written with `values` as black and white.
    """
    name, laid = ("arr_0", images.movedim(1, -1)) if images.ndim == 4 else (kind(images.shape[1:]), images)
    pixels = laid.contiguous().numpy()
    arrays: dict[str, Any] = {name: in_units(pixels, values) if images.is_floating_point() else pixels}
    arrays |= {} if labels is None else {"arr_1": labels.numpy()}
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def save_animation(path: str | Path, frames: list[Tensor], milliseconds: int = 60, hold: int = 1500) -> None:
    """Write uint8 frames (C, H, W) as an animation, by the suffix .webp, .gif or .png; the last frame holds."""
    suffix = Path(path).suffix
    kind = {".webp": "webp", ".gif": "gif", ".png": "png"}.get(suffix)
    if kind is None:
        raise ValueError(f"an animation ends in .webp, .gif or .png, not {suffix!r}")
    write_bytes(path, animation_bytes(frames, kind, milliseconds, hold))


def animation_bytes(frames: list[Tensor], kind: str, milliseconds: int = 60, hold: int = 1500) -> bytes:
    """uint8 frames (C, H, W) as an animation, a webp, gif or png file; the last frame holds."""
    first, *rest = [to_pillow(frame) for frame in frames]
    durations = [milliseconds] * len(rest) + [hold]
    options = {"lossless": True} if kind == "webp" else {}
    buffer = io.BytesIO()
    first.save(buffer, kind, save_all=True, append_images=rest, duration=durations, loop=0, **options)
    return buffer.getvalue()


def write_text(path: str | Path, text: str) -> None:
    """Write a text file, complete or not at all."""
    write_bytes(path, text.encode())


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file, complete or not at all."""
    with whole_file(Path(path)) as file:
        file.write(content)
