"""The fields of a frozen dataclass: their types, and their ranges beside them, in annotations that one function checks.

`channels: Annotated[int, Range(1, 16_384)] = 128` holds whole numbers from 1 on; whatever made the value, a file or a
command or a call, anything else is refused in one line, before it costs time or memory.
"""

from __future__ import annotations

import math
import sys
import types
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclass(frozen=True)
class Range:
    """From low to high, both included; `above` leaves low itself out, `below` high. Never nan or infinite."""

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, number: float) -> bool:
        if isinstance(number, float) and not math.isfinite(number):
            return False
        return (self.low < number if self.above else self.low <= number) and (
            number < self.high if self.below else number <= self.high
        )

    def __str__(self) -> str:
        if math.isinf(self.low):
            return FINITE
        low, high = shown(self.low), shown(self.high)
        if self.below:
            return f"{'above' if self.above else 'at least'} {low} and below {high}"
        if self.above:
            return f"above {low}" + (f" and at most {high}" if math.isfinite(self.high) else " and finite")
        return f"{low} or more" if math.isinf(self.high) else f"between {low} and {high}"


@dataclass(frozen=True)
class Length:
    """How many values a tuple holds, from `least` to `most`."""

    least: int
    most: int

    def __str__(self) -> str:
        return f"{self.least} values" if self.least == self.most else f"{self.least} to {self.most} values"


def check(value: Any) -> None:
    """Check every field of a dataclass against its annotation.

    Numbers without a range are finite; whole numbers are no booleans, and words are among those of a `Literal`. What
    an annotation says besides, such as a function, is not looked at.

    Raises:
        ValueError: for the first field that is something else, in one line: what it is called, what it can be, and
            what it is.
    """
    kind: Any = type(value)
    for name, hint in _hints_of(kind).items():
        held = getattr(value, name)
        if wrong := mismatch(hint, held):
            raise ValueError(f"{name} is {wrong}, not {shown(held)}")


def mismatch(hint: Any, value: Any) -> str:
    """What a value of this annotation is, in words, where this one is not; else nothing."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        bound = next((wrong for mark in inner[1:] if (wrong := _outside(mark, value))), "")
        wrong = mismatch(inner[0], value)
        return bound if bound and wrong in ("", FINITE) else wrong
    if origin is Literal:
        known = any(value == choice and type(value) is type(choice) for choice in inner)
        return "" if known else f"one of {', '.join(map(str, inner))}"
    if origin in (Union, types.UnionType):
        either = [mismatch(kind, value) for kind in inner]
        return " or ".join(wrong for wrong in either if wrong != "none") if all(either) else ""
    if origin is tuple:
        return _mismatch_of_tuple(inner, value)
    if hint is float:
        if not isinstance(value, int | float) or isinstance(value, bool):
            return "a number"
        return "" if abs(value) <= LARGEST else FINITE
    if hint is int:
        return "" if isinstance(value, int) and not isinstance(value, bool) else "a whole number"
    if isinstance(hint, type) and origin is None and hint is not Any:
        return "" if isinstance(value, hint) else WORDS.get(hint, f"a {hint.__name__}")
    return ""


FINITE = "a finite number"
LARGEST = sys.float_info.max
WORDS = {bool: "true or false", str: "a text", type(None): "none"}


def range_of(hint: Any) -> Range | None:
    """The range in an annotation, wherever it stands: Annotated[int, Range(1)] | None, tuple[Count, ...]."""
    if get_origin(hint) is Annotated:
        for mark in hint.__metadata__:
            if isinstance(mark, Range):
                return mark
    return next(filter(None, map(range_of, get_args(hint))), None)


def shown(value: Any) -> str:
    """A value as errors show it, in few characters."""
    try:
        if isinstance(value, int) and not isinstance(value, bool):
            text = f"{value:,}"
        else:
            text = f"{value:g}" if isinstance(value, float) else repr(value)
    except ValueError:  # Python writes no more than 4,300 digits
        return "a number of thousands of digits"
    return text if len(text) <= 100 else f"{text[:100]}..."


@cache
def _hints_of(kind: Any) -> Mapping[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind) if field.init}


def _outside(mark: object, value: Any) -> str:
    """The mark's own words, where it bounds the value and the value lies outside."""
    if isinstance(mark, Range) and isinstance(value, int | float) and value not in mark:
        return str(mark)
    if isinstance(mark, Length) and isinstance(value, tuple) and not mark.least <= len(value) <= mark.most:
        return str(mark)
    return ""


def _mismatch_of_tuple(kinds: tuple[Any, ...], value: Any) -> str:
    if not isinstance(value, tuple):
        return "several values"
    if kinds[-1:] == (...,):
        kinds = kinds[:1] * len(value)
    if len(kinds) != len(value):
        return str(Length(len(kinds), len(kinds)))
    wrong = next((wrong for kind, part in zip(kinds, value, strict=True) if (wrong := mismatch(kind, part))), "")
    return f"several values, each {wrong}" if wrong else ""
