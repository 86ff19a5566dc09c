"""LSUN (Yu et al. 2015) as it is downloaded: an LMDB of encoded pictures for each category, by the package lmdb."""

from __future__ import annotations

import hashlib
import importlib
import os
from functools import lru_cache
from pathlib import Path
from typing import Any

from sfumato.data.places import placed
from sfumato.data.reading import Record, Shelf
from sfumato.data.spec import DataError, Spec

SPLITS = ("train", "val")

DATA = "data.mdb"

PICTURE = 2**24
"""Bytes of the largest picture."""


def shelf(spec: Spec) -> Shelf:
    """The pictures of `lsun:CATEGORY` (church_outdoor, bedroom, cat ...) or `lsun:FOLDER`, in colour, without labels.

    They lie in an order that is random already: that of their keys, which are hashes.

    Raises:
        DataError: not here, which says what to get; damaged; lmdb is not installed.
    """
    split = spec.options.get("split", SPLITS[0])
    if split not in SPLITS or not spec.rest:
        raise DataError(f"{spec.text!r}: write lsun:CATEGORY, such as lsun:church_outdoor, with ?split=train or val")
    own = spec.rest if "/" in spec.rest or (Path(spec.rest) / DATA).is_file() else ""
    name = f"{spec.rest}_{split}_lmdb"
    names = () if own else (name, f"lsun/{name}", *((spec.rest, f"lsun/{spec.rest}") if split == "train" else ()))
    place = placed(
        spec, own, names, lambda path: (path / DATA).is_file(),
        f"get {'CATEGORY' if own else spec.rest}_{split}_lmdb.zip (or CATEGORY.zip of objects) from "
        "https://github.com/fyu/lsun, unpack it, and put the folder into $SFUMATO_DATA/lsun, or name it as lsun:FOLDER",
    )  # fmt: skip
    environment, keys = _opened(place)

    def record(i: int) -> Record:
        with environment.begin() as transaction:
            content = transaction.get(keys[i]) or b""
        return Record(content if len(content) <= PICTURE else b"", None, None, keys[i].decode("ascii", "replace"))

    spec = spec._replace(options={"channels": "3"} | spec.options)
    return Shelf.of_rows(spec, str(place), len(keys), record, hashlib.sha256(b"\n".join(keys)).hexdigest())


def _lmdb() -> Any:
    try:
        return importlib.import_module("lmdb")
    except ImportError:
        raise DataError("lsun needs the package lmdb: pip install 'sfumato[lsun]'") from None


def _opened(folder: Path) -> tuple[Any, list[bytes]]:
    """The database, for reading alone, and all its keys."""
    lmdb, path = _lmdb(), folder / DATA
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    return _once(lmdb, folder.resolve(), (status.st_ino, status.st_size, status.st_mtime_ns))


@lru_cache(maxsize=64)
def _once(lmdb: Any, folder: Path, _: tuple[int, ...]) -> tuple[Any, list[bytes]]:
    """The same, once for each database: a process may not open one twice."""
    try:
        environment = lmdb.open(
            str(folder), readonly=True, lock=False, readahead=False, meminit=False, create=False, max_readers=64
        )
        pages, size = environment.info()["last_pgno"] + 1, (folder / DATA).stat().st_size
        if pages * environment.stat()["psize"] > size:  # to read beyond its end would end the process
            raise DataError(f"{folder / DATA} is damaged: it has {size:,} bytes, and {pages:,} pages were written")
        with environment.begin() as transaction, transaction.cursor() as cursor:
            keys = list(cursor.iternext(keys=True, values=False))
    except lmdb.Error as error:
        raise DataError(f"{folder} is damaged: {error}") from None
    except OSError as error:
        raise DataError(f"{folder} cannot be read: {error.strerror or error}") from None
    if not keys:
        raise DataError(f"{folder} holds no pictures")
    return environment, keys
