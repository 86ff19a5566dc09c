"""Whole runs of a toy: what they leave behind, how they end, and what they refuse."""

from __future__ import annotations

import json
import math
import resource
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.times import TrainingTimes
from sfumato.data.pictures import grid
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.runtime.folder import RunError, RunFolder
from sfumato.train.loop import train
from sfumato.train.monitoring import PATIENCE
from sfumato.train.session import Clock
from sfumato.train.state import NonFiniteError
from tests.train import toy


def pictures(network: torch.nn.Module) -> Tensor:
    """Four pictures in the grey of the first bias."""
    assert not network.training
    grey = int(network.first.bias[0].abs() * 1000)
    return torch.full((4, 1, 8, 8), grey % 256, dtype=torch.uint8)


def test_a_run_leaves_everything_behind(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    result = toy.run(out, quiet=False, preview=pictures, preview_images=4, preview_every=0.5)
    assert (result.images, result.interrupted, result.exit_code, result.skipped) == (240, False, 0, 0)
    assert result.folder == out
    assert result.main_process
    run = RunFolder.open(out)
    assert run.config()["train"]["images"] == 240
    assert run.data_card()["count"] == 90
    assert {path.name for path in (out / "samples").iterdir()} == {
        "data.png", "000000120-ema.png", "000000120-online.png", "000000240-ema.png", "000000240-online.png",
    }  # fmt: skip
    assert [path.name for path in run.checkpoints()] == ["000000240.safetensors"]
    assert sorted(path.name for path in out.iterdir()) == [
        "checkpoints", "config.json", "data_card.json", "metrics.jsonl", "samples", "snapshots",
    ]  # fmt: skip

    steps = run.metrics("train")
    assert [record["images"] for record in steps] == list(range(24, 241, 24))
    assert steps[-1]["loss"] < 0.9 * steps[0]["loss"]
    assert steps[-1]["learning_rate"] < 0.01 * toy.SMALL.learning_rate
    assert set(steps[0]["ema"]) == {"0.99", "0.9"}
    assert all(record["gradient_norm"] > 0 and record["images_per_second"] > 0 for record in steps)

    checks = run.metrics("validation")
    assert checks[-1]["images"] == 240
    assert len(checks[-1]["online"]) == len(checks[-1]["ema"]) == 8
    assert checks[-1]["on"] == "training images"
    assert sum(checks[-1]["ema"]) < sum(checks[0]["ema"])

    shown = run.metrics("preview")[-1]
    assert shown["data"]["mean"] == list(toy.images().card.mean)
    assert shown["ema"]["std"] == [0.0]

    said = capsys.readouterr().out
    assert "data     bars: 90 images" in said
    assert f"run      {out}" in said
    assert "machine  cpu, float32 (as asked)" in said
    assert "budget   240 images, 8 images a step" in said
    assert "EMA 0.99 looks back over 100 steps, too many for a run of about 30; held at 0.66667" in said
    assert "images/s" in said


def test_the_same_seed_gives_the_same_run_and_another_one_does_not(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        toy.run(tmp_path / name, seed=seed, images=40)
    a, b, c = (toy.tensors(tmp_path / name) for name in "abc")
    assert toy.same(a, b)
    assert not toy.same(a, c)


def test_parts_of_a_batch_give_the_gradient_of_the_whole(tmp_path: Path) -> None:
    for parts in (1, 4):
        toy.run(tmp_path / str(parts), toy.Toy(dropout=0.0), accumulate=parts, images=80)
    whole, parts = toy.tensors(tmp_path / "1"), toy.tensors(tmp_path / "4")
    for name, value in whole.items():
        torch.testing.assert_close(parts[name], value, rtol=1e-4, atol=1e-6)
    loss = [[r["loss"] for r in RunFolder.open(tmp_path / name).metrics("train")] for name in "14"]
    assert loss[0] == pytest.approx(loss[1], rel=1e-5)


@pytest.mark.parametrize("changes", [
    {"channels_last": True}, {"precision": "bf16"}, {"times": "random"}, {"times": "antithetic", "batch": 7},
    {"clip": 0.0}, {"validation_images": 0}, {"decay": "constant", "warmup": 0, "weight_decay": 0.1},
])  # fmt: skip
def test_other_settings(tmp_path: Path, changes: dict[str, Any]) -> None:
    result = toy.run(tmp_path / "run", images=40, **changes)
    assert result.images >= 40
    assert math.isfinite(RunFolder.open(tmp_path / "run").metrics("train")[-1]["loss"])


def test_minutes_end_on_time_with_nothing_left_to_learn(tmp_path: Path) -> None:
    result = toy.run(tmp_path / "run", images=None, minutes=0.02, validate_every=1.0)
    assert 1.2 <= result.seconds < 1.6
    steps = RunFolder.open(tmp_path / "run").metrics("train")
    assert steps[-1]["images"] == result.images
    assert steps[-1]["learning_rate"] < 0.02 * toy.SMALL.learning_rate
    assert result.images_per_second == pytest.approx(result.images / result.seconds)
    again = toy.run(tmp_path / "run", images=None, minutes=0.02, resume=True)
    assert again.images == result.images  # the minutes are over


def test_the_clock_stands_still() -> None:
    clock = Clock(100.0)
    with clock.standing():
        before = clock.away
        toy.wait_for(lambda: clock() > 100.05)
    assert clock.away - before > 0.05
    assert clock() < 100.05


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    toy.run(tmp_path / "run", images=8)
    before = toy.tensors(tmp_path / "run")
    with pytest.raises(RunError, match="holds a run already"):
        toy.run(tmp_path / "run", images=8)
    assert toy.same(before, toy.tensors(tmp_path / "run"))
    with pytest.raises(RunError, match="is not a run folder"):
        toy.run(tmp_path / "absent", resume=True)


def test_only_the_same_run_goes_on(tmp_path: Path) -> None:
    out = tmp_path / "run"
    toy.run(out, images=8)
    with pytest.raises(RunError, match="was trained with another recipe: width differ"):
        toy.run(out, toy.Toy(width=4), resume=True)
    config = RunFolder.open(out).config()
    with pytest.raises(RunError, match="was trained on other images than bars holds now"):
        train(toy.Toy(), toy.images(seed=1), toy.SMALL, out, config=config, resume=True, quiet=True)
    assert RunFolder.open(out).config() == config


def test_too_small_a_batch_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be split"):
        toy.run(tmp_path / "run", batch=2, accumulate=3)
    assert not (tmp_path / "run").exists()


def test_lasting_nan_stops_with_a_dump(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with pytest.raises(NonFiniteError, match=r"not finite 10 times in a row, the last at 72 images; details are in"):
        toy.run(out, toy.Toy(poison=0))
    (path,) = out.glob("non-finite-*.json")
    dump = json.loads(path.read_text())
    assert dump["counters"] == [72, 80]
    assert dump["step"] == PATIENCE == dump["skipped"]
    assert len(dump["t"]) == len(dump["sigma"]) == len(dump["data"]) == 8
    assert dump["loss"] == ["nan"] * 8
    assert dump["parameters"] == []
    assert "first.weight" in dump["gradients"]
    assert all(name.startswith("bar-") for name in dump["data"])


def test_a_rare_nan_is_skipped_and_counted(tmp_path: Path) -> None:
    result = toy.run(tmp_path / "run", toy.Toy(poison=98))  # three of a hundred levels
    assert 0 < result.skipped < 30
    steps = RunFolder.open(tmp_path / "run").metrics("train")
    assert steps[-1]["skipped"] == result.skipped
    assert all(math.isfinite(record["loss"]) for record in steps if record["loss"] == record["loss"])
    for name, value in toy.tensors(tmp_path / "run").items():
        assert value.isfinite().all()
        if name.endswith("/step"):
            assert value == 30 - result.skipped


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    out, wide = tmp_path / "run", toy.Toy(width=64)
    toy.run(out, wide, images=8)
    (path,) = RunFolder.open(out).checkpoints()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size - 1, hard))
    try:
        with pytest.raises(OSError, match=r"000000240\.safetensors"):
            toy.run(out, wide, resume=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [p.name for p in (out / "checkpoints").iterdir()] == [path.name]
    assert toy.run(out, wide, resume=True).images == 240


def test_a_preview_that_fails_costs_no_training(tmp_path: Path) -> None:
    def broken(network: torch.nn.Module) -> Tensor:
        raise RuntimeError("no pictures today")

    with pytest.raises(RuntimeError, match="no pictures today"):
        toy.run(tmp_path / "run", preview=broken, preview_images=1, preview_every=0.5)
    assert [path.stem for path in RunFolder.open(tmp_path / "run").checkpoints()] == ["000000120"]
    assert toy.run(tmp_path / "run", resume=True).images == 240


class Learning(TrainingTimes):
    """Times that remember the loss at each level."""

    learns = True

    def __init__(self) -> None:
        self.seen = torch.zeros(101)

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        return (u * 100).long() + 1, torch.ones_like(u)

    def update(self, t: Tensor, loss: Tensor) -> None:
        self.seen[t.long()] += loss

    def state_dict(self) -> dict[str, Tensor]:
        return {"seen": self.seen}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.seen = state["seen"]


def test_times_that_learn_are_told_and_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = toy.Toy.build
    monkeypatch.setattr(toy.Toy, "build", lambda self: replace(build(self), times=Learning()))
    toy.run(tmp_path / "whole")
    toy.run(tmp_path / "half", images=120)
    toy.run(tmp_path / "half", images=240, resume=True)
    whole, half = (toy.tensors(tmp_path / name)["times/seen"] for name in ("whole", "half"))
    assert whole.count_nonzero() > 80
    assert whole.sum() == pytest.approx(float(half.sum()), rel=0.2)  # the learning rates of the two differ


def test_data_png_shows_the_data(tmp_path: Path) -> None:
    toy.run(tmp_path / "run", images=8)
    from PIL import Image

    sheet = grid(toy.images().images[torch.linspace(0, 89, 16).long()])
    with Image.open(tmp_path / "run" / "samples" / "data.png") as picture:
        assert picture.size == (sheet.shape[2], sheet.shape[1])


def test_checkpointing_activations_changes_no_weight(tmp_path: Path) -> None:
    """A run with dropout, in parts, whose blocks are computed again, ends as one that keeps everything."""
    net = HoUNet(channels=16, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.3)
    recipe: Any = DDPM(shape=(1, 8, 8), network=net)
    for name, again in (("kept", False), ("again", True)):
        toy.run(tmp_path / name, recipe, batch=16, images=64, accumulate=2, checkpoint_activations=again)
    kept, again = (toy.tensors(tmp_path / name) for name in ("kept", "again"))
    assert kept.keys() == again.keys()
    for key, value in kept.items():
        torch.testing.assert_close(again[key], value, msg=key)


def test_checkpointing_activations_needs_blocks(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="Net has no blocks that could be computed again"):
        toy.run(tmp_path / "run", checkpoint_activations=True)
