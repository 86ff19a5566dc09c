"""The grammar of choices in words: what a spec makes, that it can be written back, and the line for each mistake."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest

from sfumato.spec import construct, parse, unknown, written


def stir(n: int) -> int:
    return n


def fold(n: int) -> int:
    return 2 * n


@dataclass(frozen=True)
class Oil:
    order: ClassVar[int] = 2
    layers: int = 1
    gloss: float = 0.5
    glaze: bool = False
    ground: Literal["chalk", "lead"] = "chalk"
    widths: tuple[int, ...] = (1, 2)
    betas: tuple[float, float] = (0.9, 0.99)
    end: float | None = None
    name: str = "umber"
    made: Any = None
    mix: Callable[[int], int] = stir
    words: ClassVar[dict[str, Any]] = {"mix": {"stir": stir, "fold": fold}}

    def __post_init__(self) -> None:
        if self.layers < 1:
            raise ValueError("a picture has a layer at least")


@dataclass(frozen=True)
class Chalk:
    side: int


TABLE: dict[str, type] = {"oil": Oil, "chalk": Chalk}


@pytest.mark.parametrize(
    ("text", "found"),
    [("oil", ("oil", {})), ("oil?a=1&b=x=y", ("oil", {"a": "1", "b": "x=y"})), ("folder:/a&b?size=2",
     ("folder:/a&b", {"size": "2"})), ("oil?", ("oil", {})), ("", ("", {}))],
)  # fmt: skip
def test_a_spec_is_taken_apart(text: str, found: tuple[str, dict[str, str]]) -> None:
    assert parse(text) == found


@pytest.mark.parametrize("text", ["oil?gloss", "oil?gloss=", "oil?=2", "oil?a=1&a=2"])
def test_options_are_names_with_values_once(text: str) -> None:
    with pytest.raises(ValueError, match=r"^[^\n]*'oil\?[^\n]*$"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("oil", Oil()),
        ("oil?layers=3&gloss=1e-2&glaze=true", Oil(3, 0.01, True)),
        ("oil?ground=lead&widths=1,2,2&betas=0.5,1", Oil(ground="lead", widths=(1, 2, 2), betas=(0.5, 1.0))),
        ("oil?end=0.25&name=lake&widths=none", Oil(end=0.25, name="lake", widths=())),
        ("oil?end=none", Oil()),
        ("oil?mix=fold", Oil(mix=fold)),
        ("chalk?side=4", Chalk(4)),
    ],
)
def test_a_spec_makes_a_value_and_a_value_its_spec(text: str, value: Any) -> None:
    assert construct(TABLE, text) == value
    assert construct(TABLE, written(TABLE, value)) == value


def test_defaults_are_not_written() -> None:
    assert written(TABLE, Oil()) == "oil"
    assert written(TABLE, Oil(gloss=0.25, glaze=True, widths=(4,))) == "oil?gloss=0.25&glaze=true&widths=4"
    assert written(TABLE, Chalk(2)) == "chalk?side=2"
    assert written(TABLE, Oil(mix=fold, made=object())) == "oil?mix=fold", "what has no words is left out"


def test_dashes_are_taken_as_on_the_command_line() -> None:
    @dataclass(frozen=True)
    class Wide:
        head_channels: int = 1

    assert construct({"wide": Wide}, "wide?head-channels=64") == Wide(64)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("oils", "unknown paint 'oils'; did you mean oil? known: oil, chalk"),
        ("pencil", "unknown paint 'pencil'; known: oil, chalk"),
        ("chalk?width=2", "paint chalk has no option 'width'; its options: side=..."),
        ("chalk", "paint chalk needs side=..."),
        ("chalk?side=four", "side of paint chalk is a whole number, not 'four'"),
        ("oil?gloss=matt", "gloss of paint oil is a number, not 'matt'"),
        ("oil?glaze=yes", "glaze of paint oil is true or false, not 'yes'"),
        ("oil?ground=zinc", "ground of paint oil is chalk or lead, not 'zinc'"),
        ("oil?betas=1", "betas of paint oil is 2 values with commas between, not '1'"),
        ("oil?widths=1,x", "widths of paint oil is a whole number, not '1,x'"),
        ("oil?end=x", "end of paint oil is a number or none, not 'x'"),
        ("oil?mix=whisk", "mix of paint oil is stir or fold, not 'whisk'"),
        ("chalk?side=4&made=x", "paint chalk has no option 'made'; its options: side=..."),
        ("oil?layers=0", "a picture has a layer at least"),
    ],
)
def test_a_mistake_is_one_clear_line(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(said)}$"):
        construct(TABLE, text, "paint")


def test_what_is_unknown_is_named_with_what_is_near() -> None:
    assert unknown("data set", "digit", ["digits", "fashion"]) == (
        "unknown data set 'digit'; did you mean digits? known: digits, fashion"
    )
