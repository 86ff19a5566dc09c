"""Exercises with their checks: a stub to fill in, facts that the answer must meet, and a solution nobody sees.

A check compares with independent facts (a closed form, a limit, a brute force), never with the library alone.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import io
import math
import threading
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.learn import progress

LIMIT = 20.0
"""Seconds that an answer may take."""
SHOWN = 2000
"""Characters of what an answer prints."""


class TooLong(BaseException):
    """An answer takes too long. No Exception, so that an answer does not catch it by accident."""


@dataclass(frozen=True)
class Exercise:
    """One exercise.

    Attributes:
        key: LESSON.NUMBER.
        title, task: in words; the task may use Markdown and mathematics.
        stub: what the learner starts from.
        solution: code that passes; hidden.
        check: raises AssertionError with a hint where the namespace that the code leaves is not right.
        version: raised when the check changes, so that an old success is not taken for a new one.
    """

    key: str
    title: str
    task: str
    stub: str
    solution: str
    check: Callable[[dict[str, Any]], None]
    version: int = 1

    def judge(self, code: str, *, keep: bool = False) -> tuple[bool, str]:
        """(solved, what to tell the learner); a success is recorded where `keep` is set.

        The code runs in this process: the server lets nobody in but who started it. It has `LIMIT` seconds, and does
        not end the server by accident; what it prints is told.
        """
        heard = io.StringIO()
        namespace: dict[str, Any] = {"torch": torch, "math": math, "print": functools.partial(print, file=heard)}
        try:
            with _limited(LIMIT):
                exec(compile(code, self._file, "exec"), namespace)
                self.check(namespace)
        except AssertionError as wrong:
            right, words = False, str(wrong) or "not yet: a check failed"
        except TooLong:
            right, words = False, f"stopped after {LIMIT:g} seconds: does a loop never end?"
        except (Exception, SystemExit) as error:
            right, words = False, self._fault(error)
        else:
            right, words = True, "Right."
        if right and keep:
            progress.record(self.key, self.version)
        printed = heard.getvalue()
        return right, words + (f"\n\nIt printed:\n{printed[:SHOWN]}" if printed else "")

    @property
    def _file(self) -> str:
        return f"<exercise {self.key}>"

    def _fault(self, error: BaseException) -> str:
        """What went wrong, and in which line of the answer."""
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == self._file]
        what = str(error)
        if isinstance(error, SyntaxError):
            lines, what = [error.lineno], error.msg
        where = f"line {lines[-1]}: " if lines else ""
        return f"{where}{type(error).__name__}{': ' * bool(what)}{what}"

    @property
    def done(self) -> bool:
        """Whether the learner has solved this version of it."""
        return progress.solved().get(self.key, {}).get("version") == self.version


def wanted(namespace: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function that the learner was to write; AssertionError where there is none, or where it returns nothing."""
    found = namespace.get(name)
    assert callable(found), f"define a function called {name}"

    @functools.wraps(found)
    def asked(*given: Any, **named: Any) -> Any:
        answer = found(*given, **named)
        assert answer is not None, f"{name} returns nothing: a function gives back what follows the word return"
        return answer

    return asked


@contextlib.contextmanager
def _limited(seconds: float) -> Iterator[None]:
    """TooLong in this thread where the context lasts longer. (A single operation of torch is waited for.)"""
    thread, over = ctypes.c_ulong(threading.get_ident()), threading.Event()

    def watch() -> None:
        pause = seconds
        while not over.wait(pause):  # again and again, should the answer catch it
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(TooLong))
            pause = 0.2

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        while watcher.is_alive():
            with contextlib.suppress(TooLong):  # one may be on its way
                over.set()
                watcher.join()
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)
