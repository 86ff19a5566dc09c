"""Power-function averages in training: they change nothing else, survive stops and other budgets, and may be absent."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.papers.training import TrainConfig
from sfumato.runtime import checkpoint, weights
from sfumato.runtime.folder import RunFolder
from tests.train import toy


def snapshots(out: Path) -> dict[int, dict[str, torch.Tensor]]:
    return {int(path.stem): checkpoint.read(path).tensors("") for path in RunFolder.open(out).snapshots()}


def before_images(images: int) -> list[int]:
    """Where a run of 8 images a step has its 16 snapshots: at the first step at or after each share."""
    return [-(-images * share // (16 * 8)) * 8 for share in range(1, 17)]


def test_tracking_changes_nothing_else(tmp_path: Path) -> None:
    toy.run(tmp_path / "with")
    toy.run(tmp_path / "without", profiles=())
    found, plain = (toy.tensors(tmp_path / name) for name in ("with", "without"))
    assert {name: value for name, value in found.items() if not name.startswith("profile/")}.keys() == plain.keys()
    assert all(torch.equal(found[name], value) for name, value in plain.items())
    assert not (tmp_path / "without" / "snapshots").exists()
    assert RunFolder.open(tmp_path / "without").metrics("lengths") == []


def test_a_stopped_run_has_the_snapshots_of_a_whole_one(tmp_path: Path) -> None:
    whole, halves = tmp_path / "whole", tmp_path / "halves"
    toy.run(whole, images=640)
    options: dict[str, Any] = {"images": 640, "preview_every": 0.47, "preview_images": 1}
    pending = [signal.SIGINT]

    def interrupting(network: torch.nn.Module) -> torch.Tensor:
        if pending:
            os.kill(os.getpid(), pending.pop())
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    first = toy.run(halves, preview=interrupting, **options)
    assert first.interrupted
    later = RunFolder.open(halves).snapshots()[0]  # of a process that was killed before its next checkpoint
    for name in ("000000600.safetensors", ".000000600.safetensors.0123abcd.tmp"):
        (later.parent / name).write_bytes(later.read_bytes())
    toy.run(halves, resume=True, **options)
    assert toy.same(toy.tensors(whole), toy.tensors(halves))
    one, two = snapshots(whole), snapshots(halves)
    assert one.keys() == two.keys()
    assert all(toy.same(one[images], two[images]) for images in one)
    assert not [path for path in later.parent.iterdir() if path.name.startswith(".")]
    (a,), (b,) = (RunFolder.open(out).metrics("lengths") for out in (whole, halves))
    assert (a["lengths"], a["loss"]) == (b["lengths"], b["loss"])


def test_another_budget_keeps_the_snapshots_before(tmp_path: Path) -> None:
    out = tmp_path / "run"
    toy.run(out, images=320)
    before = snapshots(out)
    toy.run(out, images=640, resume=True)
    after = snapshots(out)
    assert sorted(after) == [*before_images(320), *range(360, 641, 40)]
    assert all(toy.same(after[images], value) for images, value in before.items())
    assert [record["images"] for record in RunFolder.open(out).metrics("lengths")] == [320, 640]


def test_a_run_from_before_goes_on_without(tmp_path: Path) -> None:
    """An average that begins in the middle of a run has another profile, so none is begun."""
    toy.run(tmp_path / "run", images=320, profiles=(0.05,))
    toy.run(tmp_path / "run", images=640, profiles=(0.05, 0.1), resume=True)
    saved = RunFolder.open(tmp_path / "run").latest()
    assert saved is not None
    assert saved.profiles == ("0.05",)
    toy.run(tmp_path / "none", images=320, profiles=())
    toy.run(tmp_path / "none", images=640, resume=True)
    saved = RunFolder.open(tmp_path / "none").latest()
    assert saved is not None
    assert saved.profiles == ()
    assert RunFolder.open(tmp_path / "none").snapshots() == []


@pytest.mark.parametrize("values", [{"validation_images": 0}, {"snapshots": 1}, {"snapshots": 1000}])
def test_few_or_many(tmp_path: Path, values: dict[str, int]) -> None:
    toy.run(tmp_path / "run", images=40, **values)
    assert len(RunFolder.open(tmp_path / "run").snapshots()) == min(5, values.get("snapshots", 5))
    curve = RunFolder.open(tmp_path / "run").metrics("lengths")
    assert len(curve) == (0 if "validation_images" in values else 1)


@toy.shards
def test_a_sharded_run_has_snapshots_in_parts(tmp_path: Path) -> None:
    alone, shared = tmp_path / "alone", tmp_path / "shared"
    options = {"images": 160, "batch": 8}
    toy.run(alone, toy.Toy(dropout=0.0), snapshots=4, **options)
    toy.launch(shared, dropout=0.0, shard=True, snapshots=4, **options)
    one, two = snapshots(alone), snapshots(shared)
    assert one.keys() == two.keys() == {40, 80, 120, 160}
    for images, tensors in one.items():
        for name, value in tensors.items():
            torch.testing.assert_close(two[images][name].float(), value.float(), rtol=1e-3, atol=1e-4)
    found = RunFolder.open(shared).latest()
    assert found is not None
    assert weights.choose(found, 0.13).name == "sigma_rel 0.13"
    assert weights.choose(found, 0.13).tensors().keys() == found.tensors("model/").keys()


def test_large_networks_keep_as_many_snapshots_as_two_gigabytes_hold() -> None:
    usual = TrainConfig()
    assert [usual.snapshots_of(n) for n in (1_000_000, 100_000_000, 1_000_000_000)] == [16, 5, 0]
    assert TrainConfig(snapshots=3).snapshots_of(1_000_000_000) == 3
    assert TrainConfig(profiles=()).snapshots_of(1_000_000) == 0
