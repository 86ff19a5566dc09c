"""The numbers of a command's options: each has a range beside its type, and one function checks them all.

A field says its range in its annotation: `n: Annotated[int, Range(1, MANY)]`; ranges of their own have names here.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, get_type_hints

from sfumato.fields import Range as Range
from sfumato.fields import range_of, shown


class UsageError(ValueError):
    """Something the user typed."""


MANY = 100_000_000
"""Pictures, at most, and whatever is counted in pictures."""

Count = Annotated[int, Range(1, MANY)]
Moves = Annotated[int, Range(1, 1_000_000)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Processes = Annotated[int, Range(1, 512)]
Sigma = Annotated[float, Range(0, 1e6, above=True)]
Scale = Annotated[float, Range(-10_000, 10_000)]


def whole_number(text: str, option: str, most: int = 1_000_000) -> int:
    """The number in a text that could be a word as well. UsageError unless it is a whole one from 1 to `most`."""
    if not (text.isascii() and text.isdecimal() and len(text) < 16 and 1 <= int(text) <= most):
        raise UsageError(f"{option} is a number from 1 to {most:,}, or a word that its help names, not {text!r}")
    return int(text)


def checked(parsed: Any) -> None:
    """UsageError for the first number of a command's options, a dataclass, that lies outside its range.

    A number without a range is finite.
    """
    hints = get_type_hints(type(parsed), include_extras=True)
    for field in fields(parsed):
        value = getattr(parsed, field.name)
        allowed = range_of(hints[field.name]) or Range()
        for number in value if isinstance(value, tuple) else (value,):
            if isinstance(number, int | float) and not isinstance(number, bool) and number not in allowed:
                name = "-n" if field.name == "n" else f"--{field.name.replace('_', '-')}"
                raise UsageError(f"{name} is {allowed}, not {shown(number)}")
