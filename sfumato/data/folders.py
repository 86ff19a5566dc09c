"""A folder of picture files: sub-folders are classes, captions lie beside the pictures or in one table."""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from sfumato.data.reading import SUFFIXES, Record, Shelf
from sfumato.data.spec import DataError, Spec


def shelf(spec: Spec) -> Shelf:
    """The pictures of a folder and its sub-folders, of which the first is the class. DataError where there are none."""
    root = Path(spec.rest)
    if not root.is_dir():
        raise DataError(f"no folder {spec.rest!r} (a spec looks like folder:/path/to/images)")
    paths = sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not paths:
        raise DataError(f"{root} holds no images ({', '.join(sorted(SUFFIXES))})")
    relative = [path.relative_to(root) for path in paths]
    classes = _classes(relative)
    captions = dict(_metadata(root))

    def record(i: int) -> Record:
        label = classes.index(relative[i].parts[0]) if classes else None
        beside = paths[i].with_suffix(".txt")
        text = captions.get(str(relative[i])) or (beside.read_text().strip() if beside.is_file() else None)
        return Record(paths[i], label, text, str(relative[i]))

    names = hashlib.sha256("\n".join(map(str, relative)).encode()).hexdigest()
    return Shelf.of_rows(spec, str(root), len(paths), record, names, classes)


def _classes(relative: list[Path]) -> tuple[str, ...]:
    classes = tuple(sorted({p.parts[0] if len(p.parts) > 1 else "" for p in relative}))
    if classes == ("",):
        return ()
    if "" in classes:
        raise DataError("some images lie in sub-folders (which are classes) and some do not; move one or the other")
    return classes


def _metadata(root: Path) -> Iterator[tuple[str, str]]:
    """File names and captions of metadata.jsonl or metadata.csv (file_name, text)."""
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
