"""What a hostile input is: a name, the door that it comes through, how it is laid out, and what must follow.

Whatever the bytes are, a command ends in one line and exit code 2, or in exit code 0 where the input is valid.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

Build = Callable[[Path], list[str]]
"""The case's own folder, in which the command runs -> the words of the command; writes what the words name."""

Check = Callable[[Path, str], "str | None"]
"""What must hold besides where the command accepts: (its folder, its standard output) -> what is wrong, or None."""

REFUSE, ACCEPT, EITHER = "refuse", "accept", "either"

CANARY = "HACKED"
"""The file that hostile code makes where it is run."""


@dataclass(frozen=True)
class Case:
    """One input.

    Attributes:
        kind: the door.
        name: unique within its kind.
        build: lays it out.
        expect: refuse (exit code 2), accept (0), or either.
        check: what must hold besides where it is accepted.
        stays: names of files that may stay behind a refusal: what an interrupted command goes on with.
        heavy: takes seconds, so that only the slow run has it.
    """

    kind: str
    name: str
    build: Build
    expect: str = REFUSE
    check: Check | None = None
    stays: tuple[str, ...] = ()
    heavy: bool = False

    @property
    def full_name(self) -> str:
        return f"{self.kind}/{self.name}"


def rank(case: Case) -> str:
    """A stable number that has nothing to do with the order of the cases."""
    return hashlib.sha256(case.full_name.encode("utf-8", "surrogateescape")).hexdigest()


def some(cases: Iterable[Case], number: int) -> list[Case]:
    """So many of them, the same each time, in their order."""
    held = list(cases)
    chosen = {id(case) for case in sorted(held, key=rank)[:number]}
    return [case for case in held if id(case) in chosen]


def short(text: object) -> str:
    """A value as part of a case's name: printable, and not long."""
    if isinstance(text, list | str) and len(text) > 1000:  # repr of these takes its time
        text = f"{text[:16]!r} of {len(text)}"
    shown = repr(text).encode("ascii", "backslashreplace").decode()
    return shown if len(shown) <= 48 else f"{shown[:36]}...{len(shown)}"
