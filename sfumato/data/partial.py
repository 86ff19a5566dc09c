"""The folder that a prepared set is written into before it has its name: one process at a time, and nothing else in it.

What an earlier run that was killed left half written is removed when the next one begins.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sfumato.data.spec import DataError
from sfumato.runtime.flock import take

JOURNAL = "journal.json"

OURS = re.compile(r"(images|noise)\.npy|rows\.jsonl|(set|shards|journal|reflow)\.json|\d{6,}\.tar")
"""The files of a set."""

STRAY = re.compile(r"\..+\.tmp")
"""Files that were being written beside their place."""


@contextmanager
def begun(partial: Path) -> Iterator[Path]:
    """The folder, made where it is missing and held by this process, without stray files; one left empty goes again.

    Raises:
        DataError: another process holds it, or there is something of somebody else's in it.
    """
    partial.mkdir(parents=True, exist_ok=True)
    handle, held = os.open(partial, os.O_RDONLY), False
    try:
        if take(handle) is False:
            raise DataError(f"{partial} is being written by another process; wait for it, or choose another OUT")
        held = True
        for path in sorted(partial.iterdir()):
            if STRAY.fullmatch(path.name):
                path.unlink()
            elif not OURS.fullmatch(path.name):
                raise DataError(f"{partial} is needed, and holds {path.name}, which is no part of a set; move it away")
        yield partial
    finally:
        if held and partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()
        os.close(handle)


def complete(partial: Path, out: Path) -> None:
    """Give a finished folder its name, and then remove its journal: until it has its name it can be finished again."""
    os.rename(partial, out)
    (out / JOURNAL).unlink()


def clear(partial: Path) -> None:
    """Remove what was begun."""
    for path in partial.iterdir():
        path.unlink()
