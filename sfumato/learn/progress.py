"""What a learner has solved, as one small JSON file: exercise key -> when, and with which version of its check."""

from __future__ import annotations

import contextlib
import json
import os
import time
from pathlib import Path
from typing import Any

from sfumato.data import pictures


def location() -> Path:
    """$SFUMATO_PROGRESS, or progress.json in the user's data folder."""
    if chosen := os.environ.get("SFUMATO_PROGRESS"):
        return Path(chosen)
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "sfumato" / "progress.json"


def read(path: Path) -> dict[str, Any]:
    """A file of entries; empty where there is none. A damaged one is set aside, so that nothing of it is lost."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError:
        return {}
    except ValueError:
        found = None
    if isinstance(found, dict):
        return found
    with contextlib.suppress(OSError):
        aside = path.with_suffix(".damaged")
        while aside.exists():
            aside = aside.with_name(f"{aside.name}+")
        path.rename(aside)
    return {}


def damaged() -> list[Path]:
    """Files that were set aside."""
    base = location()
    return sorted([*base.parent.glob(f"{base.stem}.damaged*"), *base.parent.glob(f"{base.stem}-answers/*.damaged*")])


def solved() -> dict[str, Any]:
    """Everything solved so far; empty where nothing is, or where the file is damaged (it is then set aside)."""
    return {key: entry for key, entry in read(location()).items() if isinstance(entry, dict)}


def record(key: str, version: int) -> None:
    """Note that an exercise is solved. OSError where the file cannot be written."""
    path = location()
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {**solved(), key: {"version": version, "at": time.strftime("%Y-%m-%d %H:%M")}}
    pictures.write_text(path, json.dumps(done, indent=1))
