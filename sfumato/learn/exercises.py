"""Exercises with their checks: a stub to fill in, facts that the answer must meet, and a solution nobody sees.

A check compares with independent facts (a closed form, a limit, a brute force), never with the library alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from sfumato.learn import progress


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

        The code runs in this process: the server listens to this machine alone.
        """
        namespace: dict[str, Any] = {"torch": torch, "math": math}
        try:
            exec(compile(code, f"<exercise {self.key}>", "exec"), namespace)
            self.check(namespace)
        except AssertionError as wrong:
            return False, str(wrong) or "not yet: a check failed"
        except Exception as error:
            return False, f"{type(error).__name__}: {error}"
        if keep:
            progress.record(self.key, self.version)
        return True, "Right."

    @property
    def done(self) -> bool:
        """Whether the learner has solved this version of it."""
        return progress.solved().get(self.key, {}).get("version") == self.version


def wanted(namespace: dict[str, Any], name: str) -> Callable[..., Any]:
    """The function that the learner was to write; AssertionError where there is none."""
    found = namespace.get(name)
    assert callable(found), f"define a function called {name}"
    return found
