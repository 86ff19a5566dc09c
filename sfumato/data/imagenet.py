"""ImageNet (ILSVRC 2012) as it is downloaded: the tar file of a tar file for each class, or a folder for each class.

Pictures are read where they lie, in one order that is shuffled once and for all, so that the first of them, and those
that are read together while training, are of all classes. Nothing is unpacked.
"""

from __future__ import annotations

import hashlib
import io
from array import array
from dataclasses import replace
from pathlib import Path

from sfumato.data import folders
from sfumato.data.decoding import SUFFIXES, Slice, Window
from sfumato.data.places import placed, split_and_path
from sfumato.data.reading import Record, Shelf
from sfumato.data.spec import DataError, Spec
from sfumato.data.tars import members
from sfumato.runtime.opening import open_regular
from sfumato.spec import unknown

SPLITS = ("train", "val")

TRAIN = "ILSVRC2012_img_train.tar"

CLASSES = 2**15
"""Of a tar file, at most: ImageNet-21k has two thirds of that."""

LICENCE = "non-commercial research (image-net.org)"


def shelf(spec: Spec) -> Shelf:
    """The 1,281,167 training or 50,000 validation pictures; classes are WordNet's numbers in their order, 0 to 999.

    Grey pictures become colour, unless ?channels= says otherwise; ?classes= leaves the others unread.

    Raises:
        DataError: not here, which says what to get; damaged; pictures that lie in no class.
    """
    split, own = split_and_path(spec, SPLITS)
    below = (f"imagenet/{split}", split, f"ILSVRC/Data/CLS-LOC/{split}", f"imagenet/ILSVRC/Data/CLS-LOC/{split}")
    packed = (TRAIN, f"imagenet/{TRAIN}") if split == "train" else ()
    place = placed(
        spec, own, (*packed, *below), lambda path: (path.is_file() and path.suffix == ".tar") or _holds_classes(path),
        f"get {TRAIN} from https://image-net.org/download-images and name it as imagenet:PATH/{TRAIN}, or put it into "
        "$SFUMATO_DATA/imagenet; or class folders (n01440764, ...) in imagenet/train and imagenet/val there, "
        "into which the pictures of ILSVRC2012_img_val.tar must be moved first",
    )  # fmt: skip
    spec = spec._replace(options={"channels": "3"} | spec.options)
    if place.is_dir():
        found = replace(folders.shelf(spec._replace(rest=str(place))), licence=LICENCE)
    else:
        found = _packed(spec, place)
    return _chosen(found).shuffled()


def _holds_classes(folder: Path) -> bool:
    return any(folder.glob("n[0-9]*/"))


def _packed(spec: Spec, path: Path) -> Shelf:
    """The pictures in the tar files of a tar file, of which the headers alone are read."""
    from tqdm import tqdm

    offsets, sizes, labels, keys = array("q"), array("q"), array("i"), list[str]()
    try:
        with open_regular(path) as file:
            outer = sorted(m for m in members(file, path) if m.name.endswith(".tar"))
            classes = tuple(Path(member.name).stem for member in outer)
            if not outer or len(outer) > CLASSES or len(set(classes)) < len(classes):
                raise DataError(f"{path} is something else: it does not hold one tar file a class (n01440764.tar, ...)")
            for label, (name, start, size) in enumerate(
                tqdm(outer, f"headers of {path.name}", unit="class", disable=None, leave=False)
            ):
                inner = io.BufferedReader(Window(file, start, size))
                for member in members(inner, path / name, stored=size):
                    if Path(member.name).suffix.lower() in SUFFIXES:
                        offsets.append(start + member.offset)
                        sizes.append(member.size)
                        labels.append(label)
                        keys.append(f"{classes[label]}/{Path(member.name).name}")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    if not keys:
        raise DataError(f"{path} holds no images ({', '.join(sorted(SUFFIXES))})")

    def record(i: int) -> Record:
        return Record(Slice(path, offsets[i], sizes[i]), labels[i], None, keys[i])

    digest = hashlib.sha256("\n".join(keys).encode(errors="surrogateescape") + sizes.tobytes()).hexdigest()
    return Shelf.of_rows(spec, str(path), len(keys), record, digest, classes, LICENCE)


def _chosen(found: Shelf) -> Shelf:
    """Only the classes that the spec names, numbered in its order. DataError for one that there is not, or is twice."""
    if "classes" not in found.spec.options:
        return found
    names = found.spec.options["classes"].split(",")
    if missing := [name for name in names if name not in found.classes]:
        raise DataError(unknown("class", missing[0], found.classes) + f" (of {found.place})")
    if len(set(names)) < len(names):
        raise DataError(f"classes in {found.spec.text!r} names one twice")
    at, numbers = found.at, {found.classes.index(name): number for number, name in enumerate(names)}
    assert at is not None
    rows = array("q", (i for i in range(len(found)) if at(i).label in numbers))
    if not rows:
        raise DataError(f"{found.place} has no image of {', '.join(names)}")

    def record(i: int) -> Record:
        whole = at(rows[i])
        return whole._replace(label=None if whole.label is None else numbers[whole.label])

    digest = hashlib.sha256(",".join((found.fingerprint, *names)).encode()).hexdigest()
    return Shelf.of_rows(
        found.spec, found.place, len(rows), record, digest, tuple(names), found.licence, found.notes
    )  # fmt: skip
