"""CIFAR-10 and CIFAR-100 (Krizhevsky 2009) as they are downloaded: the archive of Python pickles, or the folder in it.

The pickles are looked through by `runtime.pickles`, and then read by an unpickler that knows four names, of which it
calls none: an array becomes its shape, its kind and its bytes.
"""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sfumato.data.arrays import finished
from sfumato.data.images import Images
from sfumato.data.places import placed, split_and_path
from sfumato.data.spec import DataError, Spec
from sfumato.runtime.opening import open_regular, read_bounded
from sfumato.runtime.pickles import names_in

PICKLE, ARCHIVE = 2**28, 2**30
"""Bytes of the largest pickle (CIFAR-100's has 154 million), and of all that is unpacked of an archive."""

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

FILES = {
    ("cifar10", "train"): tuple(f"data_batch_{i}" for i in range(1, 6)),
    ("cifar10", "test"): ("test_batch",),
    ("cifar100", "train"): ("train", "meta"),
    ("cifar100", "test"): ("test", "meta"),
}
FOLDER = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}
PACKED = {"cifar10": "cifar-10-python.tar.gz", "cifar100": "cifar-100-python.tar.gz"}


def read(spec: Spec) -> Images:
    """The 50,000 training or 10,000 test images, 32x32 in colour, with their classes (the fine ones of CIFAR-100).

    Raises:
        DataError: not here, which says what to get; damaged, or a pickle that asks for more than arrays.
    """
    split, own = split_and_path(spec, ("train", "test"))
    place = _place(spec, own)
    held = _contents(place, FILES[spec.name, split])
    pixels, labels = [], list[int]()
    for name in (n for n in held if n != "meta"):
        batch = _unpickled(held[name], place / name)
        pixels.append(_pixels(batch, place / name))
        labels += _labels(batch, place / name, len(pixels[-1]))
    classes = CLASSES if spec.name == "cifar10" else _names(_unpickled(held["meta"], place / "meta"), place)
    if not 0 <= min(labels) <= max(labels) < len(classes):
        raise DataError(f"{place} is damaged: a label is none of 0 to {len(classes) - 1}")
    keys = tuple(f"{spec.name}/{split}/{i}" for i in range(len(labels)))
    return finished(spec, torch.from_numpy(np.concatenate(pixels)), torch.tensor(labels), classes, keys)


def _place(spec: Spec, own: str) -> Path:
    """The archive or the folder that holds the batches."""
    name, folder, packed = spec.name, FOLDER[spec.name], PACKED[spec.name]
    return placed(
        spec, own, (folder, packed, f"{name}/{folder}", f"{name}/{packed}"),
        lambda path: path.is_file() or (path / FILES[name, "test"][0]).is_file(),
        f"get {packed} from https://www.cs.toronto.edu/~kriz/cifar.html and name it as {name}:PATH/{packed}, or put it "
        f"(or its folder {folder}) into $SFUMATO_DATA",
    )  # fmt: skip


def _contents(place: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """The files of these names, from a folder or an archive."""
    try:
        if place.is_dir():
            return {name: read_bounded(place / name, PICKLE) for name in names}
        with open_regular(place) as file, tarfile.open(fileobj=file, mode="r|*") as archive:
            found, unpacked = dict[str, bytes](), 0
            for member in archive:
                unpacked += member.size
                if member.size > PICKLE or unpacked > ARCHIVE:
                    raise DataError(f"{place} is damaged: it unpacks to more than such a set has")
                name = Path(member.name).name
                if member.isreg() and name in names and (content := archive.extractfile(member)):
                    found[name] = content.read()
                if len(found) == len(names):
                    break
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{place} cannot be read: {error.strerror or error}") from None
    except (tarfile.TarError, EOFError, ValueError, zlib.error) as error:
        raise DataError(f"{place} is damaged: {error or type(error).__name__}") from None
    if missing := [name for name in names if name not in found]:
        raise DataError(f"{place} is damaged or something else: it lacks {missing[0]}")
    return {name: found[name] for name in names}


# ---------------------------------------------------------------- pickles without code


class _Kind:
    """What a pickle says of numpy.dtype."""

    def __init__(self, *words: Any) -> None:
        self.words = words

    def __setstate__(self, state: Any) -> None:
        pass


class _Array:
    """What a pickle says of an array: shape, kind, order and bytes."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


def _encoded(text: str, _: str) -> bytes:
    """Bytes as Python 3 writes them for Python 2."""
    return text.encode("latin1")


KNOWN: dict[str, Any] = {
    "numpy.core.multiarray._reconstruct": _Array,
    "numpy._core.multiarray._reconstruct": _Array,
    "numpy.ndarray": _Array,
    "numpy.dtype": _Kind,
    "_codecs.encode": _encoded,
}
"""What stands in for each name that these pickles ask for."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in KNOWN:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return KNOWN[f"{module}.{name}"]


def _unpickled(content: bytes, path: Path) -> dict[bytes, Any]:
    try:
        if asked := names_in(io.BytesIO(content)) - set(KNOWN):
            raise DataError(f"{path} is no batch of CIFAR: its pickle asks for {sorted(asked)[0]:.100}")
        found = _Unpickler(io.BytesIO(content), encoding="bytes").load()
        return {key if isinstance(key, bytes) else str(key).encode(): value for key, value in found.items()}
    except DataError:
        raise
    except Exception as error:  # unpickling raises nearly every kind for damaged files
        raise DataError(f"{path} is damaged: {error or type(error).__name__}") from None


def _pixels(batch: dict[bytes, Any], path: Path) -> np.ndarray:
    """uint8 (N, 3, 32, 32). DataError where the array is another."""
    try:
        _, (n, width), kind, fortran, content = batch[b"data"].state
        word = kind.words[0]
        if width != 3072 or fortran or word not in ("u1", b"u1") or len(content) != n * width or not n:
            raise ValueError
        return np.frombuffer(content, np.uint8).reshape(n, 3, 32, 32).copy()
    except (KeyError, AttributeError, ValueError, TypeError, IndexError):
        raise DataError(f"{path} is damaged: its data are not uint8 (N, 3072)") from None


def _labels(batch: dict[bytes, Any], path: Path, n: int) -> list[int]:
    labels = batch.get(b"labels", batch.get(b"fine_labels"))
    if not isinstance(labels, list) or len(labels) != n or not all(type(label) is int for label in labels):
        raise DataError(f"{path} is damaged: it does not have a label for each of its {n:,} images")
    return labels


def _names(meta: dict[bytes, Any], place: Path) -> tuple[str, ...]:
    names = meta.get(b"fine_label_names")
    if not isinstance(names, list) or not 0 < len(names) <= 100:
        raise DataError(f"{place / 'meta'} is damaged: it does not name the classes")
    return tuple(name.decode("latin1") if isinstance(name, bytes) else str(name) for name in names)
