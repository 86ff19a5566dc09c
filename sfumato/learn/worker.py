"""The process in which answers run: jobs come in as lines of JSON, and what became of them goes out as lines of JSON.

Torch and the checks are imported once. Where the system can fork, every answer runs in a fork of this process, so that
it starts from a clean state and at once; elsewhere the process ends after its first answer.
"""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import select
import shutil
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, BinaryIO, TextIO, cast

import torch

from sfumato.learn import languages
from sfumato.learn.catalogue import exercise
from sfumato.learn.confine import MEMORY, confine
from sfumato.learn.exercises import Exercise
from sfumato.learn.languages import tr

SHOWN = 2000
"""Characters that are shown of what an answer prints, and of a message."""
AT_LEISURE = 2.0
"""Seconds without a job after which what is seldom needed is imported too."""
SEED = 20_260_115
"""Of every answer's random numbers, and of none that a check draws."""
FORKS = sys.platform.startswith("linux")
"""Elsewhere libraries of the system may not live through a fork."""


class Printed(io.TextIOBase):
    """Standard output of an answer: its first characters, and how many there were."""

    def __init__(self) -> None:
        self.text, self.total = "", 0

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Keep what there is room for."""
        self.text += text[: SHOWN - len(self.text)] if len(self.text) < SHOWN else ""
        self.total += len(text)
        return len(text)

    def __str__(self) -> str:
        return self.text + (f"\n... and {self.total - SHOWN:,} characters more" if self.total > SHOWN else "")


def outcome(asked: Exercise, code: str) -> dict[str, Any]:
    """What the check says of a code, in this very process: whether it is right, words, what it printed, a figure."""
    printed, file = Printed(), f"<answer {asked.key}>"
    namespace: dict[str, Any] = {"__name__": "__answer__", "torch": torch, "math": math}
    figure = None
    stream = cast(TextIO, printed)
    try:
        with contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            torch.manual_seed(SEED)
            exec(compile(code, file, "exec"), namespace)
            _as_before()
            asked.check(namespace)
            figure = asked.figure(namespace) if asked.figure else None
    except AssertionError as wrong:
        right, words = False, tr(str(wrong) or "not yet: a check failed")
    except BaseException as error:
        right, words = False, _fault(error, file)
    else:
        right, words = True, tr("Right.")
    return {"right": right, "words": words[:SHOWN], "printed": str(printed), "figure": figure}


def _as_before() -> None:
    """Undo what an answer may have set for all of torch, so that a check measures what it means to."""
    torch.set_default_dtype(torch.float32)
    torch.set_grad_enabled(True)
    torch.manual_seed(SEED)


def _fault(error: BaseException, file: str) -> str:
    """What went wrong, and in which line of the answer."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    try:
        what = str(error)
    except Exception:
        what = ""
    if isinstance(error, SyntaxError) and error.filename == file:
        lines, what = [error.lineno], error.msg
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in what):
        return _at(lines, tr("MemoryError: an answer has {size:g} GiB of memory", size=MEMORY / 2**30))
    return _at(lines, f"{type(error).__name__}{': ' * bool(what)}{what}")


def _at(lines: list[int | None], what: str) -> str:
    return tr("line {n}: {what}", n=lines[-1], what=what) if lines else what


def main() -> None:
    """Do jobs until there are no more. The pipes are moved, so that what an answer prints does not get between."""
    jobs, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", buffering=0)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    torch.set_num_threads(1)
    _tell(replies, {"ready": True})
    if FORKS and not select.select([jobs], [], [], AT_LEISURE)[0]:
        _import_more()
    for line in iter(jobs.readline, b""):
        job = json.loads(line)
        if FORKS and job["key"].endswith(".program"):
            _import_more()
        asked = exercise(job["key"])  # imports its check before the fork, once
        languages.messages(job["language"])  # and reads the catalogues
        folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
        child = os.fork() if FORKS else 0
        if not child:
            jobs.close()
            _work(asked, job, folder, replies)
        _, status = os.waitpid(child, 0)
        shutil.rmtree(folder, ignore_errors=True)
        _tell(replies, {"nonce": job["nonce"], "ended": os.waitstatus_to_exitcode(status)})


def _import_more() -> None:
    """What optimizers and loaded models import at their first use, once for all answers: it takes seconds."""
    torch.optim.Adam([torch.zeros(1, requires_grad=True)])


def _work(asked: Exercise, job: dict[str, Any], folder: Path, replies: BinaryIO) -> None:
    """One answer, after which the process ends."""
    os.chdir(folder)
    tempfile.tempdir = str(folder)
    confine(folder, job["seconds"])
    with languages.using(job["language"]):
        found = outcome(asked, job["code"])
    _tell(replies, {**found, "nonce": job["nonce"]})
    os._exit(0)


def _tell(replies: BinaryIO, message: dict[str, Any]) -> None:
    whole = memoryview(json.dumps(message).encode() + b"\n")
    while whole:
        whole = whole[replies.write(whole) :]
