"""The recorded outputs of the official networks (DDPM's port, Improved DDPM, ADM), from two sources in one form.

`distilled` is the small file in this repository; `full` is the recording that it was drawn from, where that is at hand.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

TESTS = Path(__file__).resolve().parents[1]
DISTILLED = TESTS / "golden" / "networks.json.gz"
FULL = TESTS.parents[1] / "shared" / "golden" / "openai_ddim"
REPO = {
    "openai/guided-diffusion": "guided",
    "openai/improved-diffusion": "improved",
    "ermongroup/ddim": "ddim",
}
NUMBERS = 48
"""How many numbers of an array are kept."""
ROUNDED_RATE = 999 * 2**-24 / 10
"""What the last bit of a sinusoid's rate makes at t = 999; processors differ in the last bit of exp."""


# ---------------------------------------------------------------- the recording's rules


def normal(label: str, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers that the label alone decides."""
    bits = np.random.Philox(key=zlib.crc32(label.encode()))
    return torch.from_numpy(np.random.Generator(bits).standard_normal(shape, dtype=np.float32))


def filled(key: str, shape: tuple[int, ...]) -> torch.Tensor:
    """The weight that the official parameter `key` was given."""
    z = normal(key, shape)
    if len(shape) > 1:
        return z / np.float32(math.sqrt(math.prod(shape[1:])))
    return 0.1 * z if key.endswith("bias") else 1 + 0.1 * z


def sha256(lines: Any) -> str:
    """Of [key, shape] pairs, sorted."""
    return hashlib.sha256("\n".join(sorted(f"{key} {list(shape)}" for key, shape in lines)).encode()).hexdigest()


def places(label: str, size: int) -> np.ndarray:
    """Which numbers of an array of this size are kept."""
    bits = np.random.Philox(key=zlib.crc32(label.encode()))
    return np.sort(np.random.Generator(bits).choice(size, min(NUMBERS, size), replace=False))


# ---------------------------------------------------------------- the two sources


def load(source: str) -> dict[str, Any]:
    """{"networks": {case: recipe}, "layouts": {name: recipe}, "embeddings": {case: recipe}}.

    A recipe's outputs have `numbers`, which stand at `places(output name)` of the array, or all of it in the full
    recording; `params_sha256` is that of the official parameters.
    """
    if source == "distilled":
        return json.loads(gzip.decompress(DISTILLED.read_bytes()))
    cases = [json.loads(path.read_text()) for path in sorted((FULL / "cases").glob("*.json"))]
    packed = sorted((FULL / "released_layouts").glob("*.gz"))
    layouts = [json.loads(gzip.decompress(path.read_bytes())) for path in packed]
    return {
        "networks": {case["case"]: _case(case) for case in cases if case["kind"] == "network"},
        "layouts": {layout["name"]: _layout(layout) for layout in layouts},
        "embeddings": {case["case"]: _case(case) for case in cases if case["kind"] == "embedding"},
    }


def names(part: str) -> list[Any]:
    """(source, name) of everything in a part of both sources, as pytest parameters."""
    missing = pytest.mark.skipif(not FULL.is_dir(), reason=f"the full recording is not at {FULL}")
    listed = load("distilled")[part]
    return [
        pytest.param(source, name, id=f"{source}-{name}", marks=() if source == "distilled" else missing)
        for source in ("distilled", "full")
        for name in listed
    ]


def _case(case: dict[str, Any]) -> dict[str, Any]:
    kept = ("inputs", "calls", "args", "timesteps", "num_params", "filled_sha256", "filled_abs_sum")
    recipe = {key: case[key] for key in kept if key in case}
    if "class" in case:
        recipe["layout"] = f"{case['repo']}/{case['class']}"
        recipe["params_sha256"] = sha256(case["params"])
    with np.load(FULL / "cases" / f"{case['case']}.npz") as arrays:
        recipe["outputs"] = {
            name: {
                "shape": output["shape"],
                "tolerance": 10 * output.get("fp32_reorder_diff", ROUNDED_RATE) + 1e-5 * max(1.0, output["max_abs"]),
                "numbers": arrays[name].ravel().tolist(),
            }
            for name, output in case["outputs"].items()
        }
    return recipe


def _layout(layout: dict[str, Any]) -> dict[str, Any]:
    return {
        "layout": f"{REPO[layout['source']['repo']]}/{layout['constructor']}",
        "args": layout.get("constructor_args") or layout["config"],
        "num_params": layout["num_params"],
        "num_tensors": layout["num_tensors"],
        "params_sha256": sha256(layout["params"]),
    }


def difference(name: str, output: dict[str, Any], ours: torch.Tensor) -> float:
    """The largest difference between our array and the recorded numbers."""
    assert list(ours.shape) == output["shape"]
    flat = ours.detach().numpy().ravel()
    recorded = np.array(output["numbers"], dtype=np.float32)
    return float(np.abs((flat if len(recorded) == len(flat) else flat[places(name, len(flat))]) - recorded).max())


def distil() -> None:
    """Write the distilled file anew from the full recording."""
    data = load("full")
    for recipe in [*data["networks"].values(), *data["embeddings"].values()]:
        for name, output in recipe["outputs"].items():
            numbers = np.array(output["numbers"], dtype=np.float32)
            output["numbers"] = [float(f"{x:.9g}") for x in numbers[places(name, len(numbers))]]
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    DISTILLED.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
