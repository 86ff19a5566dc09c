"""The one grammar of choices in words, `NAME?option=value&option=value`: of samplers, networks, conditionings and data.

`parse` takes a spec apart; `construct` makes the frozen dataclass that it names, its options typed by the fields.
Where a field holds a function, the class says which words stand for which: `words = {"field": {"word": function}}`.
"""

from __future__ import annotations

import math
import types
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields
from difflib import get_close_matches
from functools import cache
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")


def parse(text: str) -> tuple[str, dict[str, str]]:
    """Take a spec apart: heun?churn=40 -> ("heun", {"churn": "40"}).

    Raises:
        ValueError: an option without a value, or given twice.
    """
    name, _, query = text.partition("?")
    options: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        key, _, value = part.partition("=")
        if not key or not value:
            raise ValueError(f"in {text!r} options are written name=value, with & between them, not {part!r}")
        if key in options:
            raise ValueError(f"{key} stands twice in {text!r}")
        options[key] = value
    return name, options


def construct(table: Mapping[str, type[T]], text: str, what: str = "kind") -> T:
    """The frozen dataclass that a spec names, with its options; those that are not given keep their defaults.

    Args:
        table: name -> dataclass.
        text: whole numbers, numbers, true and false, words; lists have commas between, and none is None.
        what: the word for a name of this table, in errors: "sampler", say.

    Raises:
        ValueError: an unknown name or option, or a value that does not fit, in one line.
    """
    name, given = parse(text)
    kind: Any = table.get(name)
    if kind is None:
        raise ValueError(unknown(what, name, table))
    known = options(kind)
    values: dict[str, Any] = {}
    for key, value in given.items():
        field = key.replace("-", "_")
        if field not in known:
            listed = ", ".join(f"{option}=..." for option in known) or "none"
            raise ValueError(f"{what} {name} has no option {key!r}; its options: {listed}")
        try:
            words = _words(kind).get(field)
            values[field] = _one_of(words, value) if words else _value(known[field], value)
        except ValueError as error:
            raise ValueError(f"{key} of {what} {name} is {error}, not {value!r}") from None
    missing = [f.name for f in _fields(kind) if _needed(f) and f.name not in values]
    if missing:
        raise ValueError(f"{what} {name} needs {', '.join(f'{option}=...' for option in missing)}")
    made = kind(**values)
    finite(made, f"{what} {name}")
    return made


def finite(value: Any, what: str, most: int | None = None) -> None:
    """ValueError where a field of a frozen dataclass is nan, or infinite although its default is not.

    Args:
        what: the words for the value, in the error.
        most: the largest whole number, where they count work.
    """
    for field in _fields(value):
        number = getattr(value, field.name)
        if most is not None and isinstance(number, int) and number > most:
            raise ValueError(f"{field.name} of {what} is at most {most:,}, not {number:,}")
        if isinstance(number, float) and not math.isfinite(number):
            defaults = [vars(base).get(field.name) for base in type(value).__mro__]  # those of a base class, too
            if math.isnan(number) or not any(isinstance(d, float) and math.isinf(d) for d in defaults):
                raise ValueError(f"{field.name} of {what} is a finite number, not {number:g}")


def written(table: Mapping[str, type[T]], value: T) -> str:
    """The spec of a value, without the options that stand at their defaults: `construct` makes it again."""
    kind: Any = type(value)
    name = next(name for name, known in table.items() if kind is known)
    words, shown = _words(kind), options(kind)
    stated = {f.name: getattr(value, f.name) for f in _fields(kind) if f.name in shown}
    defaults = {f.name: f.default for f in _fields(kind)}
    changed = "&".join(f"{k}={_word(words.get(k), v)}" for k, v in stated.items() if v != defaults[k])
    return f"{name}?{changed}" if changed else name


def listed(table: Mapping[str, type[Any]]) -> str:
    """A line for each name: the name, and what it is, by the first paragraph of its docstring."""
    width = max(map(len, table))
    first = {name: (kind.__doc__ or "").partition("\n\n")[0].split() for name, kind in table.items()}
    return "\n".join(f"{name:{width}}  {' '.join(words)}" for name, words in first.items())


def unknown(what: str, name: str, known: Iterable[str]) -> str:
    """One line that says what is not known, what may have been meant, and what there is."""
    names = list(known)
    near = get_close_matches(name, names, n=1)
    hint = f"; did you mean {near[0]}?" if near else ";"
    return f"unknown {what} {name!r}{hint} known: {', '.join(names)}"


# ---------------------------------------------------------------- fields and their values


def _fields(kind: Any) -> list[Field[Any]]:
    return [field for field in fields(kind) if field.init]


def _needed(field: Field[Any]) -> bool:
    return field.default is MISSING and field.default_factory is MISSING


@cache
def options(kind: Any) -> dict[str, Any]:
    """The fields that a spec can set, with their types; functions only where the class has words for them."""
    hints, words = get_type_hints(kind), _words(kind)
    found = {field.name: hints[field.name] for field in _fields(kind)}
    return {name: hint for name, hint in found.items() if name in words or _writable(hint)}


def _words(kind: Any) -> Mapping[str, Mapping[str, Any]]:
    found: dict[str, Mapping[str, Any]] = {}
    for base in reversed(kind.__mro__):
        found |= vars(base).get("words", {})
    return found


def _writable(hint: Any) -> bool:
    """Whether values of this type can be written in words."""
    inner = [kind for kind in get_args(hint) if kind not in (type(None), ...)]
    if get_origin(hint) is Literal:
        return True
    return all(map(_writable, inner)) if inner else hint in (bool, int, float, str)


def _value(kind: Any, text: str) -> Any:
    """The text as a value of this type; ValueError says what it is instead."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind is bool:
        return _one_of({"true": True, "false": False}, text)
    if kind is str:
        return text
    if origin is Literal:
        return _one_of({str(choice): choice for choice in inner}, text)
    if origin in (Union, types.UnionType):
        return _either(inner, text)
    if origin is tuple:
        return _tuple(inner, text)
    if kind is type(None):
        return _one_of({"none": None}, text)
    if kind not in (int, float):
        raise ValueError("nothing that can be written in words")
    try:
        return kind(text)
    except ValueError:
        raise ValueError("a whole number" if kind is int else "a number") from None


def _one_of(choices: Mapping[str, Any], text: str) -> Any:
    if text not in choices:
        raise ValueError(" or ".join(choices))
    return choices[text]


def _either(kinds: tuple[Any, ...], text: str) -> Any:
    said = []
    for kind in sorted(kinds, key=lambda kind: kind is str):  # every text is a str, so that it comes last
        try:
            return _value(kind, text)
        except ValueError as error:
            said.append(str(error))
    raise ValueError(" or ".join(said))


def _tuple(kinds: tuple[Any, ...], text: str) -> tuple[Any, ...]:
    parts = [] if text == "none" else text.split(",")
    if kinds[-1:] == (...,):
        kinds = kinds[:1] * len(parts)
    if len(parts) != len(kinds):
        raise ValueError(f"{len(kinds)} values with commas between")
    return tuple(_value(kind, part) for kind, part in zip(kinds, parts, strict=True))


def _word(words: Mapping[str, Any] | None, value: Any) -> str:
    if words is None:
        return _text(value)
    return next((word for word, meant in words.items() if meant == value), getattr(value, "__name__", str(value)))


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(map(_text, value)) or "none"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return "none" if value is None else str(value)
