"""Exercises with their checks: a stub to fill in, facts that the answer must meet, hints, and a solution for later.

A check compares with independent facts (a closed form, a limit, a brute force), never with the library alone. Answers
run in a process of their own (`workshop`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sfumato.learn import progress
from sfumato.learn.languages import tr

LIMIT = 20.0
"""Seconds that an answer may take."""
TRIES = 3
"""Refused answers after which the solution may be seen."""

Namespace = dict[str, Any]
"""What the code of an answer defines."""
Figure = dict[str, Any]
"""A figure as the page draws it: `figures` makes them."""


@dataclass(frozen=True)
class Exercise:
    """One exercise, or the programming task of a lesson.

    Attributes:
        key: LESSON.NUMBER, or LESSON.program.
        title, task: in words; the task may use Markdown and mathematics.
        stub: what the learner starts from.
        solution: code that passes; shown after a success or `TRIES` refusals.
        check: raises AssertionError with a hint where the namespace that the code leaves is not right.
        version: raised when the check changes, so that an old success is not taken for a new one.
        hints: in the order in which they may be asked for.
        figure: draws what the answer computes once it is right.
        seconds: that an answer may take.
    """

    key: str
    title: str
    task: str
    stub: str
    solution: str
    check: Callable[[Namespace], None]
    version: int = 1
    hints: tuple[str, ...] = ()
    figure: Callable[[Namespace], Figure] | None = None
    seconds: float = LIMIT

    @property
    def lesson(self) -> str:
        """The name of its lesson."""
        return self.key.partition(".")[0]

    @property
    def done(self) -> bool:
        """Whether the learner has solved this version of it."""
        return progress.solved().get(self.key, {}).get("version") == self.version


def wanted(namespace: Namespace, name: str) -> Callable[..., Any]:
    """The function that the learner was to write; AssertionError where there is none, or where it returns nothing."""
    found = namespace.get(name)
    assert callable(found), tr("define a function called {name}", name=name)

    @functools.wraps(found)
    def asked(*given: Any, **named: Any) -> Any:
        answer = found(*given, **named)
        assert answer is not None, tr(
            "{name} returns nothing: a function gives back what follows the word return", name=name
        )
        return answer

    return asked
