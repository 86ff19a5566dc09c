"""Data sets of the package `datasets`: a folder that `save_to_disk` wrote, or what the cache of this machine holds.

Nothing is downloaded: where a name is not in the cache, the error says the command that puts it there.
"""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

from sfumato.data.reading import Record, Shelf
from sfumato.data.spec import DataError, Spec


def shelf(spec: Spec) -> Shelf:
    """The rows of `hf:FOLDER` or `hf:NAME`, with ?split=train, ?image=COLUMN and ?label=COLUMN where that must be said.

    Raises:
        DataError: the extra `hf` is not installed, nothing is there, or there is no column of images.
    """
    table = _table(spec)
    features = table.features
    images = [name for name, kind in features.items() if type(kind).__name__ == "Image"]
    named = [name for name, kind in features.items() if type(kind).__name__ == "ClassLabel"]
    image = spec.options.get("image") or (images[0] if images else "")
    label = spec.options.get("label") or (named[0] if named else "")
    for word, column, known in (("image", image, images), ("label", label, named)):
        if column and column not in known:
            raise DataError(f"{spec.rest} has no {word} column {column!r}; it has {', '.join(known) or 'none'}")
    if not image:
        raise DataError(f"{spec.rest} has no column of images; it has {', '.join(features)}")
    text = next((name for name in ("text", "caption") if name in features), "")
    table = table.cast_column(image, _datasets().Image(decode=False))

    classes = tuple(features[label].names) if label else ()

    def record(i: int) -> Record:
        row = table[i]
        number = row[label] if label else None
        if label and (number is None or not 0 <= number < len(classes)):
            raise DataError(f"{spec.rest}: row {i:,} has no class ({label} is {number}); choose other rows, or ?label=")
        return Record(_picture(row[image]), number, str(row[text]) if text else None, f"{i:09d}")

    fingerprint = f"{table._fingerprint}-{len(table)}"
    return Shelf.of_rows(spec, spec.rest, len(table), record, fingerprint, classes, table.info.license or "")


def _datasets() -> Any:
    try:
        return importlib.import_module("datasets")
    except ImportError:
        raise DataError("hf: needs the package datasets: pip install 'sfumato[hf]'") from None


def _table(spec: Spec) -> Any:
    """The rows of the split."""
    datasets, split = _datasets(), spec.options.get("split")
    if "://" in spec.rest or not spec.rest:
        raise DataError(f"{spec.rest!r} is not on this machine, and nothing downloads (a spec looks like hf:FOLDER)")
    try:
        if Path(spec.rest).is_dir() and any(Path(spec.rest).glob("*.json")):
            found = datasets.load_from_disk(spec.rest)
        else:
            offline = datasets.DownloadConfig(local_files_only=True)
            os.environ["HF_HUB_OFFLINE"], datasets.config.HF_HUB_OFFLINE = "1", True
            found = datasets.load_dataset(spec.rest, download_config=offline)
    except Exception as error:  # the package raises many kinds, and none says what to type
        raise DataError(
            f"{spec.rest!r} is neither a folder of datasets nor in its cache; get it with: "
            f"python -c \"import datasets; datasets.load_dataset('{spec.rest}')\" ({_first_line(error)})"
        ) from None
    if isinstance(found, datasets.DatasetDict):
        split = split or ("train" if "train" in found else next(iter(found)))
        if split not in found:
            raise DataError(f"{spec.rest} has no split {split!r}; it has {', '.join(found)}")
        return found[split]
    return found


def _first_line(error: Exception) -> str:
    return str(error).split("\n")[0]


def _picture(cell: dict[str, Any] | None) -> bytes | Path:
    """The file of a cell, as it is stored: its bytes, or where it lies; no bytes where there is none."""
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        return b""
    return cell["bytes"] if cell["bytes"] is not None else Path(cell["path"])
