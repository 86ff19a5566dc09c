"""The numbers of a command's options: each has a range beside its type, and one function checks them all.

A field says its range in its annotation: `n: Annotated[int, Range(1, MANY)]`; ranges of their own have names here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Annotated, Any, get_args, get_origin, get_type_hints


class UsageError(ValueError):
    """Something the user typed."""


@dataclass(frozen=True)
class Range:
    """From low to high, both included; `above` leaves low itself out. Never nan or infinite."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False

    def __contains__(self, number: float) -> bool:
        return (
            math.isfinite(number)
            and (self.low < number if self.above else self.low <= number)
            and (number <= self.high)
        )

    def __str__(self) -> str:
        if math.isinf(self.low):
            return "a finite number"
        low, high = _text(self.low), _text(self.high)
        if self.above:
            return f"above {low}" + (f" and at most {high}" if math.isfinite(self.high) else " and finite")
        return f"{low} or more" if math.isinf(self.high) else f"between {low} and {high}"


MANY = 100_000_000
"""Pictures, at most, and whatever is counted in pictures."""

Count = Annotated[int, Range(1, MANY)]
Moves = Annotated[int, Range(1, 1_000_000)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Processes = Annotated[int, Range(1, 512)]
Sigma = Annotated[float, Range(0, 1e6, above=True)]
Finite = Annotated[float, Range()]


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
                raise UsageError(f"{name} is {allowed}, not {_text(number)}")


def range_of(hint: Any) -> Range | None:
    """The range in an annotation, wherever it stands: Annotated[int, Range(1)] | None, tuple[Count, ...]."""
    if get_origin(hint) is Annotated:
        for mark in hint.__metadata__:
            if isinstance(mark, Range):
                return mark
    return next(filter(None, map(range_of, get_args(hint))), None)


def _text(number: float) -> str:
    return f"{number:,}" if isinstance(number, int) else f"{number:g}"
