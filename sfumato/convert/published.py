"""The published configurations, to which the weights of an official file are compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sfumato.papers.presets import PUBLISHED


def alike(paper: str, same: Callable[[Any], bool], said: str) -> str | None:
    """The published configuration of a paper with the same network; among equals, the one whose words the path has."""
    names = [name for name, row in PUBLISHED.items() if name.split("/")[0] == paper and same(row.recipe)]
    return max(names, key=lambda name: sum(word in said for word in name.split("/")[1].split("-")), default=None)


def recipe(name: str) -> Any:
    """The recipe of a published configuration."""
    return PUBLISHED[name].recipe


def words(path: Path) -> str:
    """The last parts of a path, in small letters."""
    return "/".join(path.parts[-3:]).lower()


def sources(name: str | None, values: Mapping[str, Any], asked: Mapping[str, Any], other: list[str]) -> str:
    """Where each choice comes from: "as asked: size 16; as published for ddpm/cifar10: steps 1000"."""
    parts = {"as asked": list(asked), f"as published for {name}" if name else "assumed": other}
    listed = {source: ", ".join(f"{key} {_shown(values[key])}" for key in keys) for source, keys in parts.items()}
    return "; ".join(f"{source}: {text}" for source, text in listed.items() if text)


def _shown(value: Any) -> str:
    return f"{value:g}" if type(value) is float else str(value)
