"""Recorded numbers of the official score-based code (NCSN, NCSNv2, score SDE), from two sources in one form.

`distilled` is song.json.gz and song.npz beside this file, in the repository; `full` is the recording that they were
drawn from, where that is at hand. The networks and their blocks have a file of their own.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden.cases import FULL as OTHERS
from tests.golden.cases import HERE, filled
from tests.golden.ledger import record

FULL = OTHERS.parents[1] / "song"
GROUPS = (
    "sde", "losses", "predictors", "correctors", "samplers", "controllable", "ode", "likelihood", "ema", "training",
    "ncsn", "ncsnv2", "dpm2015",
)  # fmt: skip
NUMBERS = 12
"""How many numbers of each row of an output are kept; of a table, eight times as many."""


@dataclass(frozen=True)
class Case:
    """One recorded case: what to do, and what the official code returned at `places` of each output.

    `largest` are the largest absolute values of each row of an output, by which errors are measured.
    """

    recipe: dict[str, Any]
    numbers: dict[str, np.ndarray]
    places: dict[str, np.ndarray | None]
    largest: dict[str, np.ndarray]

    def input(self, name: str) -> Tensor:
        """An input by its rule."""
        return draw(self.recipe["inputs"][name])

    def noises(self) -> Noises:
        """The random numbers of an algorithm, in the order in which it asks for them."""
        return Noises(self.recipe["recorded"]["draws"])


@dataclass
class Noises:
    """A `Noise` that plays back what was recorded; it may also be asked for one draw after the other."""

    draws: list[dict[str, Any]]
    used: int = field(default=0)

    def next(self) -> Tensor:
        """The next draw as it is."""
        self.used += 1
        return draw(self.draws[self.used - 1])

    def __call__(self, x: Tensor) -> Tensor:
        z = self.next()
        assert z.shape == x.shape, f"draw {self.used - 1} is {tuple(z.shape)}, asked for is {tuple(x.shape)}"
        return z

    def __iter__(self) -> Iterator[Tensor]:
        while self.used < len(self.draws):
            yield self.next()


def draw(rule: dict[str, Any]) -> Tensor:
    """Numbers that a label alone decides."""
    bits = np.random.Generator(np.random.Philox(key=zlib.crc32(rule["label"].encode())))
    kind, shape = rule.get("dist", "normal"), rule["shape"]
    if kind == "int":
        return torch.from_numpy(bits.integers(rule["low"], rule["high"], size=shape))
    array = (bits.random if kind == "uniform" else bits.standard_normal)(shape, dtype=np.float32)
    array = array * np.float32(rule.get("scale", 1)) + np.float32(rule.get("shift", 0))
    return torch.from_numpy(np.asarray(array, dtype=np.float32))


def weights(recipe: dict[str, Any]) -> dict[str, Tensor]:
    """What each official parameter of a recorded network was given; the noise levels are the constructor's."""
    model = recipe["config"]["model"]
    sigmas = torch.from_numpy(np.geomspace(model["sigma_max"], model["sigma_min"], model["num_scales"]))
    return {key: sigmas if key == "sigmas" else filled(key, shape) for key, shape in recipe["recorded"]["keys"]}


# ---------------------------------------------------------------- the two sources


def places(name: str, shape: list[int]) -> np.ndarray:
    """Which numbers of an output are kept, ascending: as many of each row."""
    bits = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    rows, width = (shape[0], int(np.prod(shape[1:]))) if len(shape) > 1 else (1, int(np.prod(shape)))
    kept = min(NUMBERS if len(shape) > 1 else 8 * NUMBERS, width)
    return np.concatenate([row * width + np.sort(bits.choice(width, kept, replace=False)) for row in range(rows)])


def full(name: str) -> Case:
    """One case of the whole recording."""
    recipe = json.loads((FULL / f"{name}.json").read_text())
    with np.load(FULL / f"{name}.npz") as file:
        arrays = {output: file[output].astype(np.float64) for output in recipe["outputs"]}
    rows = {key: array.reshape(len(array) if array.ndim > 1 else 1, -1) for key, array in arrays.items()}
    largest = {key: np.abs(row).max(1, initial=0.0) for key, row in rows.items()}
    return Case(recipe, {key: array.reshape(-1) for key, array in arrays.items()}, dict.fromkeys(arrays), largest)


