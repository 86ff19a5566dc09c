"""Arrays of pixels as images: with the size and channels that a spec asks for, and a data card; and npz files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.data import framing
from sfumato.data.card import make_card
from sfumato.data.depth import KINDS, of_depth
from sfumato.data.dimensions import CLIPS, SIGNALS, clips_of, held_as, signals_of
from sfumato.data.images import Images
from sfumato.data.loader import levels_of
from sfumato.data.npz import arrays
from sfumato.data.room import check_enlarged, check_labels
from sfumato.data.spec import MOST_CHANNELS, NO_IMAGES, DataError, Size, Spec
from sfumato.shapes import kind


def _resized(images: Tensor, spec: Spec, keys: tuple[str, ...]) -> tuple[Tensor, tuple[str, ...]]:
    """Named sets and arrays under `size` and `channels`."""
    if images.ndim != 4:
        if "size" in spec.options:
            raise DataError(f"{spec.text!r}: {kind(images.shape[1:])} are taken as they are; ?size= is for images")
        return images, ()
    notes = []
    size = spec.size
    before = Size(images.shape[-1], images.shape[-2])
    if size is not None and (before != size or framing.note(before, spec)):
        notes.append(framing.note(before, spec) or f"resized from {before} to {size}")
        shape = (*images.shape[:2], size.height, size.width)
        check_enlarged(spec.text, images.numel(), math.prod(shape))
        resized = torch.empty(shape, dtype=images.dtype)
        for small, image, key in zip(resized, images, keys, strict=True):
            small.copy_(framing.framed_array(image, spec, framing.place_of(key)))
        images = resized
    if (wanted := spec.channels) is not None:
        if images.shape[1] == 1 and wanted == 3:
            images = images.repeat(1, 3, 1, 1)
            notes.append("grey repeated to three channels")
        elif images.shape[1] == 3 and wanted == 1:
            weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
            grey = [(part.float() * weights).sum(1, keepdim=True) for part in images.split(256)]
            images = torch.cat([part.round().to(images.dtype) if levels_of(images) else part for part in grey])
            notes.append("colour turned into grey (ITU-R 601)")
        elif images.shape[1] != wanted:
            raise DataError(f"cannot make {wanted} channels of {images.shape[1]}")
    return images, tuple(notes)


def finished(
    spec: Spec, images: Tensor, labels: Tensor | None, classes: tuple[str, ...], keys: tuple[str, ...],
    texts: tuple[str, ...] | None = None, notes: tuple[str, ...] = (), bits: str | None = None,
    licence: str = "", values: tuple[float, float] = (-1.0, 1.0),
) -> Images:  # fmt: skip
    images, more = _resized(images, spec, keys)
    card = make_card(spec.text, images, labels, classes, bits=bits, notes=(*notes, *more), licence=licence,
                     values=values)  # fmt: skip
    return Images(images, labels, texts, keys, classes, card)


IMAGES, LABELS = ("images", *NO_IMAGES, "arr_0", "x"), ("labels", "arr_1", "y")
"""What the arrays of an npz file are called."""


def npz(spec: Spec) -> Images:
    """Arrays images, arr_0 or x (N, H, W, C), (N, C, H, W) or (N, H, W), uint8, uint16 or, with ?values=, floats;
    labels, arr_1 or y as int (N,).

    Signals and clips are told from images as `dimensions` says.

    Raises:
        DataError: no such file, damaged, other arrays, or far more than what is stored.
    """
    path = Path(spec.rest)
    if not path.exists():
        raise DataError(f"no file {spec.rest!r} (a spec looks like npz:images.npz)")
    with arrays(path) as found:
        name = next((n for n in IMAGES if n in found.names), None)
        marked = next((n for n in LABELS if n in found.names), None)
        if name is None:
            held = ", ".join(name[:40] for name in found.names[:20]) or "nothing"
            raise DataError(f"{path} holds {held}; the images are called images, arr_0 or x, others signals or clips")
        pixels = values_of(str(path), found[name], spec, spec.levels, spec.values, name)
        marks = None if marked is None else found[marked]
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    if marks is not None:
        if marks.shape != (len(pixels),) or marks.dtype.kind not in "iu":
            raise DataError(f"{path}: labels are integers from 0, one an image, not {marks.dtype} {marks.shape}")
        check_labels(f"{path}: labels", int(marks.max()), int(marks.min()))
        labels = torch.from_numpy(marks.astype(np.int64))
        classes = tuple(str(i) for i in range(int(marks.max()) + 1))
    keys = tuple(f"{path.name}/{i}" for i in range(len(pixels)))
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    return finished(spec, tensor, labels, classes, keys, values=spec.values or (-1.0, 1.0))


def values_of(
    path: str, array: np.ndarray, spec: Spec, levels: int | None, values: tuple[float, float] | None, name: str = ""
) -> np.ndarray:
    """An array as images (N, C, H, W), signals (N, C, L) or clips (N, C, T, H, W).

    Args:
        path: what holds it, for messages; name: what it is called there.
        levels, values: the depth, and black and white of floats, see `depth.of_depth`.
    """
    held = held_as(array, spec.kind, name)
    if held == SIGNALS:
        return signals_of(path, array, spec.channels, levels, values)
    array = of_depth(array, levels, values, f"{path}: {held}")
    return clips_of(path, array, spec.channels) if held == CLIPS else pixels_of(path, array, spec.channels)


def pixels_of(path: str, pixels: np.ndarray, channels: int | None) -> np.ndarray:
    """Pixels of any depth (N, C, H, W), C from 1 to 16, found by its length. DataError where an array is none.

    Args:
        path: what holds it, for messages.
    """
    shape = "x".join(map(str, pixels.shape))
    if pixels.dtype not in KINDS.values() or pixels.ndim not in (3, 4) or 0 in pixels.shape:
        wanted = "images are uint8, uint16 or floats, (N, H, W, C)"
        raise DataError(f"{path}: {wanted}, not {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 3:
        if pixels.shape[-1] in (3, 4) or (pixels.shape[-1] == 1 and pixels.shape[0] > 1):
            raise DataError(f"{path}: {shape} is one image (H, W, C); a set of images is (N, H, W, C): images[None]")
        if pixels.shape[0] in (3, 4) and len(set(pixels.shape[1:])) == 1:
            raise DataError(f"{path}: {shape} may be one image (C, H, W); say so, as (1, C, H, W) or (N, 1, H, W)")
        return pixels[:, None]
    last, first = (1 <= pixels.shape[axis] <= MOST_CHANNELS for axis in (-1, 1))
    if channels is not None and channels not in (1, 3):
        last, first = (pixels.shape[axis] == channels for axis in (-1, 1))
    elif pixels.shape[-1] in (1, 3) or pixels.shape[1] in (1, 3):
        last, first = pixels.shape[-1] in (1, 3), pixels.shape[1] in (1, 3) and pixels.shape[-1] not in (1, 3)
    if last and first and pixels.shape[-1] != pixels.shape[1]:
        last = pixels.shape[-1] < pixels.shape[1]
        first = not last
    if last and first:
        raise DataError(f"{path}: {shape} may be (N, H, W, C) or (N, C, H, W); say how many ?channels= it has")
    if not last and not first:
        asked = f"{channels} channels" if channels else f"1 to {MOST_CHANNELS} channels"
        raise DataError(f"{path}: {shape} does not have {asked}, as (N, H, W, C) or (N, C, H, W)")
    return pixels.transpose(0, 3, 1, 2) if last else pixels
