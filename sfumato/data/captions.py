"""Captions of a folder of pictures: a .txt file beside a picture, or one table, metadata.jsonl or metadata.csv.

Whatever is wrong with one is said with its file and row.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sfumato.data.spec import DataError
from sfumato.runtime.opening import read_bounded

LENGTH = 2**20
"""Bytes of the longest caption file."""

ROW = 2**14
"""Bytes of a table for each picture, on average, at most."""


def beside(picture: Path) -> str | None:
    """The text in the .txt file beside a picture. DataError where it cannot be read as text."""
    path = picture.with_suffix(".txt")
    if not path.is_file():
        return None
    content = content_of(path, LENGTH)
    return _text(content, str(path)).strip()


def table(root: Path, pictures: int) -> dict[str, str]:
    """File names and captions of metadata.jsonl or metadata.csv (file_name, text), of a folder with so many pictures.

    Raises:
        DataError: with the file and the row.
    """
    for file, read in (("metadata.jsonl", json_rows), ("metadata.csv", csv_rows)):
        path = root / file
        if path.is_file():
            found = {}
            for where, row in read(path, content_of(path, LENGTH + ROW * pictures)):
                name, text = row.get("file_name"), row.get("text")
                if text is None and ("label" in row or "attributes" in row) and "text" not in row:
                    continue  # a table of labels or attributes alone
                if not isinstance(name, str) or not isinstance(text, str):
                    raise DataError(f"{where}: every row has file_name and text")
                found[name] = text
            return found
    return {}


def content_of(path: Path, most: int) -> bytes:
    """The bytes of a table. DataError where it cannot be read, or is longer."""
    try:
        return read_bounded(path, most)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _text(content: bytes, where: str) -> str:
    """UTF-8, with or without a byte order mark. DataError where it is something else."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise DataError(
            f"{where} is not in UTF-8 (byte {byte:#x}, as in Latin-1 or UTF-16); save it as UTF-8"
        ) from None


def json_rows(path: Path, content: bytes) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a JSON Lines file, each with where it stands; DataError names the one that is none."""
    for number, line in enumerate(content.split(b"\n"), 1):
        where = f"{path}, row {number}"
        if not line.strip():
            continue
        try:
            row = json.loads(_text(line, where))
        except (ValueError, RecursionError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(f"{where} is no JSON: {error}") from None
        yield where, row if isinstance(row, dict) else {}


def csv_rows(path: Path, content: bytes, columns: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a CSV file, each with where it stands; DataError names the one that cannot be read.

    Args:
        columns: what they are called where the first row, which names them otherwise, does not have these names.
    """
    try:
        text = _text(content, str(path))
    except DataError:
        for number, line in enumerate(content.split(b"\n"), 1):
            _text(line, f"{path}, row {number}")
        raise
    rows = csv.DictReader(io.StringIO(text, newline=""))
    try:
        if columns and not set(columns) <= set(rows.fieldnames or ()):
            rows = csv.DictReader(io.StringIO(text, newline=""), columns)
        for row in rows:
            yield f"{path}, row {rows.line_num}", row
    except csv.Error as error:
        raise DataError(f"{path}, row {rows.line_num}: {error}") from None
