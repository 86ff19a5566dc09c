"""All hostile cases, door by door, and the fixed 150 of them that the default tests run."""

from __future__ import annotations

from collections import Counter
from functools import cache
from importlib import import_module

from tests.hostile.case import Case, rank

FAMILIES = ("words", "specs", "recipes", "checkpoints", "parted", "official", "pipelines", "images", "shards",
            "arrays", "maps", "data_specs", "downloaded", "folders", "files", "runs")
"""The files of this folder that hold cases: each has `cases()`."""

FIXED = 150
"""Cases of the default tests."""


@cache
def all_cases() -> tuple[Case, ...]:
    """Every case, in order."""
    found = [case for name in FAMILIES for case in import_module(f"tests.hostile.{name}").cases()]
    count = Counter(case.full_name for case in found)
    if twice := [name for name, number in count.items() if number > 1]:
        raise ValueError(f"two cases have one name: {twice[:5]}")
    return tuple(found)


@cache
def _by_name() -> dict[str, Case]:
    return {case.full_name: case for case in all_cases()}


def by_name(name: str) -> Case:
    """The case of a full name, KIND/NAME."""
    return _by_name()[name]


def fixed() -> list[Case]:
    """The fixed ones: of each door alike, as far as it has light ones."""
    light = sorted((case for case in all_cases() if not case.heavy), key=rank)
    turn: dict[str, int] = {}
    order = {case.full_name: (turn.setdefault(case.kind, 0), turn.update({case.kind: turn[case.kind] + 1}))[0]
             for case in light}
    chosen = {case.full_name for case in sorted(light, key=lambda case: (order[case.full_name], rank(case)))[:FIXED]}
    return [case for case in all_cases() if case.full_name in chosen]
