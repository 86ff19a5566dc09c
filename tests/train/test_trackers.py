"""Trackers have the values of metrics.jsonl, also after a resume; one that is not installed is named with its extra."""

from __future__ import annotations

import csv
import signal
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sfumato.papers.training import TRACKERS, TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train import trackers
from sfumato.train.trackers import numbers
from tests.train import toy


def test_numbers_are_named_as_in_the_metrics() -> None:
    row = {"kind": "train", "images": 8, "step": 1, "loss": 0.5, "ema": {"0.9": 0.1}, "on": "x", "online": [1.0, 2.0]}
    wanted = {"train/step": 1, "train/loss": 0.5, "train/ema/0.9": 0.1, "train/online/0": 1.0, "train/online/1": 2.0}
    assert numbers(row) == wanted


def rows(out: Path, kind: str) -> list[dict[str, float]]:
    """A CSV file, its numbers as floats."""
    with (out / f"{kind}.csv").open(newline="") as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


def same_as_metrics(out: Path) -> None:
    for kind in ("train", "validation"):
        records = RunFolder.open(out).metrics(kind)
        assert records
        wanted = [
            {"images": r["images"]} | {n.removeprefix(f"{kind}/"): v for n, v in numbers(r).items()} for r in records
        ]
        assert rows(out, kind) == wanted


def test_csv_has_the_values_of_the_metrics_and_forgets_what_the_run_forgets(tmp_path: Path) -> None:
    toy.run(tmp_path / "run", log="csv", checkpoint_every=0.0)
    same_as_metrics(tmp_path / "run")
    RunFolder.open(tmp_path / "run").checkpoints()[0].unlink()
    toy.run(tmp_path / "run", log="csv", resume=True)
    same_as_metrics(tmp_path / "run")
    toy.run(tmp_path / "plain")
    assert toy.same(toy.tensors(tmp_path / "run"), toy.tensors(tmp_path / "plain"))
    assert not list((tmp_path / "plain").glob("*.csv"))


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs tensorboard")
def test_tensorboard_has_the_values_of_the_metrics(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    toy.run(tmp_path / "run", log="tensorboard")
    held = EventAccumulator(str(tmp_path / "run" / "tensorboard"))
    held.Reload()
    for record in RunFolder.open(tmp_path / "run").metrics():
        for name, value in numbers(record).items():
            (found,) = [e.value for e in held.Scalars(name) if e.step == record["images"]]
            assert found == pytest.approx(value, rel=1e-6)


def test_what_is_not_installed_is_named_with_its_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trackers, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r'wandb needs the package wandb: pip install "sfumato\[wandb\]"'):
        toy.run(tmp_path / "run", log="csv,wandb")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match="unknown tracker 'tensorbord'; did you mean tensorboard"):
        TrainConfig(log="tensorbord")
    assert "csv" in TRACKERS


def test_no_tracker_is_imported_unasked(tmp_path: Path) -> None:
    toy.run(tmp_path / "run")
    assert not {"tensorboard", "wandb"} & set(sys.modules)


def test_a_watcher_sees_every_line_and_may_stop_the_run(tmp_path: Path) -> None:
    seen: list[Mapping[str, Any]] = []

    def watch(row: Mapping[str, Any]) -> bool:
        seen.append(row)
        return row["images"] >= 120

    result = toy.train(
        toy.Toy(), toy.images(), toy.SMALL, tmp_path / "run", config={"recipe": {"paper": "toy"}}, quiet=True,
        watch=[watch],
    )  # fmt: skip
    assert (result.signal, 120 <= result.images < 240) == (signal.SIGINT, True)
    assert [dict(row) for row in seen] == RunFolder.open(tmp_path / "run").metrics()
