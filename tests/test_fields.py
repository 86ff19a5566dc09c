"""Fields of dataclasses: types and ranges in annotations, and one line for whatever is something else."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import pytest

from sfumato.fields import Length, Range, check, range_of, shown


@dataclass(frozen=True)
class Some:
    count: Annotated[int, Range(1, 9)] = 1
    share: Annotated[float, Range(0, 1, below=True)] = 0.5
    rate: Annotated[float, Range(0, 1, above=True)] | None = None
    flag: bool = False
    word: Literal["a", "b"] = "a"
    text: str = ""
    number: float = 0.0
    pair: tuple[float, float] = (0.0, 1.0)
    few: Annotated[tuple[Annotated[int, Range(1, 4)], ...], Length(1, 3)] = (1,)
    part: Range = Range()
    anything: Any = None

    def __post_init__(self) -> None:
        check(self)


def test_what_is_of_its_kind_is_taken() -> None:
    Some(9, 0, 1, True, "b", "x", -1e300, (1, 2.5), (4, 4, 4), Range(0, 1), object())


@pytest.mark.parametrize(("name", "value", "line"), [
    ("count", 0, "count is between 1 and 9, not 0"),
    ("count", 10**30, "count is between 1 and 9, not 1,000,000,000,000"),
    ("count", 2.0, "count is a whole number, not 2"),
    ("count", True, "count is a whole number, not True"),
    ("count", "2", "count is a whole number, not '2'"),
    ("count", None, "count is a whole number, not None"),
    ("share", 1, "share is at least 0 and below 1, not 1"),
    ("share", float("nan"), "share is at least 0 and below 1, not nan"),
    ("share", False, "share is a number, not False"),
    ("rate", 0.0, "rate is above 0 and at most 1, not 0"),
    ("rate", "fast", "rate is a number, not 'fast'"),
    ("flag", 1, "flag is true or false, not 1"),
    ("flag", "no", "flag is true or false, not 'no'"),
    ("word", "c", "word is one of a, b, not 'c'"),
    ("word", ["a"], "word is one of a, b, not ['a']"),
    ("text", 5, "text is a text, not 5"),
    ("number", float("inf"), "number is a finite number, not inf"),
    ("number", 10**400, "number is a finite number, not 1"),
    ("pair", (1.0,), "pair is 2 values, not (1.0,)"),
    ("pair", 1.0, "pair is several values, not 1"),
    ("few", (), "few is 1 to 3 values, not ()"),
    ("few", (1, 2, 3, 4), "few is 1 to 3 values, not (1, 2, 3, 4)"),
    ("few", (1, 5), "few is several values, each between 1 and 4, not (1, 5)"),
    ("few", (1, "2"), "few is several values, each a whole number, not (1, '2')"),
    ("few", (1,) * 200_000, "few is 1 to 3 values, not (1, 1, 1"),
    ("part", "x" * 1000, "part is a Range, not 'xxx"),
])  # fmt: skip
def test_anything_else_is_one_short_line(name: str, value: Any, line: str) -> None:
    with pytest.raises(ValueError, match=re.escape(line)) as found:
        Some(**{name: value})
    assert str(found.value).startswith(line)
    assert len(str(found.value)) < 200


def test_a_range_is_found_wherever_it_stands() -> None:
    kind = Annotated[int, Range(1, 2)]
    assert range_of(kind) == range_of(kind | None) == range_of(tuple[kind, ...]) == Range(1, 2)
    assert range_of(int) is None


def test_long_values_are_cut() -> None:
    assert shown("y" * 500).endswith("...")
    assert shown(1234567) == "1,234,567"
    assert shown(0.1) == "0.1"
    assert shown(10**5000) == "a number of thousands of digits"
