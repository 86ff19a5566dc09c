"""The programming task of each lesson: 15 to 40 lines whose result is drawn, and is judged by independent facts.

The file LESSON.py holds `PROGRAM`, an exercise of the key LESSON.program.
"""

from __future__ import annotations

from importlib import import_module, util

from sfumato.learn.exercises import Exercise


def of(lesson: str) -> Exercise | None:
    """The programming task of a lesson, if it has one."""
    if util.find_spec(f"{__name__}.{lesson}") is None:
        return None
    found: Exercise = import_module(f"{__name__}.{lesson}").PROGRAM
    return found
