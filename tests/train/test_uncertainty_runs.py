"""Runs with learned uncertainty: resumed bit for bit, in the report, in no model, and refused where it cannot be."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.papers.dpm import DPM
from sfumato.papers.presets import preset
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train.report import write_report
from tests.train import toy

OPTIONS: dict[str, Any] = {"images": 320, "batch": 4, "uncertainty": True, "preview_every": 0.49, "preview_images": 1}


def test_a_run_is_its_two_halves(tmp_path: Path) -> None:
    pending = [signal.SIGINT]

    def interrupt(network: torch.nn.Module) -> torch.Tensor:
        if pending:
            os.kill(os.getpid(), pending.pop())
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    toy.run(tmp_path / "whole", **OPTIONS)
    assert 0 < toy.run(tmp_path / "halves", preview=interrupt, **OPTIONS).images < 320
    toy.run(tmp_path / "halves", preview=interrupt, resume=True, **OPTIONS)
    assert toy.same(toy.tensors(tmp_path / "whole"), toy.tensors(tmp_path / "halves"))
    weight = toy.tensors(tmp_path / "whole")["uncertainty/weight"]
    assert bool((weight != 0).any())


def test_it_is_in_metrics_and_report_but_in_no_weights(tmp_path: Path) -> None:
    toy.run(tmp_path / "run", validation_images=16, validate_every=0.5, **OPTIONS)
    plain = {**OPTIONS, "uncertainty": False}
    toy.run(tmp_path / "plain", validation_images=16, validate_every=0.5, **plain)
    run = RunFolder.open(tmp_path / "run")
    curves = [record["uncertainty"] for record in run.metrics("validation")]
    assert [len(curve) for curve in curves] == [8] * len(curves)
    assert min(curves[-1]) > 0
    assert "exp(u) of the learned uncertainty" in write_report(run.path).read_text()
    assert "exp(u)" not in write_report(tmp_path / "plain").read_text()
    one, two = (toy.tensors(tmp_path / name) for name in ("run", "plain"))
    assert {name for name in one if not name.startswith("uncertainty/")} == set(two)
    assert any(not torch.equal(one[name], two[name]) for name in two if name.startswith("model/"))


def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="leave out uncertainty or shard"):
        TrainConfig(uncertainty=True, shard=True)
    with pytest.raises(ValueError, match="learned of losses above 0"):
        toy.run(tmp_path / "run", DPM((1, 8, 8)), **OPTIONS)
    with pytest.raises(ValueError, match="by noise level, of which this model has none"):
        toy.run(tmp_path / "run", preset("autoencoder/digits").recipe, **OPTIONS)
    assert not (tmp_path / "run").exists()


def test_two_processes_learn_it_as_one(tmp_path: Path) -> None:
    options: dict[str, Any] = {"images": 96, "batch": 8, "uncertainty": True}
    toy.launch(tmp_path / "two", dropout=0.0, **options)
    toy.run(tmp_path / "one", toy.Toy(dropout=0.0), **options)
    toy.assert_close(tmp_path / "one", tmp_path / "two")
