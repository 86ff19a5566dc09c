"""`sfumato train --config FILE`: what a run's config.json holds, or some of it, in JSON or TOML."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sfumato import papers
from sfumato.cli.parsing import UsageError
from sfumato.papers.presets import PRESETS, Preset, preset
from sfumato.papers.training import TrainConfig
from sfumato.runtime.json_file import parsed
from sfumato.runtime.opening import read_bounded
from sfumato.spec import unknown
from sfumato.starting import recorded

READ = ("preset", "recipe", "data", "validation", "train", "from", "out")
RECORDED = ("command", "parameters", "history")
"""What a run writes besides, which says nothing that is not there already."""
MOST = 1 << 22
"""Bytes of such a file."""


@dataclass(frozen=True)
class Configured:
    """What a file asks for, over the defaults of its preset."""

    name: str
    recipe: Any
    train: TrainConfig
    data: str
    validation: str | None = None
    out: Path | None = None
    source: str | None = None
    from_weights: str | None = None


def configured(
    path: Path, name: str | None = None, change: Callable[[TrainConfig], TrainConfig] = lambda settings: settings
) -> Configured:  # fmt: skip
    """What a file says; its preset, or the one named, gives what it leaves out.

    Args:
        change: of the preset's training numbers, before those of the file.

    Raises:
        UsageError: unknown keys, with the nearest known; values that are none; neither a preset nor a whole recipe.
        OSError: it cannot be read.
    """
    held = _read(path)
    _check_names(path, "key", held, (*READ, *RECORDED))
    said = held.get("preset", name)
    if not isinstance(said, str | None) or (name and said != name):
        raise UsageError(f"{path} is of the preset {said!r:.100}, not {name}")
    base = preset(said) if said in PRESETS or (said and "recipe" not in held) else None
    if base is None and ("recipe" not in held or "data" not in held):
        raise UsageError(f"{path} names no preset, so it holds a whole recipe and data")
    try:
        recipe = _recipe(path, held.get("recipe", {}), base)
        before = base.train if base else TrainConfig()
        start, given = change(before), held.get("train", {})
        train = _train(path, given, start)
        train = train if start == before else start.rewarmed(train, given)
    except (ValueError, TypeError) as error:
        raise error if isinstance(error, UsageError) else UsageError(f"{path}: {error}") from None
    source, weights = _source(path, held.get("from"))
    for key in ("data", "validation", "out"):
        if not isinstance(held.get(key), str | None):
            raise UsageError(f"{path}: {key} is a text, not {held[key]!r:.100}")
    data = held.get("data") or (base.data if base else "")
    out = Path(held["out"]) if held.get("out") else None
    return Configured(said or recipe_name(recipe), recipe, train, data, held.get("validation"), out, source, weights)


def recipe_name(recipe: Any) -> str:
    """The name of a recipe's paper."""
    return str(papers.to_json(recipe)["paper"])


def _read(path: Path) -> dict[str, Any]:
    text = read_bounded(path, MOST)
    if path.suffix.lower() == ".toml":
        try:
            return tomllib.loads(text.decode("utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} is no TOML: {error}") from None
    return parsed(text, str(path), UsageError)


def _check_names(path: Path, what: str, given: Any, known: Iterable[str]) -> None:
    if not isinstance(given, Mapping):
        raise UsageError(f"{path}: {what}s are names and values, not {given!r:.100}")
    names = tuple(known)
    for key in given:
        if key not in names:
            raise UsageError(f"{path}: {unknown(what, str(key), names)}")


def _recipe(path: Path, given: Any, base: Preset | None) -> Any:
    if not isinstance(given, Mapping):
        raise UsageError(f"{path}: recipe is names and values, not {given!r:.100}")
    start: dict[str, Any] = papers.to_json(base.recipe) if base else {}
    if given.get("paper", start.get("paper")) != start.get("paper"):
        start = {}
    kind = papers.PAPERS.get(str(given.get("paper", start.get("paper"))))
    if kind is None:
        raise UsageError(f"{path}: {unknown('paper', str(given.get('paper')), papers.PAPERS)}")
    _check_names(path, "option of recipe", given, ("paper", *(field.name for field in fields(kind))))
    return papers.from_json({**start, **{key: _part(path, key, v, start.get(key)) for key, v in given.items()}})


def _part(path: Path, name: str, given: Any, before: Any) -> Any:
    """A part of a recipe: over what it was where it is of the same kind."""
    if not isinstance(given, Mapping) or name not in papers.PARTS:
        return given
    start = before if isinstance(before, Mapping) and given.get("kind", before["kind"]) == before["kind"] else {}
    merged = {**start, **given}
    kind = papers.PARTS[name].get(str(merged.get("kind")))
    if kind is None:
        raise UsageError(f"{path}: {unknown(f'kind of {name}', str(merged.get('kind')), papers.PARTS[name])}")
    _check_names(path, f"option of {name}", given, ("kind", *(field.name for field in fields(kind))))
    return merged


def _train(path: Path, given: Any, start: TrainConfig) -> TrainConfig:
    _check_names(path, "training option", given, (field.name for field in fields(TrainConfig)))
    if "images" in given and "minutes" not in given:  # one's own budget replaces the preset's
        start = replace(start, minutes=None)
    return TrainConfig.from_json({**start.to_json(), **given})


def _source(path: Path, given: Any) -> tuple[str | None, str | None]:
    """The model to begin at: its name, or what a run has recorded of it."""
    if isinstance(given, Mapping):
        source, weights = given.get("source"), given.get("weights")
        if isinstance(source, str) and isinstance(weights, str | None):
            return recorded(given)
    if given is None or isinstance(given, str):
        return given, None
    raise UsageError(f"{path}: from is the name of a model, not {given!r:.100}")
