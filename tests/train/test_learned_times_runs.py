"""Runs whose density of times is learned: resumed bit for bit, kept with the model, and a grid to sample along."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato import papers
from sfumato.conditioning import Labels
from sfumato.core.diffusion import Diffusion
from sfumato.core.learned_times import LearnedTimes, learned_levels
from sfumato.models import Model, load_model
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.runtime.checkpoint import CheckpointError
from sfumato.train.loop import train
from tests.train import toy

OPTIONS: dict[str, Any] = {"images": 320, "batch": 4, "preview_every": 0.49, "preview_images": 1}
SMALL = DDPM(
    (1, 8, 8), HoUNet(channels=32, multipliers=(1,), blocks=1, attention=(), dropout=0.0), Labels(3), steps=50,
    betas="cosine", prediction="v", times="learned",
)  # fmt: skip


@dataclass(frozen=True)
class Learned(toy.Toy):
    """The toy with learned times."""

    def build(self) -> Diffusion:
        built = super().build()
        return replace(built, times=learned_levels(built.gaussian.schedule, 100))


def test_a_run_is_its_two_halves(tmp_path: Path) -> None:
    pending = [signal.SIGINT]

    def interrupt(network: torch.nn.Module) -> torch.Tensor:
        if pending:
            os.kill(os.getpid(), pending.pop())
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    toy.run(tmp_path / "whole", Learned(), **OPTIONS)
    assert 0 < toy.run(tmp_path / "halves", Learned(), preview=interrupt, **OPTIONS).images < 320
    toy.run(tmp_path / "halves", Learned(), preview=interrupt, resume=True, **OPTIONS)
    assert toy.same(toy.tensors(tmp_path / "whole"), toy.tensors(tmp_path / "halves"))
    assert int(toy.tensors(tmp_path / "whole")["times/updates"]) == 80


def test_parts_of_a_batch_are_the_whole(tmp_path: Path) -> None:
    """The density takes one step a batch, and all parts of a batch are drawn by the same one."""
    plain = Learned(dropout=0.0)
    for parts in (1, 4):
        toy.run(tmp_path / str(parts), plain, images=320, batch=4, accumulate=parts)
    whole, split = (toy.tensors(tmp_path / name) for name in ("1", "4"))
    assert int(whole["times/updates"]) == int(split["times/updates"]) == 80
    names = [name for name in whole if name.startswith(("model/", "times/"))]
    assert all(torch.allclose(whole[name].double(), split[name].double(), atol=1e-3) for name in names)


def test_the_model_keeps_what_was_learned(tmp_path: Path) -> None:
    """Its grid is sampled along; the bound and other samplers are those of the same weights with even times."""
    settings = replace(toy.SMALL, images=480)
    train(SMALL, toy.images(), settings, tmp_path / "run", config={"recipe": papers.to_json(SMALL)}, quiet=True)
    model = load_model(tmp_path / "run")
    assert isinstance(model.diffusion.times, LearnedTimes)
    assert int(model.diffusion.times.updates) == 60
    learned = model.sample(2, sampler="ddim?grid=learned", steps=5)
    assert not torch.equal(learned, model.sample(2, sampler="ddim", steps=5))
    model.save(tmp_path / "copy.safetensors")
    copied = load_model(tmp_path / "copy.safetensors")
    assert torch.equal(learned, copied.sample(2, sampler="ddim?grid=learned", steps=5))
    even = replace(model, recipe=replace(SMALL, times="uniform"), times={})
    assert torch.equal(model.sample(2, steps=5), even.sample(2, steps=5))
    with pytest.raises(ValueError, match=r"trained with --recipe\.times learned"):
        even.sample(2, sampler="ancestral?grid=learned", steps=5)
    with pytest.raises(ValueError, match=r"trained with --recipe\.times learned"):
        load_model("ddpm/emoji32").sample(1, sampler="ddim?grid=learned", steps=5)


def test_a_damaged_density_is_one_line(tmp_path: Path) -> None:
    odd = Model(SMALL, SMALL.model(), ("a", "b", "c"), {"images": 1}, {"weight": torch.zeros(3)})
    odd.save(tmp_path / "odd.safetensors")
    with pytest.raises(CheckpointError, match="is damaged: these are no learned times"):
        load_model(tmp_path / "odd.safetensors")
