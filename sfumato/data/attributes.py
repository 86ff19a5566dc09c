"""Attributes of pictures, several at once: a table of 1 and 0 for each name, a list of names, or CelebA's own list.

1 is present, -1 absent, 0 not known. Every picture has a row and every row a picture, or it is said which have none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import torch
from torch import Tensor

from sfumato.data.captions import LENGTH, ROW, content_of, csv_rows, json_rows
from sfumato.data.card import OPEN, DataCard
from sfumato.data.labels import LONGEST, refuse
from sfumato.data.spec import DataError
from sfumato.spec import unknown

FILE, LIST = "file_name", "attributes"
"""The columns of a table: the file's name; of JSON Lines also what it has."""

WORDS = {"1": 1, "0": -1, "-1": -1, "": 0, "?": 0, "true": 1, "false": -1}
"""What may stand in a cell; an empty one is not known."""

MOST = 4096
"""Attributes of an image."""

Rows = dict[str, tuple[int, ...]]
"""File name -> attributes in the order of their names."""


@dataclass(frozen=True)
class Attributed:
    """Attributes of images: their names (A), and int8 (N, A) of 1 present, -1 absent and 0 not known."""

    names: tuple[str, ...]
    values: Tensor

    def __post_init__(self) -> None:
        for name in self.names:
            if not 0 < len(name) <= LONGEST or name != name.strip() or name[0] == "-" or any(c in name for c in ",=&?"):
                raise DataError(f"an attribute is a word without , = & ? and not after a -, not {name[:80]!r}")
        if len(set(self.names)) < len(self.names) or not 0 < len(self.names) <= MOST:
            raise DataError(f"attributes are from 1 to {MOST:,} different names, not {len(self.names):,}")

    @classmethod
    def of(cls, values: Mapping[str, Any], count: int) -> Attributed:
        """Of a column for each name: true or 1, false, 0 or -1. DataError for anything else, or of another length."""
        columns = list[Tensor]()
        for name, column in values.items():
            held = torch.as_tensor(column).double()
            if held.shape != (count,) or not set(held.tolist()) <= {-1, 0, 1}:
                raise DataError(f"the attribute {name!r} is a 1 or 0 for each of {count:,} images")
            columns.append(torch.where(held > 0, 1, -1).to(torch.int8))
        return cls(tuple(values), torch.stack(columns, dim=1) if columns else torch.zeros(count, 0, dtype=torch.int8))

    def take(self, indices: Tensor) -> Attributed:
        """Those of these images."""
        return replace(self, values=self.values[indices])

    def row(self, i: int) -> tuple[int, ...]:
        """Those of one image."""
        return tuple(self.values[i].tolist())

    def carded(self, card: DataCard) -> DataCard:
        """The card of the images with how many have each attribute, and a fingerprint of both."""
        counts = dict(zip(self.names, (self.values == 1).sum(0).tolist(), strict=True))
        open_ = int((self.values == 0).sum())
        notes = card.notes if not open_ else (*card.notes, f"{OPEN} of {open_:,} of {self.values.numel():,}")
        both = hashlib.sha256(f"{card.fingerprint} {self.digest}".encode()).hexdigest()
        return replace(card, attributes=counts, notes=notes, fingerprint=both)

    @property
    def digest(self) -> str:
        """SHA-256 of names and numbers."""
        return hashlib.sha256(repr(self.names).encode() + self.values.contiguous().numpy().tobytes()).hexdigest()


def told(how: str, root: Path, pictures: Sequence[str]) -> Attributed:
    """The attributes of each picture, by a table in the folder (or from here).

    Args:
        how: `FILE.csv` (file_name and a column of 1 and 0 for each attribute), `FILE.jsonl` (file_name and attributes:
            a list of those that are present, or an object of true and false), or `FILE.txt` in CelebA's form.
        pictures: names, relative to the folder.

    Raises:
        DataError: no such table, or a row of it that is none; pictures without a row, or the other way round.
    """
    path = root / how if (root / how).is_file() else Path(how)
    names, rows = table(path, len(pictures))
    refuse([name for name in pictures if name not in rows], f"images in {root} have no attributes in {path}")
    refuse(sorted(set(rows) - set(pictures)), f"file names in {path} are no images in {root}")
    return filled(names, [rows[name] for name in pictures])


