"""Recipes in the JSON text of a checkpoint that is otherwise whole, each with one hostile value somewhere."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.hostile import materials as m
from tests.hostile.case import EITHER, REFUSE, Case, short, some
from tests.hostile.words import finite

NAN = float("nan")
VALUES: list[Any] = [None, "", "nonsense", -1, 0, 10**9, 10**18, 2**70, 1.5, -0.5, NAN, float("inf"), True, [], {},
                     [1, [2, [3]]], "1",
                     {"kind": "nonsense"}, {"kind": "ddpm-unet", "channels": 10**7}, [10**7] * 3, [1] * 200_000,
                     "x" * 100_000,
                     [None], {"__class__": "os.system"}, "\x1b[31mred"]
WILD = {short(value) for value in VALUES if value in (10**9, 10**18, 2**70, "x" * 100_000) or isinstance(value, dict)
        or (isinstance(value, list) and len(value) > 100) or (isinstance(value, str) and value and value != "1")
        or value != value}
"""Values that no field of a recipe can have."""

MODELS = ("ddpm", "iddpm", "adm", "ncsn", "ncsnv2", "VE", "VP", "dpm", "classifier")


def save(file: Path, about: dict[str, Any], tensors: dict[str, Any] | None = None, model: str = "linear") -> None:
    """A checkpoint whose sums and sizes are right, whatever it says of itself."""
    from sfumato.runtime import checkpoint

    checkpoint.save(file, m.tensors_of(model) if tensors is None else tensors, about)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where a hostile value can stand in a JSON value, from the outside in."""
    if path:
        yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, part in inner:
        yield from places(part, (*path, key))


def put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    """The same JSON value with another at this place."""
    made = copy.deepcopy(value)
    inner = made
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = new
    return made


def _verb(model: str, i: int) -> list[str]:
    sample = ["sample", "model.safetensors", "-n", "2", "--steps", "2", "--out", "out"]
    return ["inspect", "model.safetensors", "--no-measure"] if i % 3 == 0 or model == "classifier" else sample


def _case(model: str, path: tuple[Any, ...], value: Any, i: int) -> Case:
    def build(folder: Path) -> list[str]:
        save(folder / "model.safetensors", put(m.about_of(model), path, value), model=model)
        return _verb(model, i)

    recipe = path[:1] == ("recipe",)
    return Case("recipes", f"{model} {'.'.join(map(str, path))} = {short(value)}", build,
                REFUSE if recipe and short(value) in WILD else EITHER, finite)


def _removed(model: str, path: tuple[Any, ...]) -> Case:
    def build(folder: Path) -> list[str]:
        about = put(m.about_of(model), path, None)
        inner = about
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        save(folder / "model.safetensors", about, model=model)
        return _verb(model, 1)

    return Case("recipes", f"{model} without {'.'.join(map(str, path))}", build, EITHER, finite)


def _keys() -> Iterator[Case]:
    """Names of fields that no recipe has."""
    for key in ("__class__", "__init__", "shape ", "", "sampler", "x" * 50_000, "\x1b[31m", "paper.x"):
        for path in (("recipe",), ("recipe", "network")):
            def build(folder: Path, key: str = key, path: tuple[str, ...] = path) -> list[str]:
                about = copy.deepcopy(m.about_of("linear"))
                inner = about
                for name in path:
                    inner = inner[name]
                inner[key] = 1
                save(folder / "model.safetensors", about)
                return _verb("linear", 1)

            yield Case("recipes", f"further field {short(key)} of {'.'.join(path)}", build)


def cases() -> Iterator[Case]:
    for model in MODELS:
        about = m.about_of(model)
        where = [path for path in places(about) if path[0] != "train"]
        made = [_case(model, path, value, i + j) for i, path in enumerate(where) for j, value in enumerate(VALUES)]
        yield from some(made, 42 if model in ("ddpm", "adm", "VE") else 28)
        yield from some((_removed(model, path) for path in where if isinstance(path[-1], str)), 5)
    yield from _keys()
