"""Any source turned once into what training reads fastest: a memory map, or tar shards; interrupted, it goes on.

Everything is written into OUT.partial, whose journal says how far it is, and which becomes OUT when it is whole.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data import maps, shards
from sfumato.data.card import make_card
from sfumato.data.decoding import Unreadable, opened
from sfumato.data.images import Images
from sfumato.data.loader import levels_of
from sfumato.data.partial import JOURNAL, begun, clear, complete
from sfumato.data.pictures import write_text
from sfumato.data.reading import Reader, Record, Shelf
from sfumato.data.sources import CHOOSING, SHELVES, open_source, parse_spec
from sfumato.data.spec import DataError, UnfitError, of_path
from sfumato.data.upright import Met
from sfumato.runtime.opening import read_bounded
from sfumato.shapes import kind

STRIDE = 1024
"""Images between two entries in the journal of a memory map, at most."""

TOGETHER = 2**28
"""Bytes of the pictures that are read at a time."""

Rows = list[tuple[Tensor, Record]]


def open_shelf(text: str) -> Shelf:
    """Any source, to be read block by block; those that cannot are in memory as a whole."""
    spec = parse_spec(text)
    if odd := next((option for option in ("attributes", "buckets") if option in spec.options), None):
        raise DataError(f"{text}: {odd} are not prepared; read the set from where it is")
    if spec.name in SHELVES and ("classes" not in spec.options or spec.name in CHOOSING):
        return SHELVES[spec.name](spec).limited()
    images = open_source(text)
    if images.noise is not None:
        raise DataError(f"{text} is a memory map already, of pictures and their noise; there is nothing to prepare")
    if images.inputs is not None:
        raise DataError(f"{text} holds pairs, which are read from where they are: prepare each side by itself")
    if len(images.shape) != 3:
        raise DataError(f"{text} holds {kind(images.shape)}, and images are prepared: an npz or npy is read as it is")
    if images.are_points:
        raise DataError(f"{text} holds points, not pictures; there is nothing to prepare")
    card = images.card
    rows = Shelf.of_rows(
        spec, text, len(images), lambda i: Record(*images[i]), card.fingerprint, images.classes, card.licence,
        card.own_notes,
    )  # fmt: skip
    return replace(rows, values=card.values)


def prepare(
    source: str, out: Path, *, shard: int | None = None, progress: Callable[[int, int], object] | None = None
) -> Images | str:
    """Write a source as a memory map, which is returned, read back; or as tar shards, whose spec is returned.

    Args:
        shard: images in a shard, in a shuffled order; a memory map, in the source's order, where None.
        progress: called with how many records are done, those of an earlier run included, and how many there are.

    Raises:
        DataError: bad source, of which nothing is kept where it cannot be prepared as it is; `out` is there already,
            or OUT.partial holds the beginning of something else, or is being written by another process.
        OSError: disk full, no permission; what is done is kept, and the same call goes on.
    """
    if os.path.lexists(out):  # a link that leads nowhere, too
        raise DataError(f"{out} exists; choose another folder, or remove it first")
    if shard is not None:
        shards.webdataset()  # that it is there is found out before any work
    shelf = open_shelf(source) if shard is None else open_shelf(source).shuffled()
    with begun(out.with_name(out.name + ".partial")) as partial:
        journal = _taken_up(partial, {"source": source, "shard": shard, "fingerprint": shelf.fingerprint}, len(shelf))
        try:
            _go_on(partial, journal, shelf, progress or (lambda done, total: None))
        except DataError as error:
            if not journal["rows"] or isinstance(error, UnfitError):
                clear(partial)
            raise
        finish = _finish_map if shard is None else _finish_shards
        return finish(partial, journal, shelf, out)


def _go_on(partial: Path, journal: dict[str, Any], shelf: Shelf, tell: Callable[[int, int], object]) -> None:
    """Read and write what the journal does not have yet."""
    shard = journal["shard"]
    reader = Reader(shelf.spec, tuple(journal["shape"] or ()) or None, os.cpu_count() or 1, journal.get("levels"))
    reader.met = Met.from_json(journal["met"])
    records, write = shelf.records(journal["taken"]), _append if shard is None else _add_shard
    stride = shard or min(STRIDE, _together(reader, shelf))
    tell(journal["taken"], len(shelf))
    while part := list(islice(records, stride)):
        rows = reader(part)
        if rows:
            write(partial, journal, rows)
        journal |= {"taken": journal["taken"] + len(part), "shape": reader.shape, "met": reader.met.to_json(),
                    "levels": reader.levels}  # fmt: skip
        write_text(partial / JOURNAL, json.dumps(journal))
        tell(journal["taken"], len(shelf))
    if not journal["rows"]:
        first = f"; the first is {reader.met.corrupt[0]}" if reader.met.corrupt else ""
        raise DataError(f"none of the {len(shelf):,} images in {shelf.place} can be read{first}")


def _together(reader: Reader, shelf: Shelf) -> int:
    """How many pictures are read at a time: as many as `TOGETHER` bytes hold, by the first that can be opened."""
    if reader.shape is not None:
        return max(1, TOGETHER // math.prod(reader.shape))
    if shelf.spec.size is not None:
        return max(1, TOGETHER // (3 * math.prod(shelf.spec.size)))
    for record in islice(shelf.records(), 8):
        if isinstance(record.picture, Tensor):
            return max(1, TOGETHER // record.picture.nbytes)
        try:
            with opened(record.picture) as file:
                return max(1, TOGETHER // (3 * file.width * file.height))
        except Unreadable:
            continue
    return 8


def _taken_up(partial: Path, about: dict[str, Any], records: int) -> dict[str, Any]:
    """The journal of what was begun here, or a new one. DataError where it was something else, or is damaged."""
    path = partial / JOURNAL
    if not path.exists():
        clear(partial)  # of a run that was killed before its first entry, or after its last
        return {**about, "taken": 0, "shape": None, "met": Met().to_json(), "rows": 0, "end": 0, "shards": {}}
    try:
        journal: dict[str, Any] = json.loads(read_bounded(path, 2**30))
        if differing := [name for name, value in about.items() if journal.get(name) != value]:
            was = f"{differing[0]} was {journal.get(differing[0])}"
            raise DataError(f"{partial} holds the beginning of another set ({was}); remove it first")
        Met.from_json(journal["met"])
        _check_written(partial, journal, records)
    except (OSError, ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{partial} is damaged ({error}); remove it first") from None
    return journal


def _check_written(partial: Path, journal: dict[str, Any], records: int) -> None:
    """What the journal says is written is there. ValueError where it is not."""
    numbers = [journal[name] for name in ("taken", "rows", "end")]
    if not all(type(n) is int and n >= 0 for n in numbers) or not journal["rows"] <= journal["taken"] <= records:
        raise ValueError("its journal has counts that cannot be")
    if journal["shard"] is None and journal["rows"]:
        pixels = journal["rows"] * math.prod(journal["shape"])
        width = maps.kind_of(journal.get("levels", 256)).itemsize
        sizes = {"images.npy": maps.HEADER + pixels * width, "rows.jsonl": journal["end"]}
        short = [name for name, size in sizes.items() if (partial / name).stat().st_size < size]
    else:
        short = [name for name in journal["shards"] if not (partial / Path(name).name).is_file()]
    if short:
        raise ValueError(f"{short[0]} is missing or shorter than its journal says")


def _append(partial: Path, journal: dict[str, Any], rows: Rows) -> None:
    """More rows of a memory map, behind those that the journal knows of; whatever lies there is overwritten."""
    held = torch.stack([image for image, _ in rows])
    pixels = held.numpy().astype(maps.kind_of(levels_of(held)), copy=False)
    text = "".join(json.dumps({"label": r.label, "text": r.text, "key": r.key}) + "\n" for _, r in rows).encode()
    start = maps.HEADER + journal["rows"] * pixels[0].nbytes
    for name, offset, content in (("images.npy", start, pixels.tobytes()), ("rows.jsonl", journal["end"], text)):
        with os.fdopen(os.open(partial / name, os.O_RDWR | os.O_CREAT, 0o644), "r+b") as file:
            file.seek(offset)
            file.write(content)
            file.truncate()
            os.fsync(file.fileno())
    journal["rows"], journal["end"] = journal["rows"] + len(rows), journal["end"] + len(text)


def _add_shard(partial: Path, journal: dict[str, Any], rows: Rows) -> None:
    name = f"{len(journal['shards']):06d}.tar"
    shards.write(partial / name, rows)
    labels = [record.label for _, record in rows if record.label is not None]
    journal["shards"][name] = [len(rows), max(labels, default=None)]
    journal["rows"] += len(rows)


def _finish_map(partial: Path, journal: dict[str, Any], shelf: Shelf, out: Path) -> Images:
    shape = (journal["rows"], *journal["shape"])
    with open(partial / "images.npy", "r+b") as file:
        file.write(maps.header(shape, maps.kind_of(journal.get("levels", 256)).str))
        os.fsync(file.fileno())
    met, classes = Met.from_json(journal["met"]), shelf.classes
    labels = [json.loads(line)["label"] for line in (partial / "rows.jsonl").open()] if classes else []
    card = make_card(
        of_path("map", str(out)), torch.from_numpy(np.load(partial / "images.npy", mmap_mode="c")),
        torch.tensor(labels) if classes else None, classes, bits=met.bits, sizes=dict(met.sizes),
        corrupt=tuple(met.corrupt), licence=shelf.licence,
        notes=(f"prepared from {journal['source']}", *shelf.notes, *met.notes), values=shelf.ends,
    )  # fmt: skip
    write_text(partial / "set.json", json.dumps({"classes": classes, "card": card.to_json()}, indent=1))
    complete(partial, out)
    return open_source(of_path("map", str(out)))


def _finish_shards(partial: Path, journal: dict[str, Any], shelf: Shelf, out: Path) -> str:
    index = {
        "source": journal["source"], "classes": shelf.classes, "licence": shelf.licence, "shards": journal["shards"],
        "corrupt": journal["met"]["corrupt"],
    }  # fmt: skip
    write_text(partial / shards.INDEX, json.dumps(index))
    complete(partial, out)
    *_, last = journal["shards"]
    return of_path("wds", f"{out}/{{000000..{Path(last).stem}}}.tar" if last != "000000.tar" else f"{out}/{last}")
