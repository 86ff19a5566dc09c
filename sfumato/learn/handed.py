"""Progress to hand in: what a learner has solved, with the code, signed by HMAC-SHA256 (RFC 2104) with a class's key.

A valid signature proves that whoever wrote the file had the class's key, and that nothing in it was changed since.
It does not prove who that was, since every learner of a class has the key, nor that the work is their own. That the
answers are right is proved by running them again (`judged`), and by nothing else.
"""

from __future__ import annotations

import csv
import hashlib
import hmac
import io
import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sfumato.data import pictures
from sfumato.learn import kept, progress
from sfumato.learn.catalogue import CATALOGUE
from sfumato.learn.exercises import Exercise
from sfumato.learn.workshop import WORKSHOP

SHORTEST_KEY = 16
"""Characters."""
LARGEST = 2**22
"""Bytes of a file that is read."""
LONGEST_NAME = 100


@dataclass(frozen=True)
class Handed:
    """What one file holds.

    Attributes:
        file: its name.
        learner, at: who it is said to be of, and when it was written.
        signature: valid, or why it is not.
        codes: key -> the code of each task that is said to be solved, with the present version of its check.
    """

    file: str
    learner: str = ""
    at: str = ""
    signature: str = "unreadable"
    codes: dict[str, str] | None = None


def tasks() -> list[Exercise]:
    """Everything that can be solved."""
    return [task for lesson in CATALOGUE for task in lesson.tasks]


def new_key(path: Path) -> None:
    """Write a random key for a class, readable for its owner alone. ValueError where the file is there already."""
    try:
        with path.open("x", encoding="ascii") as file:
            path.chmod(0o600)
            file.write(secrets.token_urlsafe(32) + "\n")
    except FileExistsError:
        raise ValueError(f"{path} is there already; a new key would make what was handed in with it invalid") from None


def key_of(path: Path) -> bytes:
    """The key in a file. ValueError where it is too short."""
    found = path.read_bytes().strip()
    if len(found) < SHORTEST_KEY:
        raise ValueError(f"the key in {path} has {len(found)} characters; at least {SHORTEST_KEY} are needed")
    return found


def signature(body: dict[str, Any], key: bytes) -> str:
    """HMAC-SHA256 of the body as JSON with sorted keys, in hexadecimal digits."""
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def hand_in(path: Path, learner: str, key: bytes) -> int:
    """Write what is solved, signed; returns how many tasks that are. ValueError for an empty or long name."""
    learner = learner.strip()
    if not 0 < len(learner) <= LONGEST_NAME or not learner.isprintable():
        raise ValueError(f"a name has 1 to {LONGEST_NAME} printable characters")
    done, solved = [task for task in tasks() if task.done], progress.solved()
    entries = {
        task.key: {**solved[task.key], "code": str(kept.get(task.lesson, "code", task.key) or "")} for task in done
    }
    body = {"kind": "sfumato progress 1", "learner": learner, "at": time.strftime("%Y-%m-%d %H:%M"), "tasks": entries}
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures.write_text(path, json.dumps({**body, "signature": signature(body, key)}, indent=1))
    return len(done)


def read(path: Path, key: bytes) -> Handed:
    """A file that was handed in; whatever is wrong with it is said in `signature`."""
    blank = Handed(path.name)
    try:
        if path.stat().st_size > LARGEST:
            return replace(blank, signature="too large")
        body = json.loads(path.read_text(encoding="utf-8"))
        said = str(body.pop("signature", ""))
        known = {task.key: task.version for task in tasks()}
        codes = {
            name: str(entry["code"]) for name, entry in body["tasks"].items() if known.get(name) == entry["version"]
        }
        found = replace(blank, learner=str(body["learner"])[:LONGEST_NAME], at=str(body["at"])[:20], codes=codes)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return blank
    valid = hmac.compare_digest(said.encode(), signature(body, key).encode())
    return replace(found, signature="valid" if valid else "not of this class, or changed")


def judged(handed: Handed) -> dict[str, bool]:
    """Whether each code that was handed in passes its check, run now, in a process of its own."""
    return {task.key: WORKSHOP.judge(task, handed.codes[task.key]).right for task in tasks()
            if handed.codes and task.key in handed.codes}  # fmt: skip


def table(found: Sequence[Handed], judge: bool) -> str:
    """A class as CSV, a row a file and a column a task: 1 solved, 0 refused when it was judged again, else empty."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["file", "learner", "handed in", "signature", "solved", *(task.key for task in tasks())])
    for handed in found:
        right = judged(handed) if judge else dict.fromkeys(handed.codes or (), True)
        cells = ["" if task.key not in right else int(right[task.key]) for task in tasks()]
        about = [_cell(value) for value in (handed.file, handed.learner, handed.at, handed.signature)]
        writer.writerow([*about, sum(right.values()), *cells])
    return text.getvalue()


def _cell(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return f"'{text}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else text
