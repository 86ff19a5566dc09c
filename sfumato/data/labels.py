"""Labels of a folder of pictures that its sub-folders do not say: a table of file names, or the beginning of each name.

Every picture has a label and every label a picture, or it is said how many have none and which are the first.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from sfumato.data.captions import LENGTH, ROW, content_of, csv_rows, json_rows
from sfumato.data.room import check_labels
from sfumato.data.spec import DataError

COLUMNS = ("file_name", "label")

LONGEST = 255
"""Letters of a label."""

SHOWN = 5
"""File names in a message."""


def told(how: str, root: Path, pictures: Sequence[Path]) -> list[str]:
    """The label of each picture, by a table in the folder (or from here), or by `prefix`.

    Args:
        how: `FILE.csv`, `FILE.jsonl` or `prefix`, which is all of a file's name before its first - or _.
        pictures: relative to the folder.

    Raises:
        DataError: no such table, or a row of it that is none; pictures without a label, or the other way round.
    """
    if how == "prefix":
        found = {path: re.split("[-_]", path.name, maxsplit=1) for path in pictures}
        refuse([str(path) for path, parts in found.items() if len(parts) < 2 or not parts[0]],
               "names have nothing before a - or _, which ?labels=prefix takes for the label")  # fmt: skip
        return [parts[0] for parts in found.values()]
    path = root / how if (root / how).is_file() else Path(how)
    named = _table(path, len(pictures))
    keys = [picture.as_posix() for picture in pictures]
    refuse([key for key in keys if key not in named], f"images in {root} have no label in {path}")
    refuse(sorted(set(named) - set(keys)), f"file names in {path} are no images in {root}")
    return [named[key] for key in keys]


def refuse(names: list[str], what: str) -> None:
    """DataError that counts the names and shows the first, where there are any."""
    if names:
        more = ", ..." if len(names) > SHOWN else ""
        raise DataError(f"{len(names):,} {what}: {', '.join(names[:SHOWN])}{more}")


def _table(path: Path, pictures: int) -> dict[str, str]:
    """File names and labels."""
    content = content_of(path, LENGTH + ROW * pictures)
    lines = path.suffix.lower() == ".jsonl"
    found = dict[str, str]()
    for where, row in json_rows(path, content) if lines else csv_rows(path, content, COLUMNS):
        name, label = (row.get(column) for column in COLUMNS)
        label = str(label) if type(label) is int else label
        if not isinstance(name, str) or not isinstance(label, str) or not 0 < len(label.strip()) <= LONGEST:
            raise DataError(f"{where}: every row has a {COLUMNS[0]} and a {COLUMNS[1]}, a text or a whole number")
        if None in row:
            raise DataError(
                f"{where}: more than a {COLUMNS[0]} and a {COLUMNS[1]}, and no first row that names columns"
            )
        name = PurePosixPath(name.strip()).as_posix()
        if name in found:
            raise DataError(f"{where}: {name} has a label already")
        found[name] = label.strip()
    return found


def classes_of(labels: Sequence[str], what: str) -> tuple[str, ...]:
    """The distinct labels in order, by value where all are whole numbers. DataError where there are far too many."""
    names = set(labels)
    check_labels(what, len(names) - 1 if names else 0)
    if all(re.fullmatch("[0-9]{1,18}", name) for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
