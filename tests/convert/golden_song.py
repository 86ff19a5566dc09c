"""The recorded outputs of the official score networks (NCSN, NCSNv2, score SDE), from two sources in one form.

`distilled` is the small file in this repository; `full` is the recording that it was drawn from, where that is at hand.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from golden_networks import TESTS, filled

DISTILLED = TESTS / "golden" / "song_networks.json.gz"
FULL = TESTS.parents[1] / "shared" / "golden" / "song"
REPO = {"ermongroup/ncsn": "ncsn", "ermongroup/ncsnv2": "ncsnv2", "yang-song/score_sde_pytorch": "score_sde"}
NUMBERS = 24
"""How many numbers of each image, or of another array, are kept."""
FORWARD, GRADIENT = 1e-4, 1e-3
"""The recording's tolerances: of an image, relative to its largest number; of a gradient, relative to its norm."""


# ---------------------------------------------------------------- the recording's rules


def draw(rule: dict[str, Any]) -> torch.Tensor:
    """An input; its label alone decides."""
    bits = np.random.Generator(np.random.Philox(key=zlib.crc32(rule["label"].encode())))
    uniform = rule.get("dist", "normal") == "uniform"
    array = (bits.random if uniform else bits.standard_normal)(rule["shape"], dtype=np.float32)
    return torch.from_numpy(array * np.float32(rule.get("scale", 1)))


def weights(shapes: dict[str, tuple[int, ...]], args: dict[str, Any]) -> dict[str, torch.Tensor]:
    """What each official parameter was given; the noise levels are the official constructor's."""
    return {key: sigmas(args["model"]) if key == "sigmas" else filled(key, shape) for key, shape in shapes.items()}


def sigmas(config: dict[str, Any]) -> torch.Tensor:
    """The noise levels of a configuration, float64 in score SDE's code and float32 in NCSNv2's."""
    if "sigma_max" in config:
        return torch.from_numpy(np.geomspace(config["sigma_max"], config["sigma_min"], config["num_scales"]))
    space = np.linspace if config["sigma_dist"] == "uniform" else np.geomspace
    return torch.from_numpy(space(config["sigma_begin"], config["sigma_end"], config["num_classes"])).float()


def digest(keys: Iterable[tuple[str, Sequence[int]]]) -> str:
    """Of [key, shape] pairs in the official order."""
    return hashlib.sha256("\n".join(f"{key} {list(shape)}" for key, shape in keys).encode()).hexdigest()


def places(name: str, shape: Sequence[int]) -> np.ndarray:
    """Which numbers of an array are kept: as many of each image."""
    bits = np.random.Generator(np.random.Philox(key=zlib.crc32(name.encode())))
    images, size = (shape[0], int(np.prod(shape[1:]))) if len(shape) > 1 else (1, shape[0])
    return np.stack([np.sort(bits.choice(size, min(NUMBERS, size), replace=False)) for _ in range(images)])


# ---------------------------------------------------------------- the two sources


def load(source: str) -> dict[str, Any]:
    """{"networks": {case: recipe}, "blocks": {case: recipe}, "layouts": {name: recipe}}.

    A recipe's outputs have `numbers`, which stand at `places(output name)` of the array, or all of it in the full
    recording, a row an image, and `largest`, one an image; `keys_sha256` is that of the official parameters.
    """
    if source == "distilled":
        return json.loads(gzip.decompress(DISTILLED.read_bytes()))
    return {
        "networks": {path.stem: _network(path) for path in sorted((FULL / "networks").glob("*.json"))},
        "blocks": {path.stem: _block(path) for path in sorted((FULL / "blocks").glob("*.json"))},
        "layouts": {
            path.name.removesuffix(".json.gz"): _layout(json.loads(gzip.decompress(path.read_bytes())))
            for path in sorted((FULL / "released_layouts").glob("*.gz"))
        },
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


def _network(path: Path) -> dict[str, Any]:
    case = json.loads(path.read_text())
    recorded = case["recorded"]
    frozen = {*recorded["buffers"], *recorded["non_trainable"]}
    assert recorded.get("param_grad_names", []) in ([], [key for key, _ in recorded["keys"] if key not in frozen])
    return {
        "layout": f"{REPO[case['source']]}/{case['class']}",
        "args": case["config"],
        "inputs": case["inputs"],
        "noise_levels": case["noise_levels"] if case.get("takes_labels", True) else [None],
        "keys_sha256": digest(recorded["keys"]),
        "frozen": sorted(frozen),
        "n_params": recorded["n_params"],
        "n_trainable": recorded["n_trainable"],
        "outputs": _outputs(path),
    }


def _block(path: Path) -> dict[str, Any]:
    case = json.loads(path.read_text())
    return {"block": case["block"], "inputs": case.get("inputs", {}), "outputs": _outputs(path)}


def _layout(layout: dict[str, Any]) -> dict[str, Any]:
    return {
        "layout": f"{REPO[layout['source']]}/{layout['model']}",
        "args": {section: layout["config"][section] for section in ("data", "model")},
        "keys_sha256": digest(layout["keys"]),
        "n_params": layout["n_params"],
        "n_trainable": layout["n_trainable"],
    }


def _outputs(path: Path) -> dict[str, Any]:
    outputs = {}
    with np.load(path.with_suffix(".npz")) as arrays:
        for name, array in arrays.items():
            rows = array.reshape(len(array) if array.ndim > 1 else 1, -1).astype(np.float64)
            largest = np.nanmax(np.abs(rows), axis=1).tolist()
            outputs[name] = {"shape": list(array.shape), "largest": largest, "numbers": rows}
    return outputs


def compare(name: str, output: dict[str, Any], ours: torch.Tensor) -> tuple[float, float]:
    """The error of our array, relative to the largest number of each image, and as a share of the tolerance.

    Images and norms are compared number by number, gradients by the norm of the difference. A recorded NaN is the
    gradient of a parameter that is not used, which ours has to be too.
    """
    shape = output["shape"]
    assert list(ours.shape) == shape, f"{name} is {list(ours.shape)}, not {shape}"
    rows = ours.detach().double().reshape(shape[0] if len(shape) > 1 else 1, -1).numpy()
    recorded = np.array(output["numbers"], dtype=np.float64)
    if recorded.shape != rows.shape:
        rows = np.take_along_axis(rows, places(name, shape), axis=1)
    assert np.array_equal(np.isnan(rows), np.isnan(recorded)), f"{name}: a parameter is used that should not be, or not"
    difference, recorded = np.nan_to_num(np.abs(rows - recorded)), np.nan_to_num(np.abs(recorded))
    largest = np.array(output["largest"])[:, None]
    relative = float((difference / largest).max())
    if name == "grad_x":
        return relative, float(np.linalg.norm(difference) / np.linalg.norm(recorded)) / GRADIENT
    if name == "param_grad_norms":  # some gradients are 0 but for rounding
        return relative, float((difference / (GRADIENT * recorded + 1e-6 * largest)).max())
    return relative, relative / FORWARD


def distil() -> None:
    """Write the distilled file anew from the full recording."""
    data = load("full")
    for recipe in [*data["networks"].values(), *data["blocks"].values()]:
        for name, output in recipe["outputs"].items():
            kept = np.take_along_axis(output["numbers"], places(name, output["shape"]), axis=1)
            output["numbers"] = [[None if np.isnan(x) else float(f"{x:.8g}") for x in row] for row in kept]
            output["largest"] = [float(f"{x:.8g}") for x in output["largest"]]
    text = json.dumps(data, separators=(",", ":"), sort_keys=True)
    DISTILLED.write_bytes(gzip.compress(text.encode(), 9, mtime=0))
