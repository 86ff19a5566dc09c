"""The sets that come with the package, digits and emoji32, and those that are made, such as swiss_roll."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.data import moving, toys
from sfumato.data.arrays import finished
from sfumato.data.images import Images
from sfumato.data.spec import FRAMING, DataError, Size, Spec, split_of
from sfumato.data.upright import single

LEAVES = 10_000 * 32**3
"""Pictures of dead leaves times their side cubed, as which the work grows or faster: about a minute of one core."""


def asset(name: str) -> Path:
    """A file of the sets that ship."""
    return Path(str(resources.files("sfumato.data"))) / "assets" / name


def digits(spec: Spec) -> Images:
    """1,797 handwritten digits of 8x8 in 17 grey levels; every sixth is test."""
    test = split_of(spec) == "test"
    with np.load(asset("digits.npz")) as file:
        raw, labels = file["images"], file["labels"]
    chosen = np.flatnonzero((np.arange(len(raw)) % 6 == 5) == test)
    images = torch.from_numpy(np.rint(raw[chosen, None] * (255 / 16)).astype(np.uint8))
    return finished(
        spec, images, torch.from_numpy(labels[chosen].astype(np.int64)), tuple("0123456789"),
        tuple(f"digits/{i}" for i in chosen), notes=("17 grey levels, stretched to 0..255",), bits="4 bits a channel",
        licence="UCI optical digits, CC BY 4.0",
    )  # fmt: skip


def emoji32(spec: Spec) -> Images:
    """1,906 Noto emoji on white, with names and categories, split by first code point."""
    split = split_of(spec)
    index = json.loads(asset("emoji32.json").read_text())
    side, columns = index["side"], index["columns"]
    atlas = single(asset("emoji32.png"), 3).permute(1, 2, 0).numpy()
    tiles = atlas.reshape(-1, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    chosen = [i for i, entry in enumerate(index["emoji"]) if entry[3] == split]
    entries = [index["emoji"][i] for i in chosen]
    images = torch.from_numpy(np.ascontiguousarray(tiles[chosen].transpose(0, 3, 1, 2)))
    return finished(
        spec, images, torch.tensor([e[2] for e in entries]), tuple(index["classes"]), tuple(e[0] for e in entries),
        texts=tuple(e[1] for e in entries), licence="Noto Emoji, Apache-2.0 (see NOTICE)",
    )  # fmt: skip


# ---------------------------------------------------------------- sets that are made


def swiss_roll(spec: Spec) -> Images:
    """100,000 points of a spiral, and 10,000 others for test: floats in [-1, 1], as a picture of two pixels."""
    test = _made(spec)
    points = toys.swiss_roll(10_000 if test else 100_000, seed=int(test))
    return finished(spec, points, None, (), _keys(spec, points), notes=("points in the plane",), bits="real numbers")


def heartbeat(spec: Spec) -> Images:
    """Sequences of 20 bits with a pulse at every fifth, black and white: 10,000, and 1,000 for test."""
    test = _made(spec)
    bits = toys.heartbeats(1_000 if test else 10_000, seed=int(test))
    return finished(spec, bits, None, (), _keys(spec, bits), notes=("sequences of 20 bits",), bits="1 bit")


def dead_leaves(spec: Spec) -> Images:
    """Occluding discs of all sizes, 16x16 or `size`: 10,000 pictures, and 1,000 for test."""
    test = split_of(spec) == "test"
    size = spec.size or Size(16, 16)
    side = size.width
    if size.height != side or spec.crop != "center":
        raise DataError(f"{spec.text!r}: dead leaves are made square and as large as they are asked for: ?size={side}")
    n = min(1_000 if test else 10_000, spec.limit or 10_000)
    if n * side**3 > LEAVES:
        raise DataError(f"{spec.text!r}: to make {n:,} pictures of {side}x{side} takes too long; set ?size= or ?limit=")
    pictures = toys.DeadLeaves(side)(n, seed=int(test))
    return finished(spec, pictures, None, (), _keys(spec, pictures), notes=("discs with radii of density r^-3",))


def signals(spec: Spec) -> Images:
    """10,000 sums of two damped sines, 128 floats each, and 1,000 others for test."""
    test = _made(spec)
    made = moving.signals(1_000 if test else 10_000, seed=int(test))
    return finished(spec, made, None, (), _keys(spec, made), notes=("sums of two damped sines",))


def moving_digits(spec: Spec) -> Images:
    """5,000 clips of a digit that moves and bounces, 8 frames of 16x16, and 1,000 of the test digits for test."""
    test = _made(spec)
    shown = digits(_same_split(spec, "digits"))
    assert shown.labels is not None
    clips, labels = moving.moving(shown.images, shown.labels, 1_000 if test else 5_000, seed=int(test))
    return finished(
        spec, clips, labels, shown.classes, _keys(spec, clips), notes=("a digit moves and bounces",),
        bits="4 bits a channel", licence=shown.card.licence,
    )  # fmt: skip


def _same_split(spec: Spec, name: str) -> Spec:
    """The same split of another set, as it is."""
    return Spec(f"{name}:{split_of(spec)}", name, spec.rest, {})


def _made(spec: Spec) -> bool:
    """Whether the test split is meant, of a set that is made as it is."""
    if fixed := [o for o in (*FRAMING, "channels") if o in spec.options]:
        raise DataError(f"{spec.name} has one shape only; {fixed[0]} in {spec.text!r} does not apply")
    return split_of(spec) == "test"


def _keys(spec: Spec, images: Tensor) -> tuple[str, ...]:
    return tuple(f"{spec.name}/{split_of(spec)}/{i}" for i in range(len(images)))