@lru_cache(maxsize=1)
def distilled() -> dict[str, Case]:
    """All cases of the repository's own copy."""
    recipes = json.loads(gzip.decompress((HERE / "song.json.gz").read_bytes()))
    with np.load(HERE / "song.npz") as file:
        arrays = {key: file[key].astype(np.float64) for key in file}
    cases = {}
    for name, recipe in recipes.items():
        at, numbers, where, largest = 0, {}, {}, {}
        recipe["recorded"]["draws"] = unpacked(recipe["recorded"].get("draws", []))
        for output, about in sorted(recipe["outputs"].items()):
            where[output] = places(output, about["shape"])
            rows = about["shape"][0] if len(about["shape"]) > 1 else 1
            parts = np.split(arrays[name][at:], [len(where[output]), len(where[output]) + rows])
            numbers[output], largest[output], at = parts[0], parts[1], at + len(where[output]) + rows
        cases[name] = Case(recipe, numbers, where, largest)
    return cases


def packed(draws: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Draws without what their order says: normal ones in a row with one shape become one entry with their number."""
    short: list[dict[str, Any]] = []
    for entry in draws:
        kept = {key: value for key, value in entry.items() if key not in ("label", "call")}
        if short and {**short[-1], "times": 0} == {**kept, "times": 0}:
            short[-1]["times"] += 1
        else:
            short.append({**kept, "times": 1})
    return short


def unpacked(short: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What `packed` shortened: every kind of draw is numbered from 0."""
    numbers = {"normal": 0, "uniform": 0, "int": 0}
    draws = []
    for entry in short:
        for _ in range(entry["times"]):
            kind = entry["dist"]
            label = f"{'noise' if kind == 'normal' else kind}_{numbers[kind]}"
            numbers[kind] += 1
            draws.append({"label": label, **{key: value for key, value in entry.items() if key != "times"}})
    return draws


def distil() -> int:
    """Write song.json.gz and song.npz anew from the whole recording; returns their size in bytes."""
    recipes, arrays = {}, {}
    for group in GROUPS:
        for path in sorted((FULL / group).glob("*.json")):
            name = f"{group}/{path.stem}"
            case = full(name)
            recipe = {k: v for k, v in case.recipe.items() if k not in ("env", "commit", "source", "draw_prefix")}
            draws = recipe["recorded"].get("draws", [])
            kept = packed(draws)
            plain = [{key: value for key, value in entry.items() if key != "call"} for entry in draws]
            assert unpacked(kept) == plain, name
            recipe["recorded"] = {**recipe["recorded"], "draws": kept}
            parts = []
            for output, about in sorted(recipe["outputs"].items()):
                parts += [case.numbers[output][places(output, about["shape"])], case.largest[output]]
            flat = np.concatenate(parts)
            single = flat.astype(np.float32)
            arrays[name] = single if np.array_equal(single.astype(np.float64), flat, equal_nan=True) else flat
            recipes[name] = recipe
    text = json.dumps(recipes, separators=(",", ":")).encode()
    (HERE / "song.json.gz").write_bytes(gzip.compress(text, 9, mtime=0))
    np.savez_compressed(HERE / "song.npz", **arrays)  # type: ignore[arg-type]
    print(f"{len(recipes)} cases, {sum(len(a) for a in arrays.values()):,} numbers")
    return sum((HERE / name).stat().st_size for name in ("song.json.gz", "song.npz"))


def sources(*kinds: str, group: str = "") -> list[Any]:
    """pytest parameters (source, name): every case of these kinds, whole where the recording is at hand.

    Where it is not, the distilled copy stands for it; that it is a copy, `tests/core/test_golden_copies.py` sees.
    """
    source = "full" if FULL.is_dir() else "distilled"
    names = [name for name, case in distilled().items() if case.recipe["kind"] in kinds and name.startswith(group)]
    return [pytest.param(source, name, id=f"{name}-{source}") for name in names]


def load(source: str, name: str) -> Case:
    """A case from either source."""
    return distilled()[name] if source == "distilled" else full(name)


def compare(case: Case, name: str, ours: Tensor | np.ndarray, tolerance: float = 1e-5) -> None:
    """Assert that each row of an output agrees to a tolerance, relative to the row's largest number."""
    about = case.recipe["outputs"][name]
    array = np.asarray(ours.detach() if isinstance(ours, Tensor) else ours, dtype=np.float64)
    assert list(array.shape) == about["shape"], f"{name}: {list(array.shape)} instead of {about['shape']}"
    where, expected, largest = case.places[name], case.numbers[name], case.largest[name]
    flat = array.reshape(-1) if where is None else array.reshape(-1)[where]
    exact = "int" in about["dtype"]
    scale = np.repeat(largest, len(flat) // len(largest))
    error = np.abs(flat - expected)
    relative = np.divide(error, scale, out=np.where(error > 0, np.inf, 0.0), where=scale > 0)
    worst = float(relative.max(initial=0.0))
    record(f"song {case.recipe['group']}", case.recipe["name"], worst, worst / tolerance)
    assert worst <= (0 if exact else tolerance), f"{case.recipe['name']} {name} is off by {worst:.3g} of its largest"
