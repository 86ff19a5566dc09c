"""The place of a run: held by one training at a time, left empty by what is refused, taken up with another budget."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.cli import main
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.ncsn import NCSN
from sfumato.papers.score_sde import ScoreSDE
from sfumato.papers.training import TrainConfig
from sfumato.runtime import files
from sfumato.runtime.checkpoint import CheckpointError
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.lock import NAME, HeldError, hold, refuse_if_held
from sfumato.train.report import write_report
from sfumato.train.setup import too_little_noise
from sfumato.train.state import State
from tests.train import toy

HOLDER = """
import sys, time
from pathlib import Path
from sfumato.runtime.lock import hold
with hold(Path(sys.argv[1]), "trained"):
    print("held", flush=True)
    time.sleep(60)
"""

TINY = ["--train.images", "64", "--train.batch", "16", "--train.preview-images", "0", "--train.validation-images", "0",
        "--train.precision", "float32", "--train.threads", "1"]  # fmt: skip


def test_another_process_is_refused_until_it_dies(tmp_path: Path) -> None:
    out = tmp_path / "run"
    toy.run(out, images=8)
    before = (out / "metrics.jsonl").read_bytes()
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(HeldError, match=rf"is being trained by process {holder.pid} on .+ since 20\d\d-"):
            toy.run(out, images=80, resume=True)
        with pytest.raises(HeldError, match="wait for it, or stop it"):
            refuse_if_held(out, "trained")
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        (fresh / NAME).symlink_to(out / NAME)  # nothing is followed
        with pytest.raises(OSError, match="fresh"):
            toy.run(fresh, images=8)
        assert (out / "metrics.jsonl").read_bytes() == before
    finally:
        holder.kill()
        holder.wait()
    assert (out / NAME).exists(), "it was killed"
    assert toy.run(out, images=80, resume=True).images == 80
    assert not (out / NAME).exists()


def test_two_new_trainings_of_one_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    with hold(out, "trained"), pytest.raises(HeldError, match=f"by process {os.getpid()} on"):
        toy.run(out, images=8)
    assert toy.run(out, images=8).images == 8


def test_a_lock_that_changes_hands_is_still_one(tmp_path: Path) -> None:
    for _ in range(2):
        with hold(tmp_path, "trained"), pytest.raises(HeldError):
            refuse_if_held(tmp_path, "trained")
        assert not (tmp_path / NAME).exists()


@pytest.mark.parametrize("there", ["data_card.json", "samples", "samples/data.png"])
def test_what_cannot_be_written_is_refused_before_anything_is_forgotten(tmp_path: Path, there: str) -> None:
    out = tmp_path / "run"
    toy.run(out, images=16)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "later", "images": 999, "step": 999, "seconds": 1}\n')
    (out / there).rename(tmp_path / "aside")
    (out / there).write_text("in the way") if there == "samples" else (out / there).mkdir()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != NAME}
    with pytest.raises(OSError, match=Path(there).name):
        toy.run(out, images=32, resume=True)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != NAME}
    assert after == before


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--data", "nowhere"], "unknown data set 'nowhere'"),
        (["--validation", "emoji32"], "validation images are"),
        (["--train.device", "cuda"], "there is no cuda device here"),
        (["--train.device", "banana"], "banana"),
        (["--train.threads", "100000000"], "threads is between 1 and 1,024, not 100,000,000"),
        (["--train.batch", "0"], "batch is between 1 and"),
        (["--train.batch", "50.5"], "50.5"),
        (["--train.learning-rate", "nan"], "learning_rate is above 0"),
        (["--train.flip", "no"], "no"),
        (["--recipe.steps", "1000000000"], "steps is between 1 and 1,000,000, not 1,000,000,000"),
        (["--recipe.network.blocks", "10000000"], "blocks is between 1 and 32, not 10,000,000"),
        (["--recipe.network.dropout", "7"], "dropout is at least 0 and below 1, not 7"),
        (["--recipe.network.channels", "16384"], "of this network take"),
        (["--recipe.network", "ddpm-unet?multipliers=1,1,1,1,1"], "8x8 images do not fit this network"),
        (["--recipe.network", "improved-unet?heads=7"], "cannot be split into 7 heads"),
        (["--recipe.network", "refinenet"], "cannot be conditioned on labels"),
    ],
)
def test_what_is_refused_leaves_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str], line: str
) -> None:
    if line.startswith("there is no") and torch.cuda.is_available():
        pytest.skip("there is one")
    out = tmp_path / "runs" / "mine"
    assert main(["train", "ddpm/digits", "--out", str(out), *TINY, *words]) == 2
    heard = capsys.readouterr().err
    assert line in heard
    assert heard.count("\n") == 1
    assert not out.parent.exists()


def test_a_first_step_that_fails_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("sfumato.train.loop.step", full)
    with pytest.raises(MemoryError):
        toy.run(tmp_path / "run")
    assert not (tmp_path / "run").exists()
    (tmp_path / "run").mkdir()
    with pytest.raises(MemoryError):
        toy.run(tmp_path / "run")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_training_that_needs_more_memory_than_is_free(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sfumato.cost.room.free_memory", lambda: 30_000_000)
    assert main(["train", "ddpm/digits", "--out", str(tmp_path / "run"), *TINY, "--train.batch", "4096"]) == 2
    assert "a step with 4096 images at a time takes" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_budget_is_extended_and_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    assert main(["train", "ddpm/digits", "--out", str(out), *TINY]) == 0
    command = RunFolder.open(out).config()["command"]
    assert main(["train", "--resume", str(out), "--train.images", "128", "--train.keep", "1"]) == 0
    config = RunFolder.open(out).config()
    (change,) = config["history"]
    assert (change["images"], change["changed"]) == (64, {"images": [64, 128], "keep": [2, 1]})
    assert config["train"]["images"] == 128
    assert config["command"] == command
    assert "Gone on after 64 images with images 128 in the place of 64." in (out / "report.html").read_text()
    assert RunFolder.open(out).metrics("train")[-1]["images"] == 128
    saved = RunFolder.open(out).latest()
    assert saved is not None
    minutes = (saved.progress["seconds"] + 1) / 60  # a second more than it has had, whatever the machine
    assert main(["train", f"--resume={out}", "--train.minutes", f"{minutes:.6f}"]) == 0
    config = RunFolder.open(out).config()
    assert config["train"]["images"] is None, "the budget that is named is the whole of it"
    assert len(config["history"]) == 2
    capsys.readouterr()

    for words, line in (
        (["--train.images", "100"], "a budget of 100 images is no more than that"),
        (["--train.batch", "8", "--train.learning-rate", "1"],
         "cannot go on with another batch (16 in this run), learning_rate (0.002 in this run)"),
        (["--train.colour", "8"], "colour"),
    ):  # fmt: skip
        before = (out / "config.json").read_bytes()
        assert main(["train", "--resume", str(out), *words]) == 2
        heard = capsys.readouterr().err
        assert line in heard
        assert heard.count("\n") == 1
        assert (out / "config.json").read_bytes() == before


def test_a_shorter_budget_lies_above_what_is_done() -> None:
    run = TrainConfig(images=1000)
    run.check_resumed(replace(run, images=600, threads=2), 500, 60.0)
    with pytest.raises(ValueError, match="has come to 500 images in 1 minutes of training; a budget of 1 minutes"):
        run.check_resumed(replace(run, images=None, minutes=1.0), 500, 60.0)
    run.check_resumed(replace(run, keep=9), 1000, 60.0)  # its budget is spent, and was not changed


@pytest.mark.parametrize("config", [[], {"train": 5}, {"preset": "x", "recipe": [], "train": {}, "data": "digits"}])
def test_a_damaged_configuration_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], config: Any) -> None:
    (tmp_path / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(tmp_path)]) == 2
    heard = capsys.readouterr().err
    assert "config.json" in heard
    assert heard.count("\n") == 1


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS])
def test_a_disk_that_takes_nothing_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int
) -> None:
    out = tmp_path / "run"
    assert main(["train", "ddpm/digits", "--out", str(out), *TINY]) == 0
    (kept,) = RunFolder.open(out).checkpoints()
    held, stray = kept.read_bytes(), out / "checkpoints" / ".000000128.safetensors.0123abcd.tmp"
    stray.write_text("half")
    os.utime(stray, (0, 0))
    flush = os.fsync

    def refuse(handle: int) -> None:
        path = os.readlink(f"/proc/self/fd/{handle}")
        if path.endswith(".tmp") and "/checkpoints/." in path:
            raise OSError(number, os.strerror(number))
        flush(handle)

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", refuse)
        capsys.readouterr()
        assert main(["train", "--resume", str(out), "--train.images", "128"]) == 2
    heard = capsys.readouterr().err
    assert os.strerror(number) in heard
    assert "000000128.safetensors" in heard
    assert heard.count("\n") == 1
    assert [path.name for path in (out / "checkpoints").iterdir()] == [kept.name]
    assert kept.read_bytes() == held
    assert main(["train", "--resume", str(out)]) == 0


def test_the_umask_is_respected(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        toy.run(tmp_path / "run", images=8)
        write_report(tmp_path / "run")
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o077 for path in (tmp_path / "run").rglob("*")}
    assert len(modes) > 5
    assert not any(modes.values()), modes


def test_linear_betas_in_few_levels_are_warned_of() -> None:
    network = HoUNet(channels=8, multipliers=(1,), blocks=1, attention=())
    few = DDPM((1, 8, 8), network, steps=100)
    assert "linear betas in 100 levels leave 0.36 of the image" in too_little_noise(few, few.build())
    for fine in (replace(few, steps=1000), replace(few, betas="cosine"), NCSN(), EDM(), FlowMatching(), ScoreSDE()):
        assert too_little_noise(fine, fine.build()) == ""


class Damaged:
    """A checkpoint whose progress or moments are none."""

    path, in_parts = Path("x.safetensors"), False

    def __init__(self, progress: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
        self.progress, self.shapes = progress, shapes


@pytest.mark.parametrize(
    ("progress", "shapes"),
    [
        ({"images": "many"}, {}), ({"images": -1}, {}), ({"seconds": float("nan")}, {}), ({"step": True}, {}),
        ({}, {"recent": (4,)}), ({}, {"optimizer/first.weight/exp_avg": (3,)}),
        ({}, {"optimizer/nobody/exp_avg": ()}), ({}, {"optimizer/first.weight/colour": ()}),
    ],
)  # fmt: skip
def test_a_state_that_is_none_is_refused(progress: dict[str, Any], shapes: dict[str, tuple[int, ...]]) -> None:
    network: Any = toy.Net(4, 0.0, 0)
    fine = {"images": 8, "step": 1, "seconds": 0.5, "skipped": 0, "skipped_in_a_row": 0}
    saved: Any = Damaged({**fine, **progress}, {"recent": (0, 2), **shapes})
    none: Any = None
    with pytest.raises(CheckpointError, match=r"x\.safetensors"):
        State(network, none, none, none, none).load(saved)
