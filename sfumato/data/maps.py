"""A memory map: one folder with images.npy, uint8 (N, C, H, W), that training reads without holding it in memory.

Beside it, rows.jsonl has label, text and key of each image, and set.json the shape, the classes and the data card.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.data.card import DataCard
from sfumato.data.images import Images
from sfumato.data.spec import DataError, Spec

HEADER = 128
"""Bytes of images.npy before its pixels."""


def header(shape: tuple[int, ...]) -> bytes:
    """The start of an npy file (format 1.0) of uint8, always of the same length."""
    text = str({"descr": "|u1", "fortran_order": False, "shape": shape})
    return b"\x93NUMPY\x01\x00" + (HEADER - 10).to_bytes(2, "little") + text.ljust(HEADER - 11).encode() + b"\n"


def read(spec: Spec) -> Images:
    """The images of a folder that `prepare` wrote; pixels are read from the disk as they are needed.

    Raises:
        DataError: no such folder, not whole, or an option that would need a copy.
    """
    folder = Path(spec.rest)
    if not (folder / "set.json").is_file():
        raise DataError(f"{folder} is no prepared set (make one: sfumato prepare SOURCE {folder})")
    if fixed := [o for o in ("size", "channels", "background") if o in spec.options]:
        raise DataError(f"{folder} is mapped as it is; sfumato prepare takes a SOURCE with ?{fixed[0]}=...")
    try:
        about: dict[str, Any] = json.loads((folder / "set.json").read_text())
        rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
        pixels = np.load(folder / "images.npy", mmap_mode="c")  # private to this process; nothing is written
        if pixels.dtype != np.uint8 or pixels.shape != (len(rows), *about["card"]["shape"]):
            raise ValueError(f"images.npy is {pixels.dtype} {pixels.shape}, rows.jsonl has {len(rows)} lines")
        labels = torch.tensor([row["label"] for row in rows]) if about["classes"] else None
        texts = tuple(row["text"] or "" for row in rows)
        held: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in about["card"].items()}
        card = DataCard(**held | {"spec": spec.text})
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{folder} is damaged: {error}") from None
    return Images(
        torch.from_numpy(pixels), labels, texts if any(texts) else None, tuple(row["key"] for row in rows),
        tuple(about["classes"]), card,
    )  # fmt: skip