def filled(names: tuple[str, ...], rows: Sequence[tuple[int, ...]]) -> Attributed:
    """The attributes of images by their rows."""
    return Attributed(names, torch.tensor(rows, dtype=torch.int8).view(len(rows), len(names)))


def chosen(found: Attributed, words: str, what: str) -> Attributed:
    """Only the attributes that are named with commas between; `all` are all. DataError for an unknown one."""
    if words == "all":
        return found
    names = words.split(",")
    if missing := [name for name in names if name not in found.names]:
        raise DataError(f"{unknown('attribute', missing[0], found.names)} (of {what})")
    places = [found.names.index(name) for name in names]
    return Attributed(tuple(names), found.values[:, places])


def table(path: Path, pictures: int) -> tuple[tuple[str, ...], Rows]:
    """The names of a table, and what its rows say. DataError with the file and the row."""
    content = content_of(path, LENGTH + ROW * pictures)
    kind = path.suffix.lower()
    if kind == ".csv":
        return _named(path, csv_rows(path, content), _of_cells)
    if kind == ".jsonl":
        return _named(path, json_rows(path, content), _of_json)
    return _celeba(path, content)


def _named(path: Path, rows: Iterable[tuple[str, dict[str, Any]]], read: Any) -> tuple[tuple[str, ...], Rows]:
    """Rows with a file name; lists, which name what is present, say of all other names of the table that it is not."""
    names, found, others = dict[str, None](), dict[str, Mapping[str, int]](), dict[str, int]()
    for where, row in rows:
        name = row.get(FILE)
        if not isinstance(name, str) or not name.strip():
            raise DataError(f"{where}: every row has a {FILE}, and the first row of a CSV file names the columns")
        key = PurePosixPath(name.strip()).as_posix()
        if key in found:
            raise DataError(f"{where}: {key} has attributes already")
        found[key], others[key] = read(where, row)
        names |= dict.fromkeys(found[key])
    if not names:
        raise DataError(f"{path} names no attribute")
    return tuple(names), {key: tuple(row.get(n, others[key]) for n in names) for key, row in found.items()}


def _of_cells(where: str, row: dict[str, Any]) -> tuple[Mapping[str, int], int]:
    """The cells of a CSV row, and what others are."""
    cells = {name: value for name, value in row.items() if name not in (FILE, "text", "label")}
    if None in cells:
        raise DataError(f"{where}: more cells than the first row names")
    for name, value in cells.items():
        if not isinstance(value, str) or value.strip().lower() not in WORDS:
            raise DataError(
                f"{where}: {name} is 1 or 0 (or -1), or empty where it is not known, not {str(value)[:40]!r}"
            )
    return {name.strip(): WORDS[value.strip().lower()] for name, value in cells.items()}, 0


def _of_json(where: str, row: dict[str, Any]) -> tuple[Mapping[str, int], int]:
    """A list of what is present, beside which the others are not; or an object, beside which they are not known."""
    held = row.get(LIST)
    if isinstance(held, list) and all(isinstance(name, str) for name in held):
        return dict.fromkeys(held, 1), -1
    if isinstance(held, dict) and all(value in (0, 1) for value in held.values()):
        return {str(name): 1 if value else -1 for name, value in held.items()}, 0
    raise DataError(f"{where}: {LIST} is a list of those that are present, or an object of true and false")


def _celeba(path: Path, content: bytes) -> tuple[tuple[str, ...], Rows]:
    """CelebA's list: how many rows, the names, and in each row a file name with 1 or -1 for each of them."""
    try:
        lines = [line.split() for line in content.decode("ascii").splitlines() if line.strip()]
    except UnicodeDecodeError:
        raise DataError(f"{path} is damaged: it is no text in ASCII") from None
    if len(lines) < 2 or len(lines[0]) != 1 or not lines[0][0].isdigit():
        raise DataError(f"{path} is no list of attributes: how many, their names, then a file name with 1 and -1")
    names, found = tuple(lines[1]), Rows()
    for number, row in enumerate(lines[2:], 3):
        if len(row) != 1 + len(names) or not set(row[1:]) <= {"1", "-1", "0"}:
            raise DataError(
                f"{path}, row {number}: a file name and 1 or -1 for each of {len(names)} names are expected"
            )
        found[row[0]] = tuple(map(int, row[1:]))
    if len(found) != int(lines[0][0]):
        raise DataError(f"{path} is damaged: it says {lines[0][0]} rows and has {len(found):,}")
    return names, found
