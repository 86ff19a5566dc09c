"""A step as one CUDA graph, on a GPU: what `make gpu` checks is in `test_checks`, and here what a device refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato import papers
from sfumato.conditioning import SelfConditioned
from sfumato.data import open_source
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets import PRESETS
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train.loop import train
from tests.train import toy

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
SETTINGS = TrainConfig(images=160, batch=8, preview_images=0, validation_images=0, capture=True)
DRAWS = "it draws noise on the cpu in training"
REFUSED = {
    "a mean flow": (PRESETS["mean_flow/digits"].recipe, DRAWS),
    "self-conditioning": (DDPM((1, 8, 8), PRESETS["ddpm/digits"].recipe.network, SelfConditioned()), DRAWS),
    "consistency, with the same dropout twice": (PRESETS["consistency/digits"].recipe, ""),  # in the device's words
}


@pytest.mark.parametrize(("recipe", "why"), REFUSED.values(), ids=REFUSED)
def test_a_loss_that_cannot_be_captured_is_refused_in_a_line(tmp_path: Path, recipe: Any, why: str) -> None:
    images, config = open_source("digits?limit=64"), {"recipe": papers.to_json(recipe)}
    with pytest.raises(ValueError, match=f"cannot be captured as a CUDA graph: {why}.*; leave out --train.capture$"):
        train(recipe, images, SETTINGS, tmp_path / "run", config=config, quiet=True)
    assert not (tmp_path / "run").exists()


def test_in_bf16_with_skipped_steps(tmp_path: Path) -> None:
    """Losses that are NaN at the noisiest levels: both runs leave out the same steps, and train by the others."""
    runs = {name: tmp_path / name for name in ("plain", "captured")}
    for name, out in runs.items():
        options: dict[str, Any] = {"precision": "bf16", "threads": None, "capture": name == "captured"}
        toy.run(out, toy.Toy(poison=90), **options)
    plain, captured = ([row["skipped"] for row in RunFolder.open(out).metrics("train")] for out in runs.values())
    assert plain == captured
    assert 0 < plain[-1] < 30
    assert all(value.isfinite().all() for name, value in toy.tensors(runs["captured"]).items() if "model/" in name)
