"""Answers to the programming tasks: variants of a solution, and what is said of them."""

from __future__ import annotations

from sfumato.learn.catalogue import exercise
from sfumato.learn.workshop import WORKSHOP


def changed(lesson: str, *changes: tuple[str, str]) -> str:
    """The solution with some of its text replaced, which must be there."""
    code = exercise(f"{lesson}.program").solution
    for old, new in changes:
        assert old in code, old
        code = code.replace(old, new)
    return code


def accepted(lesson: str, code: str) -> None:
    """It is right, and drawn."""
    verdict = WORKSHOP.judge(exercise(f"{lesson}.program"), code)
    assert verdict.words == "Right.", f"{verdict.words}\n{verdict.printed}"
    assert verdict.figure
    assert all(run["bytes"] for run in verdict.figure["traits"]["runs"])


def refused(lesson: str, code: str, hint: str) -> None:
    """It is wrong, and the words hold the hint, of the check rather than of Python."""
    verdict = WORKSHOP.judge(exercise(f"{lesson}.program"), code)
    assert not verdict.right
    assert hint in verdict.words, verdict.words
    assert "Error" not in verdict.words
