"""The Frechet distance in training: what is kept is the best, whatever stops the run, and the run stays the same."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.runtime import checkpoint
from sfumato.runtime.folder import RunFolder
from sfumato.train.report import write_report
from tests.train import toy

EVERY: dict[str, Any] = {"images": 320, "fd_every": 0.25}
"""Four measurements, after 80, 160, 240 and 320 images."""


def told(values: Sequence[float], seen: list[dict[str, torch.Tensor]], n: int = 100) -> Callable[[nn.Module], Any]:
    """A distance that takes these values, and remembers the weights that it was shown."""
    left = list(values)

    def distance(network: nn.Module) -> dict[str, Any]:
        assert not network.training
        seen.append({name: value.clone() for name, value in network.state_dict().items()})
        return {"fd": left.pop(0), "floor": 0.5, "name": "FD-toy", "n": n, "on": "bars", "reference": "90 images",
                "sampler": "ddim", "evaluations": 50}  # fmt: skip

    return distance


def rows(out: Path) -> list[tuple[int, float, bool]]:
    return [(r["images"], r["fd"], r["best"]) for r in RunFolder.open(out).metrics("fd")]


def kept(out: Path) -> tuple[int, float, dict[str, torch.Tensor]]:
    """The images and the distance of best.safetensors, and its weights."""
    saved = checkpoint.read(RunFolder(out).best)
    assert saved.weights == ("0.99",)
    return saved.progress["images"], saved.about["distance"]["fd"], saved.tensors("ema/0.99/")


def test_the_averaged_weights_of_the_least_distance_are_kept(tmp_path: Path) -> None:
    seen: list[dict[str, torch.Tensor]] = []
    toy.run(tmp_path, distance=told([3.0, 1.0, 2.0, 1.5], seen), **EVERY)
    assert rows(tmp_path) == [(80, 3.0, True), (160, 1.0, True), (240, 2.0, False), (320, 1.5, False)]
    images, fd, weights = kept(tmp_path)
    assert (images, fd) == (160, 1.0)
    assert toy.same(weights, seen[1])
    assert not toy.same(weights, seen[3])


def test_measuring_changes_nothing_of_the_run(tmp_path: Path) -> None:
    toy.run(tmp_path / "with", distance=told([1.0] * 4, []), **EVERY)
    toy.run(tmp_path / "without", images=320)
    assert toy.same(toy.tensors(tmp_path / "with"), toy.tensors(tmp_path / "without"))
    assert toy.train_losses(tmp_path / "with") == toy.train_losses(tmp_path / "without")
    assert not RunFolder(tmp_path / "without").best.exists()


def test_a_stopped_run_goes_on_comparing_with_its_best(tmp_path: Path) -> None:
    pending = [signal.SIGINT]

    def interrupt(network: nn.Module) -> torch.Tensor:
        if pending:
            os.kill(os.getpid(), pending.pop())
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    options = {**EVERY, "preview_every": 0.6, "preview_images": 1}
    assert toy.run(tmp_path, preview=interrupt, distance=told([3.0, 1.0], []), **options).interrupted
    toy.run(tmp_path, preview=interrupt, distance=told([2.0, 0.8], []), resume=True, **options)
    assert rows(tmp_path) == [(80, 3.0, True), (160, 1.0, True), (240, 2.0, False), (320, 0.8, True)]
    assert kept(tmp_path)[:2] == (320, 0.8)


def test_going_back_takes_what_is_later_with_it(tmp_path: Path) -> None:
    """A best of after the newest checkpoint goes; one of before stays, and is what the run is compared with."""
    toy.run(tmp_path, distance=told([3.0, 2.0, 1.0, 1.5], []), **EVERY)
    folder = RunFolder(tmp_path)
    folder.rewind(240)
    assert folder.best.exists()
    folder.rewind(200)
    assert not folder.best.exists()
    assert rows(tmp_path) == [(80, 3.0, True), (160, 2.0, True)]
    folder.best.write_bytes(b"of a disk that failed")
    folder.rewind(200)
    assert not folder.best.exists()


def test_a_process_killed_in_a_measurement_repeats_nothing_and_loses_nothing(tmp_path: Path) -> None:
    def die(network: nn.Module) -> dict[str, Any]:
        raise MemoryError

    before = told([3.0], [])
    turns = [before, die]
    with pytest.raises(MemoryError):
        toy.run(tmp_path, distance=lambda network: turns.pop(0)(network), **EVERY)
    assert toy.run(tmp_path, distance=told([2.0, 4.0], []), resume=True, **EVERY).images == 320
    assert rows(tmp_path) == [(80, 3.0, True), (240, 2.0, True), (320, 4.0, False)]


def test_distances_of_other_protocols_are_not_compared(tmp_path: Path) -> None:
    toy.run(tmp_path, images=160, fd_every=0.5, distance=told([3.0, 1.0], []))
    toy.run(tmp_path, images=320, fd_every=0.25, fd_images=200, distance=told([5.0, 4.0], [], n=200), resume=True)
    assert rows(tmp_path) == [(80, 3.0, True), (160, 1.0, True), (240, 5.0, True), (320, 4.0, True)]
    page = write_report(tmp_path).read_text()
    assert "FD-toy of 200 samples" in page
    assert "4 after 320 images, is kept" in page


def test_a_function_that_measures_is_needed(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="fd_every"):
        toy.run(tmp_path / "run", fd_every=0.5)
    assert not (tmp_path / "run").exists()
