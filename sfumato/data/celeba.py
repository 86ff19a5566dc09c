"""CelebA (Liu et al. 2015), aligned and cropped, as downloaded: a zip of JPEG files, and a list of three parts."""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

from sfumato.data.attributes import Attributed, chosen, filled, table
from sfumato.data.captions import ROW
from sfumato.data.labels import refuse
from sfumato.data.places import placed, split_and_path
from sfumato.data.reading import Record, Shelf
from sfumato.data.spec import DataError, Spec
from sfumato.runtime.opening import open_regular, read_bounded

SPLITS = ("train", "valid", "test")
"""As they are numbered in the list."""

PACKED, FOLDER, PARTS = "img_align_celeba.zip", "img_align_celeba", "list_eval_partition.txt"
LABELLED = "list_attr_celeba.txt"

LIST, PICTURE = 2**25, 2**24
"""Bytes of the longest list (CelebA's has 2.8 million), and of the largest picture."""

SHOWN = 5
"""File names in a message."""

LICENCE = "non-commercial research (the agreement of CelebA)"


def shelf(spec: Spec) -> Shelf:
    """The 162,770 training, 19,867 validation or 19,962 test pictures, 178x218 in colour, without labels.

    `?attributes=all`, or some of the 40 such as Smiling,Male, are read from list_attr_celeba.txt.

    Raises:
        DataError: not here, which says what to get; a list that is damaged, or names pictures that are not there.
    """
    split, own = split_and_path(spec, SPLITS)
    place = placed(
        spec, own, ("celeba", "celeba/Img"), lambda path: (path / PACKED).is_file() or (path / FOLDER).is_dir(),
        f"get {PACKED} and {PARTS} from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html and put both into "
        "$SFUMATO_DATA/celeba, or into one folder, as celeba:FOLDER",
    )  # fmt: skip
    names = _part(place, SPLITS.index(split))
    spec = spec._replace(options={"channels": "3"} | spec.options)
    picture: Callable[[str], bytes | Path]
    picture = _zipped(place / PACKED, names) if (place / PACKED).is_file() else _loose(place / FOLDER, names)

    has = _attributes(place, spec.options["attributes"], names) if "attributes" in spec.options else None

    def record(i: int) -> Record:
        return Record(picture(names[i]), None, None, f"celeba/{names[i]}", None if has is None else has.row(i))

    lines = names if has is None else [*names, has.digest]
    digest = hashlib.sha256("\n".join(lines).encode()).hexdigest()
    return Shelf.of_rows(
        spec, str(place), len(names), record, digest, licence=LICENCE, named=() if has is None else has.names
    )  # fmt: skip


def _attributes(place: Path, words: str, names: list[str]) -> Attributed:
    """Those of the list that are named, of these pictures."""
    folders = (place, place / "Anno", place.parent / "Anno")
    path = next((folder / LABELLED for folder in folders if (folder / LABELLED).is_file()), None)
    if path is None:
        raise DataError(f"celeba: {place} lacks {LABELLED}, which says the attributes of each picture")
    known, rows = table(path, LIST // ROW)
    refuse([name for name in names if name not in rows], f"pictures of {PARTS} have no attributes in {path}")
    return chosen(filled(known, [rows[name] for name in names]), words, str(path))


def _part(place: Path, number: int) -> list[str]:
    """The file names of a part."""
    folders = (place, place / "Eval", place.parent / "Eval")
    path = next((folder / PARTS for folder in folders if (folder / PARTS).is_file()), None)
    if path is None:
        raise DataError(f"celeba: {place} lacks {PARTS}, which says what is training and what is test")
    try:
        rows = [line.split() for line in read_bounded(path, LIST).decode("ascii").splitlines() if line.strip()]
        wrong = next((i for i, row in enumerate(rows, 1) if len(row) != 2 or row[1] not in ("0", "1", "2")), None)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path} is damaged: it is no text in ASCII") from None
    if wrong is not None:
        raise DataError(f"{path}, row {wrong}: a file name and 0, 1 or 2 are expected")
    names = [name for name, part in rows if int(part) == number]
    if not names or len(set(names)) < len(names) or any("/" in name or name.startswith(".") for name in names):
        raise DataError(f"{path} is damaged: it names no picture of that part, or one twice, or one elsewhere")
    return names


def _require(missing: list[str], what: str) -> None:
    if missing:
        more = ", ..." if len(missing) > SHOWN else ""
        raise DataError(f"{len(missing):,} pictures of {PARTS} are not in {what}: {', '.join(missing[:SHOWN])}{more}")


def _zipped(path: Path, names: list[str]) -> Callable[[str], bytes]:
    """File name -> the picture's bytes, from the zip; none where they are damaged, which is then counted."""
    try:
        archive = zipfile.ZipFile(open_regular(path))
        held = {Path(info.filename).name: info for info in archive.infolist()}
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # damaged zips raise BadZipFile, struct.error, UnicodeDecodeError and others
        raise DataError(f"{path} is damaged: {str(error) or type(error).__name__}") from None
    _require([name for name in names if name not in held], str(path))
    if large := next((name for name in names if held[name].file_size > PICTURE), None):
        raise DataError(f"{path} is damaged: {large} has {held[large].file_size:,} bytes")

    def picture(name: str) -> bytes:
        try:
            return archive.read(held[name])
        except (zipfile.BadZipFile, zlib.error, OSError, EOFError, ValueError, RuntimeError):
            return b""

    return picture


def _loose(folder: Path, names: list[str]) -> Callable[[str], Path]:
    """File name -> the picture's file, where the zip was unpacked."""
    here = {path.name for path in folder.iterdir()}
    _require([name for name in names if name not in here], str(folder))
    return lambda name: folder / name
