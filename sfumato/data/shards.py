"""Tar shards as WebDataset lays them out: KEY.png (or .jpg, ...), KEY.cls with the class number, KEY.txt with a text.

How many images each shard holds stands in shards.json beside them, as `prepare` writes it, or is counted at opening.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.data import pictures
from sfumato.data.reading import SUFFIXES, Record, Shelf
from sfumato.data.spec import DataError, Spec

INDEX = "shards.json"


def shelf(spec: Spec) -> Shelf:
    """The shards that `wds:/path/{000..099}.tar` names, a block each; braces expand as in the shell.

    Raises:
        DataError: the extra `wds` is not installed; a shard is missing, damaged, or not on this machine.
    """
    urls: list[str] = list(webdataset().shardlists.expand_urls(spec.rest)) if spec.rest else []
    if remote := [url for url in urls if re.match(r"pipe:|(?!file:)\w+://", url)]:
        raise DataError(f"{remote[0]} is not on this machine, and nothing downloads; copy or mount the shards first")
    paths = [Path(url.removeprefix("file:")) for url in urls]
    if missing := [path for path in paths if not path.is_file()] or ([] if paths else [Path()]):
        raise DataError(f"no shard {missing[0]} (a spec looks like wds:/shards/{{000..099}}.tar)")
    index = _index(paths[0].parent)
    surveyed = {path: index.get("shards", {}).get(path.name) or list(survey(path)) for path in paths}
    labels = [largest for _, largest in surveyed.values() if largest is not None]
    classes = tuple(index.get("classes", ())) or tuple(map(str, range(max(labels) + 1))) if labels else ()
    digest = hashlib.sha256(json.dumps([[p.name, p.stat().st_size, *surveyed[p]] for p in paths]).encode()).hexdigest()
    sizes = tuple(count for count, _ in surveyed.values())

    def block(i: int) -> list[Record]:
        found = read(paths[i])
        if len(found) != sizes[i] or any(r.label is None or r.label >= len(classes) for r in found if classes):
            raise DataError(f"{paths[i]} does not hold the {sizes[i]:,} images, each with its class, that were counted")
        return found

    return Shelf(spec, spec.rest, sizes, block, digest, classes, index.get("licence", ""))


def webdataset() -> Any:
    """The package that reads shards. DataError where it is not installed."""
    try:
        return importlib.import_module("webdataset")
    except ImportError:
        raise DataError("wds: needs the package webdataset: pip install 'sfumato[wds]'") from None


def read(path: Path) -> list[Record]:
    """The images of a shard, as the bytes of their files. DataError where it is damaged."""
    records = []
    try:
        for sample in webdataset().WebDataset(str(path), shardshuffle=False, empty_check=False):
            picture = next((value for end, value in sample.items() if f".{end.rpartition('.')[2]}" in SUFFIXES), None)
            if picture is not None:
                text, label = sample.get("txt"), sample.get("cls")
                records.append(
                    Record(
                        picture, None if label is None else int(label), None if text is None else text.decode(),
                        sample["__key__"],
                    )
                )  # fmt: skip
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    return records


def survey(path: Path) -> tuple[int, int | None]:
    """How many images a shard holds, and their largest class number: only names and labels are read."""
    keys, labels = set(), []
    try:
        with tarfile.open(path) as file:
            for member in file:
                folder, slash, name = member.name.rpartition("/")
                key, _, end = name.partition(".")
                if f".{end.rpartition('.')[2].lower()}" in SUFFIXES:
                    keys.add(folder + slash + key)
                elif end == "cls" and (held := file.extractfile(member)) is not None:
                    labels.append(int(held.read()))
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} is damaged: {error}") from None
    return len(keys), max(labels, default=None)


def _index(folder: Path) -> dict[str, Any]:
    try:
        return json.loads((folder / INDEX).read_text())
    except FileNotFoundError:
        return {}
    except ValueError:
        raise DataError(f"{folder / INDEX} is damaged; without it, shards are counted anew") from None


def write(path: Path, rows: Iterable[tuple[Tensor, Record]]) -> None:
    """A shard of PNG files, with labels and captions; complete or absent, and the same bytes each time."""
    buffer = io.BytesIO()
    with webdataset().TarWriter(buffer, encoder=False, mtime=0) as tar:
        for pixels, record in rows:
            sample = {"__key__": record.key.replace(".", "_"), "png": pictures.png_bytes(pixels)}
            if record.label is not None:
                sample["cls"] = str(record.label).encode()
            if record.text:
                sample["txt"] = record.text.encode()
            tar.write(sample)
    pictures.write_bytes(path, buffer.getvalue())
