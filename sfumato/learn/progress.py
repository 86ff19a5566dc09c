"""What a learner has solved, as one small JSON file: exercise key -> when, and with which version of its check."""

from __future__ import annotations

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


def solved() -> dict[str, Any]:
    """Everything solved so far; empty where nothing is, or where the file is damaged (it is then left alone)."""
    try:
        found = json.loads(location().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def record(key: str, version: int) -> None:
    """Note that an exercise is solved. OSError where the file cannot be written."""
    path = location()
    if path.exists() and not solved() and path.read_text(encoding="utf-8").strip() not in ("", "{}"):
        path.rename(path.with_suffix(".damaged"))  # nothing is lost
    path.parent.mkdir(parents=True, exist_ok=True)
    done = {**solved(), key: {"version": version, "at": time.strftime("%Y-%m-%d %H:%M")}}
    pictures.write_text(path, json.dumps(done, indent=1))
