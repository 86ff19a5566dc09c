"""Whole runs of `sfumato train` on a GPU beside plain ones: resumed, and with each step as one CUDA graph."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from gpu_common import Result
from torch import Tensor

from sfumato import papers
from sfumato.data import open_source
from sfumato.papers.presets import PRESETS
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train.loop import train

BATCH = 16


def _short(recipe: Trainable, data: str, steps: int, **changes: Any) -> Callable[..., Any]:
    """A training of so many steps in float32, into the folder that it is given."""
    values = {"checkpoint_every": 1e9, "preview_images": 0, "validation_images": 0, "flip": True, **changes}
    settings = TrainConfig(images=BATCH * steps, batch=BATCH, precision="float32", **values)
    images = open_source(f"{data}?limit=256")
    return partial(train, recipe, images, settings, config={"recipe": papers.to_json(recipe)}, quiet=True)


def check_resume(preset: str, steps: int = 20, capture: bool = False) -> Result:
    """A run of so many steps beside one that went on from its half: the largest difference of any kept number.

    And beside a second run: where that differs too, it is the device that does not repeat itself.

    Args:
        capture: whether their steps are one CUDA graph.
    """
    often = {"checkpoint_every": 0.0, "keep": 10**6}
    run = _short(PRESETS[preset].recipe, PRESETS[preset].data, steps, capture=capture, **often)
    with tempfile.TemporaryDirectory() as name:
        whole, again, resumed = (Path(name) / part for part in ("whole", "again", "resumed"))
        run(whole)
        run(again)
        shutil.copytree(whole, resumed)
        for path in RunFolder.open(resumed).checkpoints():
            if int(path.stem) > BATCH * steps // 2:
                path.unlink()
        run(resumed, resume=True)
        first, second, third = (_kept(path) for path in (whole, again, resumed))
    repeated, gone_on = (max(float((first[k] - v).abs().max()) for k, v in o.items()) for o in (second, third))
    return {"ok": gone_on <= max(1e-5, 2 * repeated), "two runs differ by": repeated, "resumed differs by": gone_on}


def check_captured(preset: str, steps: int = 20, **changes: Any) -> Result:
    """A run whose steps are one CUDA graph beside plain steps: the largest difference of any kept number.

    Of numbers above 1, as a share of the largest. And beside a second plain run: the device does not repeat itself.

    Args:
        changes: of the network.
    """
    recipe: Any = PRESETS[preset].recipe
    recipe = replace(recipe, network=replace(recipe.network, **changes))
    rate = {"learning_rate": 2**-9, "warmup": 0, "decay": "constant"}  # the same in float32, in which a graph has it
    plain, captured = (_short(recipe, PRESETS[preset].data, steps, capture=way, **rate) for way in (False, True))
    with tempfile.TemporaryDirectory() as name:
        folders = [Path(name) / part for part in ("plain", "again", "captured")]
        for go, folder in zip((plain, plain, captured), folders, strict=True):
            go(folder)
        first, second, third = map(_kept, folders)
    repeated, replayed = (_apart(first, other) for other in (second, third))
    return {"ok": replayed <= max(1e-4, 3 * repeated), "two runs differ by": repeated, "captured differs by": replayed}


CAPTURED: tuple[tuple[str, dict[str, Any]], ...] = (
    ("ddpm/digits", {"dropout": 0.2}), ("iddpm/digits", {}), ("adm/digits", {}), ("ncsn/digits", {}),
    ("dpm/digits", {}), ("score_sde/digits", {}), ("edm/digits", {}), ("mp/digits", {}),
)  # fmt: skip
"""Presets whose step is captured, and what of their networks is changed: dropout must be the same in both runs."""


def _apart(one: dict[str, Tensor], other: dict[str, Tensor]) -> float:
    return max(float((other[k] - v).abs().max() / v.abs().max().clamp(min=1)) for k, v in one.items())


def _kept(run: Path) -> dict[str, Tensor]:
    saved = RunFolder.open(run).latest()
    assert saved is not None
    return {name: value.double() for name, value in saved.tensors("").items() if value.numel()}
