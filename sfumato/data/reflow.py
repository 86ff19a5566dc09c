"""Reflow pairs on disk: pictures that a flow made, as a memory map, with the noise beside them that each was made from.

`reflow:FOLDER` reads what `sfumato reflow` wrote (Liu et al. 2023, section 2.2): a prepared set (`maps`) and noise.npy,
float16 (N, C, H, W) in what the diffusion sees. Interrupted writing goes on from the journal in FOLDER.partial.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data import maps
from sfumato.data.card import make_card
from sfumato.data.images import Images
from sfumato.data.partial import JOURNAL, begun, clear, complete
from sfumato.data.pictures import write_text
from sfumato.data.spec import DataError, Spec, of_path
from sfumato.runtime.json_file import read_object
from sfumato.runtime.opening import open_regular

NOISE, ABOUT = "noise.npy", "reflow.json"
HALF = "<f2"
"""Noise is kept in float16: its rounding, 5e-4 of a number, is less than that of a picture to 256 levels."""


@dataclass(frozen=True)
class Pairs:
    """Some of the pairs: images (n, C, H, W), signals or clips, noise of as many dimensions, and labels (n,) if any."""

    images: Tensor
    noise: Tensor
    labels: Tensor | None


def read(spec: Spec) -> Images:
    """The pictures of a folder that `sfumato reflow` wrote, each with its noise. DataError for any other, or damage."""
    folder = Path(spec.rest)
    if not (folder / ABOUT).exists():
        raise DataError(f"{folder} holds no reflow pairs (make some: sfumato reflow MODEL --pairs N --out {folder})")
    images = maps.read(spec)
    try:
        shape = tuple(read_object(folder / ABOUT)["noise"])
        if len(shape) not in (2, 3, 4) or not all(type(side) is int and side > 0 for side in shape):
            raise ValueError(f"{ABOUT} has no shape of noise")
        with open_regular(folder / NOISE) as file:
            noise = maps.mapped(file, (len(images), *shape), NOISE, HALF)
    except (OSError, ValueError, LookupError, TypeError) as error:
        said = f"{Path(error.filename).name}: {error.strerror}" if isinstance(error, OSError) else error
        raise DataError(f"{folder} is damaged: {said}") from None
    return replace(images, noise=noise)


def write(
    out: Path, about: dict[str, Any], total: int, classes: tuple[str, ...], made: Callable[[int], Iterator[Pairs]],
    progress: Callable[[int], object] = lambda done: None,
) -> Images:  # fmt: skip
    """Write pairs into a folder, or go on with what was begun; returns them, read back.

    Args:
        about: what the pairs are of, as plain values; pairs of anything else are not gone on with.
        total: how many.
        made: number of pairs that are there already -> the others, in order, a batch at a time.
        progress: called with how many are done.

    Raises:
        DataError: `out` is there already, or OUT.partial holds the beginning of something else.
        OSError: disk full, no permission; what is done is kept, and the same call goes on.
    """
    if os.path.lexists(out):
        raise DataError(f"{out} exists; choose another folder, or remove it first")
    with begun(out.with_name(out.name + ".partial")) as partial:
        journal = _taken_up(partial, about)
        progress(journal["rows"])
        for part in made(journal["rows"]) if journal["rows"] < total else ():
            _append(partial, journal, part)
            progress(journal["rows"])
        return _finish(partial, journal, classes, out)


def _taken_up(partial: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The journal of what was begun here, or a new one."""
    if not (partial / JOURNAL).exists():
        clear(partial)
        return {"about": about, "rows": 0, "end": 0, "image": [], "noise": []}
    journal = read_object(partial / JOURNAL, DataError)
    was = journal.get("about")
    if not isinstance(was, dict) or was != json.loads(json.dumps(about)):
        differing = [name for name in about if not isinstance(was, dict) or was.get(name) != about[name]]
        raise DataError(f"{partial} holds the beginning of other pairs ({', '.join(differing)}); remove it first")
    try:
        kind = np.dtype(journal.get("kind", maps.BYTES))
        for name in ("rows", "end"):
            if type(journal[name]) is not int or journal[name] < 0:
                raise ValueError(f"{name} is no count in its journal")
        sizes = {
            "images.npy": maps.HEADER + journal["rows"] * math.prod(journal["image"]) * kind.itemsize,
            NOISE: maps.HEADER + journal["rows"] * math.prod(journal["noise"]) * np.dtype(HALF).itemsize,
            "rows.jsonl": journal["end"],
        }
        if short := [name for name, size in sizes.items() if (partial / name).stat().st_size < size]:
            raise ValueError(f"{short[0]} is shorter than its journal says")
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise DataError(f"{partial} is damaged ({error}); remove it first") from None
    return journal


def _append(partial: Path, journal: dict[str, Any], part: Pairs) -> None:
    """More pairs behind those that the journal knows of; whatever lies there is overwritten."""
    first, pixels, noise = journal["rows"], part.images.cpu().numpy(), part.noise.cpu().numpy().astype(HALF)
    labels = [None] * len(pixels) if part.labels is None else part.labels.tolist()
    text = "".join(
        json.dumps({"label": label, "text": None, "key": f"pair-{first + i}"}) + "\n" for i, label in enumerate(labels)
    ).encode()
    for name, offset, content in (
        ("images.npy", maps.HEADER + first * pixels[0].nbytes, pixels.tobytes()),
        (NOISE, maps.HEADER + first * noise[0].nbytes, noise.tobytes()),
        ("rows.jsonl", journal["end"], text),
    ):
        with os.fdopen(os.open(partial / name, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.seek(offset)
            file.write(content)
            file.truncate()
            os.fsync(file.fileno())
    journal |= {"rows": first + len(pixels), "end": journal["end"] + len(text)}
    journal |= {"image": list(pixels.shape[1:]), "noise": list(noise.shape[1:]), "kind": pixels.dtype.str}
    write_text(partial / JOURNAL, json.dumps(journal))


def _finish(partial: Path, journal: dict[str, Any], classes: tuple[str, ...], out: Path) -> Images:
    kinds = journal.get("kind", maps.BYTES), HALF
    for name, shape, kind in (("images.npy", journal["image"], kinds[0]), (NOISE, journal["noise"], kinds[1])):
        with open(partial / name, "r+b") as file:
            file.write(maps.header((journal["rows"], *shape), kind))
            os.fsync(file.fileno())
    labels = [json.loads(line)["label"] for line in (partial / "rows.jsonl").open()] if classes else []
    card = make_card(
        of_path("reflow", str(out)), torch.from_numpy(np.load(partial / "images.npy", mmap_mode="c")),
        torch.tensor(labels) if classes else None, classes, notes=(f"made by {journal['about'].get('model')}",),
        values=tuple(journal["about"].get("values", (-1.0, 1.0))),
    )  # fmt: skip
    write_text(partial / "set.json", json.dumps({"classes": classes, "card": card.to_json()}, indent=1))
    write_text(partial / ABOUT, json.dumps({**journal["about"], "noise": journal["noise"]}, indent=1))
    complete(partial, out)
    return read(Spec(card.spec, "reflow", str(out), {}))
