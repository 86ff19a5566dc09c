"""Shapes of data in words: signals (C, L), images (C, H, W) and clips (C, T, H, W), one to three dimensions.

How many there are follows from the shape alone; nothing else says it.
"""

from __future__ import annotations

from collections.abc import Sequence

KINDS = {1: "signals", 2: "images", 3: "clips"}
"""What data are called, by the number of their dimensions."""
AXES = {1: "(C, L)", 2: "(C, H, W)", 3: "(C, T, H, W)"}
"""Their shapes: length; height and width; frames, height and width."""


def kind(shape: Sequence[int]) -> str:
    """signals, images or clips, of a shape (C, ...)."""
    return KINDS[len(shape) - 1]


def extent(sides: Sequence[int]) -> str:
    """What lies behind the channels: `128 numbers`, `48x32` (width and height), `8 frames of 16x16`."""
    if len(sides) == 1:
        return f"{sides[0]:,} numbers"
    *frames, height, width = sides
    return f"{frames[0]} frames of {width}x{height}" if frames else f"{width}x{height}"


def described(shape: Sequence[int]) -> str:
    """A shape (C, ...) in words: `32x32 colour`, `128 numbers in 1 channel`, `8 frames of 16x16 grey`."""
    channels = shape[0]
    if len(shape) == 2:
        return f"{extent(shape[1:])} in {channels} channel{'s' * (channels > 1)}"
    return f"{extent(shape[1:])} {({1: 'grey', 3: 'colour'}).get(channels, f'{channels} channels')}"


def only_images(shape: Sequence[int], what: str, instead: str = "") -> None:
    """Raise ValueError unless a shape (C, ...) is that of images.

    Args:
        what: that is of images alone, which begins the sentence: "serving".
        instead: what works for the others.
    """
    if len(shape) != 3:
        raise ValueError(f"{what} is for images, not for {kind(shape)}{f': {instead}' if instead else ''}")
