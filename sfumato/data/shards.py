"""Tar shards as WebDataset lays them out: KEY.png (or .jpg, ...), KEY.cls with the class number, KEY.txt with a text.

How many images each shard holds stands in shards.json beside them, as `prepare` writes it, or is counted at opening.
Shards are files that this module opens itself; the package webdataset, which runs names that begin with `pipe:` in a
shell and fetches others, is given none of them: it writes shards, into memory.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from sfumato.data import braces, pictures
from sfumato.data.decoding import SUFFIXES, Slice
from sfumato.data.folders import is_junk
from sfumato.data.reading import Record, Shelf
from sfumato.data.room import check_labels
from sfumato.data.spec import DataError, Spec
from sfumato.data.tars import Member, members
from sfumato.runtime.opening import open_regular, read_bounded

INDEX = "shards.json"

MOST = 2**18
"""Shards of a set."""

TEXTS = 2**26
"""Bytes of all captions of a shard."""

NAME = re.compile(r"((?:.*/|)[^.]+)[.]([^/]*)", re.DOTALL)
"""KEY.END, as WebDataset splits names: at the first dot of the last part."""


def shelf(spec: Spec) -> Shelf:
    """The shards that `wds:/path/{000..099}.tar` names, a block each; braces expand as in the shell.

    Raises:
        DataError: a shard is missing, damaged, or not on this machine; names that cannot be meant.
    """
    paths = _paths(spec)
    if missing := next((path for path in paths if not os.path.exists(path)), None) or (None if paths else Path()):
        raise DataError(f"no shard {missing} (a spec looks like wds:/shards/{{000..099}}.tar)")
    index = _index(paths[0].parent)
    surveyed = {path: index["shards"].get(path.name) or list(survey(path)) for path in paths}
    labels = [largest for _, largest in surveyed.values() if largest is not None]
    check_labels(spec.rest, max(labels, default=0), min(labels, default=0))
    classes = tuple(index["classes"]) or tuple(map(str, range(max(labels) + 1))) if labels else ()
    digest = hashlib.sha256(json.dumps([[p.name, p.stat().st_size, *surveyed[p]] for p in paths]).encode()).hexdigest()
    sizes = tuple(count for count, _ in surveyed.values())
    if not any(sizes):
        raise DataError(f"{paths[0]} holds no images ({', '.join(sorted(SUFFIXES))})")

    def block(i: int) -> list[Record]:
        found = read(paths[i])
        if len(found) != sizes[i] or any(r.label is None or r.label >= len(classes) for r in found if classes):
            raise DataError(f"{paths[i]} does not hold the {sizes[i]:,} images, each with its class, that were counted")
        return found

    return Shelf(spec, spec.rest, sizes, block, digest, classes, index["licence"])


def _paths(spec: Spec) -> list[Path]:
    """The files that a spec names."""
    if remote := re.search(r"(?:^|::)\s*(?:pipe:|(?!file:)\w+://)", spec.rest):
        what = "would run a command" if "pipe:" in remote[0] else "is not on this machine"
        raise DataError(f"{spec.rest!r} {what}; nothing downloads: copy or mount the shards first")
    names = spec.rest.split("::") if spec.rest else []
    try:
        found = [name for part in names for name in braces.expanded(part.removeprefix("file:"), MOST)]
    except ValueError as error:
        raise DataError(f"{spec.name}:{spec.rest[:60]} stands for {error}") from None
    return list(dict.fromkeys(map(Path, found)))


def webdataset() -> Any:
    """The package that writes shards. DataError where it is not installed."""
    try:
        return importlib.import_module("webdataset")
    except ImportError:
        raise DataError("writing shards needs the package webdataset: pip install 'sfumato[wds]'") from None


def read(path: Path) -> list[Record]:
    """The images of a shard, which are read from it when they are needed. DataError where it is damaged."""
    return list(_records(path, texts=True))


def survey(path: Path) -> tuple[int, int | None]:
    """How many images a shard holds, and their largest class number: only names and labels are read."""
    count, largest = 0, None
    for record in _records(path, texts=False):
        count += 1
        largest = record.label if largest is None else max(largest, record.label or 0)
    return count, largest


def _records(path: Path, texts: bool) -> Iterator[Record]:
    left = TEXTS
    try:
        with open_regular(path) as file:
            for key, parts in list(_samples(members(file, path), path)):
                picture = next((m for end, m in parts.items() if f".{end.rpartition('.')[2]}" in SUFFIXES), None)
                if picture is not None:
                    number = _content(file, path, parts.get("cls"), 64)
                    text = _content(file, path, parts.get("txt"), left) if texts else None
                    left -= len(text or "")
                    yield Record(
                        Slice(path, picture.offset, picture.size), _label(path, f"{key}.cls", number), text, key
                    )
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None


def _content(file: IO[bytes], path: Path, member: Member | None, most: int) -> str | None:
    """The text of a file in a shard. DataError where it is none, or too long."""
    if member is None:
        return None
    if member.size > most:
        raise DataError(f"{path}: {member.name!r} of {member.size:,} bytes is longer than such a text can be")
    file.seek(member.offset)
    try:
        return file.read(member.size).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path}: {member.name!r} is not in UTF-8") from None


def _label(path: Path, name: str, text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"\s*-?[0-9]{1,18}\s*", text):
        raise DataError(f"{path}: {name!r} is no class number: {text!r}")
    check_labels(f"{path}: {name!r}", int(text), int(text))
    return int(text)


def _samples(found: Iterator[Member], path: Path) -> Iterator[tuple[str, dict[str, Member]]]:
    """Files that follow each other and share a key, by their ends in small letters."""
    key, parts = "", dict[str, Member]()
    for member in found:
        split = NAME.fullmatch(member.name)
        if split is None or any(is_junk(part) for part in member.name.split("/") if part not in (".", "..")):
            continue
        if split[1] != key:
            if parts:
                yield key, parts
            key, parts = split[1], {}
        if split[2].lower() in parts:
            raise DataError(f"{path} is damaged: it holds {member.name!r} twice")
        parts[split[2].lower()] = member
    if parts:
        yield key, parts


def _index(folder: Path) -> dict[str, Any]:
    """What shards.json says: shards, each with its number of images and its largest label, classes and licence."""
    path, empty = folder / INDEX, {"shards": {}, "classes": [], "licence": ""}
    if not path.exists():
        return empty
    try:
        found = empty | json.loads(read_bounded(path, 2**28))
        rows = list(found["shards"].values())
        good = (
            all(isinstance(n, int) and n >= 0 and (m is None or isinstance(m, int)) for n, m in rows)
            and isinstance(found["licence"], str)
            and all(isinstance(name, str) for name in found["classes"])
        )
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        good = False
    if not good:
        raise DataError(f"{path} is damaged; without it, shards are counted anew")
    return found


def write(path: Path, rows: Iterable[tuple[Tensor, Record]]) -> None:
    """A shard of PNG files, with labels and captions; complete or absent, and the same bytes each time."""
    rows = list(rows)
    if rows and len(rows[0][0]) > 4:
        raise DataError(f"{path}: shards hold files of at most 4 channels, not {len(rows[0][0])}; prepare a map")
    if rows and (deep := rows[0][0].dtype) != torch.uint8 and (deep.is_floating_point or len(rows[0][0]) > 1):
        kind = "real numbers" if deep.is_floating_point else "16-bit pictures of several channels"
        raise DataError(f"{path}: shards hold no {kind}; prepare a map (without --shard), or with ?bits=8")
    buffer, written = io.BytesIO(), set[str]()
    with webdataset().TarWriter(buffer, encoder=False, mtime=0) as tar:
        for pixels, record in rows:
            key = record.key.replace(".", "_")
            while key in written:
                key += "_"
            written.add(key)
            sample = {"__key__": key, "png": pictures.png_bytes(pixels)}
            if record.label is not None:
                sample["cls"] = str(record.label).encode()
            if record.text:
                sample["txt"] = record.text.encode()
            tar.write(sample)
    pictures.write_bytes(path, buffer.getvalue())
