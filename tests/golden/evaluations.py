"""Recorded numbers of ADM's evaluator, from two sources in one form: inputs by rule, outputs at a few dozen places.

`distilled` is evaluations.json.gz beside this file; `full` is the recording that it was drawn from, where that is at
hand. Keys that end in `_independent_fp64` are not official, but plain float64 arithmetic on the same inputs.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden.cases import FULL, HERE, make_input, normal
from tests.golden.ledger import record

DISTILLED = HERE / "evaluations.json.gz"
KINDS = ("eval_frechet", "eval_inception_score", "eval_precision_recall")
NUMBERS = 48
"""How many numbers of an array are kept."""


@dataclass(frozen=True)
class Evaluation:
    """One recorded case: `inputs` and `calls` as the recipe has them, and numbers at places of each output."""

    recipe: dict[str, Any]
    numbers: dict[str, np.ndarray]
    places: dict[str, np.ndarray]

    def input(self, name: str) -> Tensor:
        """An input by its rule: normal, affine, mix or softmax."""
        spec = self.recipe["inputs"][name]
        z = normal(spec["label"], spec["shape"])
        if spec["rule"] == "mix":
            width = spec["shape"][1]
            z = z.astype(np.float64) @ (normal(spec["mix_label"], [width, width]).astype(np.float64) / np.sqrt(width))
            return torch.from_numpy((spec["add"] + spec["mul"] * z).astype(np.float32))
        if spec["rule"] == "softmax":
            return torch.from_numpy(spec["mul"] * z.astype(np.float64)).softmax(1).float()
        return make_input(spec)

    def compare(self, name: str, ours: Tensor | float, allowed: float | None = None) -> None:
        """Assert that an output agrees: by default within four times what float32 costs the official code."""
        expected, flat = self.numbers[name], np.asarray(ours, dtype=np.float64).reshape(-1)[self.places[name]]
        if allowed is None:
            double = self.numbers.get(f"{name}_independent_fp64")
            cost = 0.0 if double is None else float(np.abs(double - expected).max())
            allowed = 4 * cost + 2e-6 * float(np.abs(expected).max())
        error = float(np.abs(flat - expected).max())
        largest = max(1.0, float(np.abs(expected).max()))
        record(self.recipe["kind"], f"{self.recipe['case']}/{name.split('/')[0]}", error / largest, error / allowed)
        assert error <= allowed, f"{name} is off by {error:.3g} where {allowed:.3g} is allowed"


def places(name: str, size: int) -> np.ndarray:
    """Which numbers of an output are kept."""
    bits = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    return np.sort(bits.choice(size, min(NUMBERS, size), replace=False))


def full(kind: str) -> Evaluation:
    """A case of the whole recording."""
    recipe = json.loads((FULL / f"{kind}.json").read_text())
    with np.load(FULL / f"{kind}.npz") as file:
        numbers = {name: file[name].reshape(-1).astype(np.float64) for name in recipe["outputs"]}
    return Evaluation(recipe, numbers, {name: np.arange(len(values)) for name, values in numbers.items()})


def distilled(kind: str) -> Evaluation:
    """A case of the repository's own copy."""
    recipe = json.loads(gzip.decompress(DISTILLED.read_bytes()))[kind]
    numbers = {name: np.array(about["numbers"]) for name, about in recipe["outputs"].items()}
    sizes = {name: int(np.prod(about["shape"])) for name, about in recipe["outputs"].items()}
    return Evaluation(recipe, numbers, {name: places(name, size) for name, size in sizes.items()})


def distil() -> int:
    """Write evaluations.json.gz anew from the whole recording; returns its size in bytes."""
    recipes = {}
    for kind in KINDS:
        case = full(kind)
        outputs = {
            name: {
                "shape": about["shape"],
                "numbers": case.numbers[name][places(name, len(case.numbers[name]))].tolist(),
            }
            for name, about in case.recipe["outputs"].items()
        }
        recipes[kind] = {**case.recipe, "outputs": outputs}
    DISTILLED.write_bytes(gzip.compress(json.dumps(recipes, separators=(",", ":")).encode(), mtime=0))
    return DISTILLED.stat().st_size


def calls(kind: str) -> list[Any]:
    """pytest parameters (evaluation, call) of a kind from both sources; the full one is skipped where it is missing."""
    missing = pytest.mark.skipif(not FULL.is_dir(), reason="the full recording is not at hand; its distilled copy is")
    case = distilled(kind)
    found = [pytest.param(case, call, id=f"{call['out']}-distilled") for call in case.recipe["calls"]]
    whole = full(kind) if FULL.is_dir() else case
    return found + [pytest.param(whole, call, id=f"{call['out']}-full", marks=missing) for call in case.recipe["calls"]]
