"""Signals drawn as curves, and clips as rows of frames or frame by frame: what `pictures.grid` shows of them."""

from __future__ import annotations

import math

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from sfumato.data.loader import to_float

WIDTH, HEIGHT, GAP = 224, 72, 4
"""Pixels of a signal's tile, and between tiles; a longer signal is as wide as it has numbers."""
WIDEST = 1024
"""Pixels of a tile, at most."""
FINE = 2
"""Curves are drawn so many times larger, and shrunk."""
WHITE, ZERO, PAPER = (255, 255, 255), (205, 205, 205), (235, 235, 235)
COLOURS = ((40, 84, 128), (180, 85, 45), (92, 122, 60), (120, 70, 130), (110, 110, 110))
"""Of the curves of channels, in turn."""


def curves(signals: Tensor, columns: int | None = None) -> Tensor:
    """Signals (N, C, L), of any depth, as one picture uint8 (3, H, W): a tile each, its channels in it.

    A tile reaches from -1 below to 1 above, with a line at 0; what lies outside is drawn at the edge.

    Args:
        columns: of tiles; by default about so many that the sheet is as high as wide.
    """
    n, _, length = signals.shape
    places = ((1 - to_float(signals).nan_to_num(0).clamp(-1, 1)) / 2).numpy()
    width, height = tile(length)
    columns = min(columns or max(1, round(math.sqrt(n * height / width))), n)
    rows = -(-n // columns)
    size = (GAP + columns * (width + GAP), GAP + rows * (height + GAP))
    sheet = Image.new("RGB", size, PAPER)
    for i, channels in enumerate(places):
        row, column = divmod(i, columns)
        sheet.paste(_tile(channels, width, height), (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return torch.from_numpy(np.array(sheet)).permute(2, 0, 1).contiguous()


def tile(length: int) -> tuple[int, int]:
    """Width and height in pixels of the tile of a signal of so many numbers."""
    return min(max(WIDTH, length), WIDEST), HEIGHT


def _tile(channels: np.ndarray, width: int, height: int) -> Image.Image:
    """The curves (C, L) of a signal, from 0 above to 1 below."""
    wide, high = FINE * width, FINE * height
    picture = Image.new("RGB", (wide, high), WHITE)
    draw = ImageDraw.Draw(picture)
    draw.line([(0, high / 2), (wide, high / 2)], ZERO, FINE)
    across = np.linspace(0, wide - 1, channels.shape[1]) if channels.shape[1] > 1 else np.array([wide / 2])
    for i, down in enumerate(channels):
        points = list(zip(across.tolist(), (FINE + down * (high - 1 - 2 * FINE)).tolist(), strict=True))
        draw.line(points, COLOURS[i % len(COLOURS)], FINE + 1, joint="curve")
    return picture.resize((width, height), Image.Resampling.LANCZOS)


def strips(clips: Tensor) -> Tensor:
    """Clips (N, C, T, H, W) as pictures (N T, C, H, W), frame after frame: a sheet of them has T columns."""
    return clips.transpose(1, 2).flatten(0, 1)


def by_frame(clips: Tensor) -> list[Tensor]:
    """Clips (N, C, T, H, W) as T sets of pictures (N, C, H, W)."""
    return list(clips.unbind(2))
