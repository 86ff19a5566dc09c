"""What a learner has typed and chosen, one small JSON file a lesson beside the progress file: it lasts over a refresh
and a restart; a damaged file is set aside.
"""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

from sfumato.data import pictures
from sfumato.learn import progress

LONGEST = 2**16
"""Characters of one entry."""
_lock = threading.Lock()


def location(lesson: str) -> Path:
    """The file of a lesson."""
    base = progress.location()
    return base.with_name(f"{base.stem}-answers") / f"{lesson}.json"


def get(lesson: str, kind: str, name: str) -> Any:
    """What is kept of a lesson under a kind (code, guesses, quiz, tries) and a name; None where nothing is."""
    return _kind(progress.read(location(lesson)), kind).get(name)


def put(lesson: str, kind: str, name: str, value: str | int | None) -> None:
    """Keep it; None forgets it. ValueError where it is too long, OSError where the file cannot be written."""
    if isinstance(value, str) and len(value) > LONGEST:
        raise ValueError(f"an answer has at most {LONGEST} characters")
    with _lock:
        path = location(lesson)
        whole = progress.read(path)
        entries = {**_kind(whole, kind), name: value}
        if value is None:
            del entries[name]
        path.parent.mkdir(parents=True, exist_ok=True)
        pictures.write_text(path, json.dumps({**whole, kind: entries}, indent=1))


def _kind(whole: dict[str, Any], kind: str) -> dict[str, Any]:
    found = whole.get(kind)
    return found if isinstance(found, dict) else {}
