"""A memory map: one folder with images.npy (N, C, H, W) that training reads without holding it in memory.

Beside it, rows.jsonl has label, text and key of each image, and set.json the shape, the classes and the data card.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data.card import card_from_json, fingerprint
from sfumato.data.depth import KINDS
from sfumato.data.images import Images
from sfumato.data.room import MOST_CLASSES
from sfumato.data.spec import DEPTH, FRAMING, DataError, Spec
from sfumato.runtime.opening import open_regular, read_bounded

HEADER = 128
"""Bytes of images.npy before its pixels."""

CHECKED = 2**28
"""Pixels of a set whose fingerprint is computed again when it is opened; a larger one is only measured."""

ROW, ABOUT = 2**20, 2**28
"""Bytes of the longest line of rows.jsonl, and of set.json."""


BYTES = "|u1"
"""NumPy's word for uint8."""


def kind_of(levels: int) -> np.dtype[Any]:
    """What pixels of so many grey levels are stored as: uint8, or little-endian uint16 or, where they are 0, float32
    in [-1, 1]."""
    return np.dtype(KINDS[levels]).newbyteorder("<")


def header(shape: tuple[int, ...], kind: str = BYTES) -> bytes:
    """The start of an npy file (format 1.0) of uint8 or another kind, always of the same length."""
    text = str({"descr": kind, "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


def read(spec: Spec) -> Images:
    """The images of a folder that `prepare` wrote; pixels are read from the disk as they are needed.

    Raises:
        DataError: no such folder, not whole, or an option that would need a copy.
    """
    folder = Path(spec.rest)
    if not (folder / "set.json").exists():
        raise DataError(f"{folder} is no prepared set (make one: sfumato prepare SOURCE {folder})")
    if fixed := [o for o in (*FRAMING, *DEPTH, "channels", "background") if o in spec.options]:
        raise DataError(f"{folder} is mapped as it is; sfumato prepare takes a SOURCE with ?{fixed[0]}=...")
    try:
        about = json.loads(read_bounded(folder / "set.json", ABOUT))
        classes = tuple(about["classes"])
        card = card_from_json(about["card"] | {"spec": spec.text})
        if len(classes) > MOST_CLASSES or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"set.json has {len(classes):,} classes, or one that is no text")
        with open_regular(folder / "images.npy") as file:
            pixels = mapped(file, (card.count, *card.shape), "images.npy", kind_of(card.levels).str)
        with open_regular(folder / "rows.jsonl") as file:
            labels, texts, keys = _rows(file, card.count, len(classes))
        if pixels.numel() <= CHECKED and fingerprint(pixels, labels) != card.fingerprint:
            raise ValueError("its pixels or labels are not those that were prepared")
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        said = f"{Path(error.filename).name}: {error.strerror}" if isinstance(error, OSError) else error
        raise DataError(f"{folder} is damaged: {said}") from None
    return Images(pixels, labels, texts if any(texts) else None, keys, classes, card)


def mapped(file: IO[bytes], shape: tuple[int, ...], name: str, kind: str = BYTES) -> Tensor:
    """The array of the npy file of this name, private to this process. ValueError for another shape, kind or length."""
    words = np.dtype(kind)
    if file.read(HEADER) != header(shape, kind):
        raise ValueError(f"{name} is not {words.name} {shape}, which set.json says")
    size, whole = file.seek(0, 2), HEADER + math.prod(shape) * words.itemsize
    if size != whole:
        raise ValueError(f"{name} has {size:,} bytes, not {whole:,}")
    return torch.from_numpy(np.memmap(file, words, "c", HEADER, shape))


def _rows(file: IO[bytes], count: int, classes: int) -> tuple[Tensor | None, tuple[str, ...], tuple[str, ...]]:
    """Labels, texts and keys, a line each. ValueError names the line that is wrong."""
    labels, texts, keys = list[int](), list[str](), list[str]()
    while line := file.readline(ROW):
        number = len(keys) + 1
        if number > count:
            raise ValueError(f"rows.jsonl has more than {count:,} lines")
        row: dict[str, Any] = json.loads(line)
        label, text, key = row["label"], row["text"], row["key"]
        if not isinstance(key, str) or not (text is None or isinstance(text, str)):
            raise ValueError(f"line {number} of rows.jsonl has a key or text that is none")
        if classes and not (type(label) is int and 0 <= label < classes):
            shown = str(label)[:40]
            raise ValueError(f"line {number} of rows.jsonl has the label {shown}, and there are {classes} classes")
        labels.append(label)
        texts.append(text or "")
        keys.append(key)
    if len(keys) != count:
        raise ValueError(f"rows.jsonl has {len(keys):,} lines for {count:,} images")
    return torch.tensor(labels) if classes else None, tuple(texts), tuple(keys)
