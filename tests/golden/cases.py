"""Recorded numbers of the official diffusion code, from two sources in one form, and the comparison with them.

`distilled` is openai_ddim.json.gz and .npz beside this file, in the repository; `full` is the recording that they were
drawn from, where that is at hand. A case's `outputs` hold the tolerance data, `numbers(case, name)` the numbers.
"""

from __future__ import annotations

import gzip
import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.golden.ledger import record

HERE = Path(__file__).parent
FULL = HERE.parents[2] / "shared" / "golden" / "openai_ddim" / "cases"
KINDS = (
    "schedules",
    "ddim_schedule",
    "respace",
    "diffusion",
    "loop",
    "ddim_loop",
    "likelihood",
    "ddim_loss",
    "bpd",
    "resampler",
    "train_grad",
)
"""The kinds of case that concern the core; networks have a file of their own."""
NUMBERS = 6
"""How many numbers of each batch element, or of each sixth of a table, are kept."""


@dataclass(frozen=True)
class Case:
    """One recorded case: what to do, and what the official code returned at `places` of each output."""

    recipe: dict[str, Any]
    numbers: dict[str, np.ndarray]
    places: dict[str, np.ndarray | None]


def normal(label: str, shape: list[int]) -> np.ndarray:
    """float32 standard normal numbers that the label alone decides."""
    bits = np.random.Philox(key=zlib.crc32(label.encode()))
    return np.random.Generator(bits).standard_normal(shape, dtype=np.float32)


def make_input(spec: dict[str, Any]) -> Tensor:
    """An input by its rule: normal, image8 or affine."""
    z = normal(spec["label"], spec["shape"])
    if spec["rule"] == "image8":
        q = np.clip(np.rint(np.float32(127.5) + np.float32(60) * z), 0, 255)
        z = (q / np.float32(127.5) - np.float32(1)).astype(np.float32)
    elif spec["rule"] == "affine":
        z = (np.float32(spec["add"]) + np.float32(spec["mul"]) * z).astype(np.float32)
    return torch.from_numpy(z)


def filled(key: str, shape: list[int]) -> Tensor:
    """The weight that the official parameter `key` was given."""
    z = normal(key, shape)
    if len(shape) > 1:
        return torch.from_numpy(z / np.float32(np.sqrt(np.prod(shape[1:]))))
    return torch.from_numpy(np.float32(0.1) * z if key.endswith("bias") else np.float32(1) + np.float32(0.1) * z)


def places(name: str, shape: list[int]) -> np.ndarray:
    """Which numbers of an output are kept: some of each row, the first and the last among them."""
    size = int(np.prod(shape)) if shape else 1
    rows = shape[0] if len(shape) > 1 else min(6, size)
    bits = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    chosen = [0, size - 1]
    for row in np.array_split(np.arange(size), max(1, rows)):
        chosen.extend(bits.choice(row, min(NUMBERS, len(row)), replace=False).tolist())
    return np.unique(chosen)


@lru_cache(maxsize=1)
def distilled() -> dict[str, Case]:
    """All cases of the repository's own copy."""
    recipes = json.loads(gzip.decompress((HERE / "openai_ddim.json.gz").read_bytes()))
    with np.load(HERE / "openai_ddim.npz") as file:
        arrays = dict(file)
    cases = {}
    for name, recipe in recipes.items():
        flat, at, numbers, where = arrays[name], 0, {}, {}
        for output, about in sorted(recipe["outputs"].items()):
            where[output] = places(output, about["shape"])
            numbers[output] = flat[at : at + len(where[output])]
            at += len(where[output])
        cases[name] = Case(recipe, numbers, where)
    return cases


def full(name: str) -> Case:
    """One case of the whole recording."""
    recipe = json.loads((FULL / f"{name}.json").read_text())
    with np.load(FULL / f"{name}.npz") as file:
        numbers = {output: file[output].reshape(-1).astype(np.float64) for output in recipe["outputs"]}
    return Case(recipe, numbers, dict.fromkeys(numbers))


def names(kind: str) -> list[str]:
    """The cases of a kind."""
    return [name for name, case in distilled().items() if case.recipe["kind"] == kind]


def sources(kind: str) -> list[Any]:
    """pytest parameters (source, name): every case of a kind, whole where the recording is at hand.

    Where it is not, the distilled copy stands for it; that it is a copy, `tests/core/test_golden_copies.py` sees.
    """
    source = "full" if FULL.is_dir() else "distilled"
    return [pytest.param(source, name, id=f"{name}-{source}") for name in names(kind)]


def load(source: str, name: str) -> Case:
    """A case from either source."""
    return distilled()[name] if source == "distilled" else full(name)


def compare(case: Case, name: str, ours: Tensor | np.ndarray, slack: float = 0.0) -> None:
    """Assert that an output agrees within the recording's own tolerance, and some slack where a comment says why."""
    about, expected = case.recipe["outputs"][name], case.numbers[name]
    array = np.asarray(ours.detach() if isinstance(ours, Tensor) else ours, dtype=np.float64)
    assert list(array.shape) == about["shape"], f"{name}: {list(array.shape)} instead of {about['shape']}"
    where = case.places[name]
    flat = array.reshape(-1) if where is None else array.reshape(-1)[where]
    allowed = tolerance(case, name, array.shape)
    allowed = (allowed if where is None else allowed[where]) + slack
    both_infinite = np.isinf(flat) & (flat == expected)
    error = np.where(both_infinite, 0.0, np.abs(flat - np.where(both_infinite, flat, expected)))
    largest = about.get("max_abs") or max(about.get("max_abs_per_t", [0.0])) or 1.0
    share = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
    record(case.recipe["kind"], case.recipe["case"], error.max(initial=0.0) / largest, share.max(initial=0.0))
    worst = int(np.argmax(error - allowed)) if len(error) else 0
    assert np.all(error <= allowed), (
        f"{case.recipe['case']} {name}: {flat[worst]!r} instead of {expected[worst]!r}, "
        f"off by {error[worst]:.3g} where {allowed[worst]:.3g} is allowed"
    )


def tolerance(case: Case, name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The largest allowed error of each number of an output, flat; the rules of the recording."""
    about = case.recipe["outputs"][name]
    size = int(np.prod(shape)) if shape else 1
    if "int" in about.get("dtype", "float"):
        return np.zeros(size)
    if case.recipe.get("precision") == "float64":
        return np.full(size, 1e-8 * about["max_abs"] + 1e-300)
    if "fp32_vs_fp64_diff_per_t" in about:
        pairs = zip(about["fp32_vs_fp64_diff_per_t"], about["max_abs_per_t"], strict=True)
        per_row = [4 * difference + 2e-6 * largest for difference, largest in pairs]
        return np.repeat(per_row, size // len(per_row))
    if "fp32_reorder_diff" in about:
        return np.full(size, 10 * about["fp32_reorder_diff"] + 1e-5 * max(1.0, about.get("max_abs", 1.0)))
    if "fp32_vs_fp64_diff" in about:
        return np.full(size, 4 * about["fp32_vs_fp64_diff"] + 2e-6 * about["max_abs"])
    return np.full(size, 1e-9 * max(about.get("max_abs", 1.0), 1e-300))  # float64 tables
