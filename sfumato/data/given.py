"""Images that a program holds, NumPy arrays, torch tensors or Pillow's, as a set of images with its data card.

`memory[?option=value...]` is the spec of such a set: its options are those of any other; nothing can be opened by it.
"""

from __future__ import annotations

import io
from collections.abc import Sequence, Sized
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data.arrays import finished, values_of
from sfumato.data.collect import collected
from sfumato.data.dimensions import SIGNALS, held_as
from sfumato.data.images import Images
from sfumato.data.reading import Record, Shelf
from sfumato.data.room import check_labels
from sfumato.data.spec import DataError, Spec

RANGES = ((0.0, 1.0), (-1.0, 1.0))
"""What black and white may be in images of floats."""
WRITTEN = ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I")
"""Modes of Pillow that a PNG file holds; the others become RGB."""


def memory(spec: Spec) -> Images:
    """DataError: what a program held is not here any more."""
    raise DataError(
        f"{spec.text}: these images were given from Python and are not stored; go on there with "
        "sfumato.fit(images, resume=True), or keep them as a file, and name that: npz:FILE"
    )


def given(
    spec: Spec,
    images: Any,
    labels: Any = None,
    classes: Sequence[str] | None = None,
    values: tuple[float, float] | None = None,
) -> Images:
    """Images in memory as a data set.

    Args:
        spec: `memory`, with options such as ?size=32&channels=1, by which they are resized and converted; ?bits=16 or
            ?bits=float keeps that much of floats.
        images: an array or tensor, uint8, uint16 or of floats, (N, H, W, C), (N, C, H, W) or (N, H, W); a list of
            Pillow's images; clips (N, C, T, H, W); or signals (N, C, L), with the spec memory?kind=signals.
        labels: one an image, whole numbers from 0, or words, whose sorted set are the classes then.
        classes: names of the numbers.
        values: what black and white are where images are of floats: (0, 1) or (-1, 1), or with ?bits= any two.

    Raises:
        DataError: images of another kind or range, or labels that do not fit them.
    """
    if unfit := [option for option in ("limit", "classes") if option in spec.options]:
        raise DataError(f"{unfit[0]} in {spec.text!r} is for images that are read; choose among your own by an index")
    listed = isinstance(images, list | tuple) and len(images) > 0 and isinstance(images[0], Image.Image)
    count = len(images) if isinstance(images, Sized) else 0
    marks, names = _labels(labels, classes, count)
    if listed:
        return _pictures(spec, images, marks, names, values)
    values = spec.values if values is None else (float(values[0]), float(values[1]))
    array = _array(images)
    levels = spec.levels if held_as(array, spec.kind) == SIGNALS else _levels(spec, array, values)
    pixels = values_of("images", array, spec, levels, values)
    keys = tuple(f"image-{i}" for i in range(len(pixels)))
    tensor = torch.from_numpy(np.ascontiguousarray(pixels))
    numbers = None if marks is None else torch.tensor(marks)
    return finished(spec, tensor, numbers, names, keys, values=values or (-1.0, 1.0))


def _pictures(
    spec: Spec, images: Sequence[Image.Image], labels: list[int] | None, classes: tuple[str, ...],
    values: tuple[float, float] | None,
) -> Images:  # fmt: skip
    """Pillow's images, read as files of them would be."""
    if values is not None:
        raise DataError("values= says what floats mean; Pillow's images say that themselves")
    if odd := next((i for i, image in enumerate(images) if not isinstance(image, Image.Image)), None):
        raise DataError(f"images[{odd}] is a {type(images[odd]).__name__}, the first a Pillow image")

    def record(i: int) -> Record:
        held, image = io.BytesIO(), images[i]
        (image if image.mode in WRITTEN else image.convert("RGB")).save(held, "PNG", compress_level=0)
        return Record(held.getvalue(), None if labels is None else labels[i], None, f"image-{i}")

    return collected(Shelf.of_rows(spec, "images", len(images), record, "memory", classes))


def _array(images: Any) -> np.ndarray:
    if isinstance(images, Tensor):
        images = images.detach().cpu()
        images = (images.float() if images.is_floating_point() else images).numpy()
    elif isinstance(images, list | tuple) and images and isinstance(images[0], Tensor | np.ndarray):
        shapes = sorted({tuple(image.shape) for image in images})
        if len(shapes) > 1:
            raise DataError(f"images are of several shapes, {shapes[0]} and {shapes[1]}; Pillow's can be resized here")
        images = np.stack([np.asarray(image) for image in images])
    if not isinstance(images, np.ndarray):
        raise DataError(
            "images are an array or tensor (N, H, W, C), a list of Pillow's, or a data spec, "
            f"not {type(images).__name__}"
        )
    return images


def _levels(spec: Spec, array: np.ndarray, values: tuple[float, float] | None) -> int | None:
    """Grey levels of the depth that is asked for; floats become the nearest of 256 levels where none is."""
    levels = 256 if spec.levels is None and array.dtype.kind == "f" else spec.levels
    if array.dtype.kind == "f" and (values is None or ("bits" not in spec.options and values not in RANGES)):
        said = "" if values is None else f", not {values}"
        raise DataError(f"images of floats need values=(0, 1) or values=(-1, 1), black and white{said}")
    return levels


def _labels(labels: Any, classes: Sequence[str] | None, count: int) -> tuple[list[int] | None, tuple[str, ...]]:
    """Numbers and names of the classes."""
    if labels is None:
        if classes:
            raise DataError("classes= names labels, and there are none")
        return None, ()
    held = labels.tolist() if isinstance(labels, Tensor | np.ndarray) else list(labels)
    if len(held) != count:
        raise DataError(f"there are {count:,} images and {len(held):,} labels")
    if held and all(isinstance(label, str) for label in held):
        names = tuple(sorted(set(held))) if classes is None else tuple(classes)
        if missing := sorted(set(held) - set(names)):
            raise DataError(f"the label {missing[0]!r} is none of classes={list(names)}")
        return [names.index(label) for label in held], names
    if not all(isinstance(label, int | np.integer) and not isinstance(label, bool) for label in held):
        raise DataError("labels are whole numbers from 0, or words, one an image")
    check_labels("labels", max(held, default=0), min(held, default=0))
    number = max(held, default=-1) + 1
    names = tuple(map(str, range(number))) if classes is None else tuple(classes)
    if number > len(names):
        raise DataError(f"classes= names {len(names)} classes, and a label is {number - 1}")
    return [int(label) for label in held], names
