"""A run that was stopped or killed and resumed is the same run bit for bit."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.data import open_source, prepare
from sfumato.data.stream import Stream
from sfumato.runtime import checkpoint
from sfumato.runtime.folder import RunFolder
from tests.train import toy

FREQUENT = {"checkpoint_every": 0.0, "validate_every": 0.3}


@pytest.fixture(scope="module")
def children() -> Any:
    """Processes that start quickly, since a server has imported everything for all of them."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "accelerate", "tests.train.toy"])
    return context


@pytest.mark.parametrize("steps", [400, pytest.param(2000, marks=pytest.mark.slow)])
def test_a_run_is_its_two_halves(tmp_path: Path, steps: int) -> None:
    """With dropout, flips and two averages; a preview one step before the middle interrupts the first half."""
    whole, halves = tmp_path / "whole", tmp_path / "halves"

    pending = [signal.SIGINT]

    def interrupt(network: torch.nn.Module) -> torch.Tensor:
        if pending:
            os.kill(os.getpid(), pending.pop())
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    options: dict[str, Any] = {"images": 4 * steps, "batch": 4, "preview_every": 0.5 - 1 / steps, "preview_images": 1}
    toy.run(whole, **options)
    first = toy.run(halves, preview=interrupt, **options)
    assert (first.images, first.exit_code) == (2 * steps, 130)
    second = toy.run(halves, preview=interrupt, resume=True, **options)
    assert (second.images, second.exit_code) == (4 * steps, 0)
    assert toy.same(toy.tensors(whole), toy.tensors(halves))
    assert toy.train_losses(whole) == toy.train_losses(halves)


def test_a_stream_goes_on_where_it_was(tmp_path: Path) -> None:
    """60 pictures of a stream, 4 a step: 2 steps and 28 more after a resume are 30, over two epochs."""
    shelf = prepare.open_shelf("digits?limit=60")
    stream = Stream(shelf, (1, 8, 8))
    digits = replace(open_source("digits?limit=20"), stream=stream)
    recipe = toy.Toy(classes=10)
    toy.run(tmp_path / "whole", recipe, data=digits, images=120, batch=4, warmup=0, decay="constant", ema=(0.5,))
    for images in (8, 120):
        settings: dict[str, Any] = {"batch": 4, "warmup": 0, "decay": "constant", "ema": (0.5,)}
        toy.run(tmp_path / "halves", recipe, data=digits, images=images, resume=images > 8, **settings)
    one, two = (toy.tensors(tmp_path / name) for name in ("whole", "halves"))
    assert all(torch.equal(one[name], two[name]) for name in one if name.startswith(("model/", "optimizer/")))


def test_a_changed_batch_goes_on_from_the_same_image(tmp_path: Path) -> None:
    toy.run(tmp_path / "run", images=80, batch=8)
    assert toy.run(tmp_path / "run", images=92, batch=6, resume=True).images == 92


def test_another_average_begins_at_the_online_weights(tmp_path: Path) -> None:
    toy.run(tmp_path / "run", images=80)
    assert toy.run(tmp_path / "run", images=160, ema=(0.5, 0.9), resume=True).images == 160
    saved = RunFolder.open(tmp_path / "run").latest()
    assert saved is not None
    assert saved.weights == ("online", "0.5", "0.9")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_and_leaves(tmp_path: Path, children: Any, number: int, code: int) -> None:
    out = tmp_path / "run"
    child = children.Process(target=toy.in_child, args=(str(out), {"images": 10**7}))
    child.start()
    toy.wait_for(lambda: (out / "metrics.jsonl").exists() and child.is_alive())
    time.sleep(0.3)
    os.kill(child.pid, number)
    child.join(30)
    assert child.exitcode == code
    (path,) = RunFolder.open(out).checkpoints()
    images = int(path.stem)
    assert images > 0
    done = toy.run(out, images=images + 80, resume=True)
    assert (done.images, done.interrupted) == (images + 80, False)


def test_a_second_signal_stops_at_once(tmp_path: Path, children: Any) -> None:
    out = tmp_path / "run"
    options = {"images": 8, "sleepy": True, "preview_images": 1}
    child = children.Process(target=toy.in_child, args=(str(out), options))
    child.start()
    toy.wait_for(lambda: (out / "metrics.jsonl").exists() and RunFolder.open(out).metrics("validation"))
    for _ in range(2):
        os.kill(child.pid, signal.SIGINT)
        time.sleep(0.2)
    child.join(30)
    assert child.exitcode == 1  # by KeyboardInterrupt
    assert RunFolder.open(out).checkpoints() == []


def test_killed_at_random_instants_it_is_the_same_run(tmp_path: Path, children: Any) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    options = {"images": 1600, **FREQUENT}
    toy.run(whole, **options)
    dice = random.Random(0)
    (out).mkdir()
    for kills in range(40):
        begun = (out / "config.json").exists()
        child = children.Process(target=toy.in_child, args=(str(out), {**options, "resume": begun}))
        child.start()
        toy.wait_for(lambda: (out / "config.json").exists())
        child.join(0.05 + dice.random() * (0.4 if kills < 8 else 30))
        if child.exitcode is not None:
            break
        os.kill(child.pid, signal.SIGKILL)
        child.join()
        for path in RunFolder.open(out).checkpoints():
            checkpoint.read(path)  # complete or absent
    assert child.exitcode == 0
    assert kills >= 8
    assert toy.same(toy.tensors(whole), toy.tensors(out))
    assert toy.train_losses(whole) == toy.train_losses(out)
    assert not list(out.rglob(".*"))
