"""SVHN (Netzer et al. 2011), the cropped digits, as they are downloaded: MATLAB files of version 5, read by scipy."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.data.arrays import finished
from sfumato.data.images import Images
from sfumato.data.places import placed, split_and_path
from sfumato.data.room import Room
from sfumato.data.spec import DataError, Spec
from sfumato.runtime.opening import open_regular, stored_bytes

SPLITS = ("train", "test", "extra")

SIDE = 32


def read(spec: Spec) -> Images:
    """The 73,257 training, 26,032 test or 531,131 extra digits, 32x32 in colour, with their classes 0 to 9.

    Raises:
        DataError: not here, which says what to get; damaged; scipy is not installed.
    """
    split, own = split_and_path(spec, SPLITS)
    name = f"{split}_32x32.mat"
    path = placed(
        spec, own, (name, f"svhn/{name}"), Path.is_file,
        f"get {name} from http://ufldl.stanford.edu/housenumbers/ and name it as svhn:PATH/{name}, or put it into "
        "$SFUMATO_DATA/svhn",
    )  # fmt: skip
    pixels, labels = _arrays(path, _scipy())
    if not 1 <= labels.min() <= labels.max() <= 10:
        raise DataError(f"{path} is damaged: a label is none of 1 to 10, the last of which means 0")
    keys = tuple(f"svhn/{split}/{i}" for i in range(len(labels)))
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(3, 2, 0, 1)))
    return finished(spec, images, torch.from_numpy(labels % 10), tuple("0123456789"), keys)


def _scipy() -> Any:
    try:
        return importlib.import_module("scipy.io")
    except ImportError:
        raise DataError("svhn needs the package scipy, which reads MATLAB files: pip install 'sfumato[svhn]'") from None


def _arrays(path: Path, io: Any) -> tuple[np.ndarray, np.ndarray]:
    """X uint8 (32, 32, 3, N) and y int64 (N,); their shapes are looked at before they are read."""
    try:
        with open_regular(path) as file:
            held = {name: (shape, kind) for name, shape, kind in io.whosmat(file)}
            shape, kind = held.get("X", ((), ""))
            n = shape[3] if len(shape) == 4 else 0
            if kind != "uint8" or shape != (SIDE, SIDE, 3, n) or not n or held.get("y", ((), ""))[0] != (n, 1):
                raise DataError(f"{path} is something else: X is not uint8 (32, 32, 3, N), with y (N, 1)")
            need = 3 * SIDE**2 * n
            Room(str(path)).add(decoded=need, stored=stored_bytes(file), held=2 * need)
            file.seek(0)
            found = io.loadmat(file, variable_names=("X", "y"))
        pixels, marks = found["X"], found["y"]
        if pixels.dtype != np.uint8 or pixels.shape != shape or marks.shape != (n, 1) or marks.dtype.kind not in "uif":
            raise ValueError("its arrays are not those of its headers")
        return pixels, marks[:, 0].astype(np.int64)
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # scipy raises many kinds for damaged files
        raise DataError(f"{path} is damaged: {str(error) or type(error).__name__}") from None
