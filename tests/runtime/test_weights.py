"""Weights chosen after training: a run's snapshots, averages rebuilt from them, the line for what they cannot give."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.core import profiles
from sfumato.core.profiles import Profile
from sfumato.runtime import checkpoint, weights
from sfumato.runtime.checkpoint import Checkpoint, CheckpointError
from sfumato.runtime.folder import RunFolder
from tests.train import toy

NAMES = ("first.weight", "last.bias")


def newest(run: Path) -> Checkpoint:
    saved = RunFolder.open(run).latest()
    assert saved is not None
    return saved


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """80 steps of 8 images."""
    out = tmp_path_factory.mktemp("weights") / "run"
    toy.run(out, images=640)
    return out


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, torch.Tensor]]:
    """The online weights after each of these steps, from a run with a checkpoint at each."""
    out = tmp_path_factory.mktemp("path") / "run"
    toy.run(out, images=640, checkpoint_every=0.0, keep=1000, profiles=())
    files = RunFolder.open(out).checkpoints()[::-1]
    assert len(files) == 80
    return [checkpoint.read(file).tensors("model/") for file in files]


def direct(path: list[dict[str, torch.Tensor]], length: float) -> dict[str, torch.Tensor]:
    """The average by its recursion, in float64, over images."""
    power = profiles.gamma(length)
    averages = {name: path[0][name].double() for name in NAMES}
    for n, online in enumerate(path):
        beta = profiles.decay(power, 8 * n, 8 * (n + 1))
        averages = {name: beta * averages[name] + (1 - beta) * online[name].double() for name in NAMES}
    return averages


def test_snapshots_are_spread_evenly_and_say_what_they_are(run: Path) -> None:
    files = RunFolder.open(run).snapshots()
    assert [int(file.stem) for file in files] == list(range(640, 0, -40))
    saved = checkpoint.read(files[3])
    assert saved.profiles == ("0.05", "0.1")
    assert saved.progress["images"] == 520
    assert all(value.dtype == torch.float16 for value in saved.tensors("profile/0.05/").values())


@pytest.mark.parametrize("length", [0.05, 0.1])
def test_a_stored_length_is_the_average_itself(run: Path, path: Any, length: float) -> None:
    chosen = weights.choose(newest(run), length)
    assert (chosen.name, len(chosen.parts)) == (f"sigma_rel {length:g}", 1)
    found = chosen.tensors()
    assert toy.same(found, newest(run).tensors(f"profile/{length}/"))
    for name, value in direct(path, length).items():
        torch.testing.assert_close(found[name].double(), value, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("length", [0.03, 0.075, 0.13, "0.2", 0.25])
def test_any_length_is_that_of_a_direct_average(run: Path, path: Any, length: Any) -> None:
    """Within the error of the profile, times how far the weights went, and the rounding of float16."""
    found, length = weights.choose(newest(run), length).tensors(), float(length)
    _, stored = weights.basis(newest(run))
    error = profiles.rebuilt_error(stored, Profile(640, length))
    for name, value in direct(path, length).items():
        every = torch.stack([online[name].double() for online in path])
        spread = float((every.amax(0) - every.amin(0)).max())
        difference = float((found[name].double() - value).abs().max())
        assert difference <= (error + 0.05) * spread + 1e-3 * float(value.abs().max())
        assert difference < 0.1 * spread


def test_stored_sets_keep_their_meaning(run: Path) -> None:
    saved = newest(run)
    assert [weights.choose(saved, word).name for word in (None, "online", "0.90", 0.9)] == [
        "0.99", "online", "0.9", "0.9",
    ]  # fmt: skip


@pytest.mark.parametrize(("word", "said"), [
    ("0.275", "gives no average of length sigma_rel 0.275; its 32 stored averages give 0.025 to 0.265"),
    (0.01, "sigma_rel 0.01; its 32 stored averages give 0.025 to 0.265"),
    ("0.5", "sigma_rel 0.5; its 32 stored averages give 0.025 to 0.265"),
    ("bset", "holds no weights 'bset'; it holds online, 0.99, 0.9, and averages of a length sigma_rel up to 0.28"),
    ("-0.1", "holds no weights '-0.1'"), ("nan", "holds no weights 'nan'"),
])  # fmt: skip
def test_what_snapshots_do_not_give_is_one_line(run: Path, word: Any, said: str) -> None:
    with pytest.raises(CheckpointError, match=re.escape(said)) as caught:
        weights.choose(newest(run), word)
    assert "\n" not in str(caught.value)


def test_a_file_of_its_own_gives_what_it_holds(run: Path, tmp_path: Path) -> None:
    shutil.copy(newest(run).path, tmp_path / "alone.safetensors")
    alone = checkpoint.read(tmp_path / "alone.safetensors")
    assert weights.choose(alone, 0.1).tensors().keys() == alone.tensors("model/").keys()
    with pytest.raises(CheckpointError, match=re.escape("its 2 stored averages give 0.045 to 0.115")):
        weights.choose(alone, 0.25)
    with pytest.raises(CheckpointError, match="has no best length"):
        weights.choose(alone, "best")


def test_the_best_length_is_that_of_the_least_distance_or_loss(run: Path) -> None:
    saved = newest(run)
    (record,) = RunFolder.open(run).metrics("lengths")
    assert record["images"] == 640
    assert record["lengths"] == [0.03, 0.04, 0.05, 0.06, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.225, 0.25]
    least = min(zip(record["loss"], record["lengths"], strict=True))[1]
    assert weights.choose(saved, "best").name == f"sigma_rel {least:g}"
    metrics = run / "metrics.jsonl"
    before = metrics.read_text()
    numbers = {"kind": "lengths", "step": 80, "seconds": 1.0}
    try:  # the first is of another checkpoint
        RunFolder.open(run).append({**numbers, "images": 632, "lengths": [0.04], "fd": [0.1]})
        assert weights.best_length(saved) == least
        values: list[float] = [3.0, 2.0, math.nan]
        RunFolder.open(run).append({**numbers, "images": 640, "lengths": [0.06, 0.15, 0.2], "fd": values})
        RunFolder.open(run).append({**numbers, "images": 640, "lengths": 7, "fd": "a"})
        assert weights.best_length(saved) == 0.15
        RunFolder.open(run).append({**numbers, "images": 640, "lengths": [0.06, 0.2], "fd": [9.0, 8.0]})
        assert weights.best_length(saved) == 0.2  # the newest, perhaps of another number of pictures
    finally:
        metrics.write_text(before)


def test_damaged_snapshots_are_said_and_harm_nothing_else(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    saved = newest(tmp_path / "run")
    damaged = RunFolder.open(tmp_path / "run").snapshots()[5]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match=rf"{damaged.name} is truncated"):
        weights.choose(saved, 0.15)
    assert weights.choose(saved).name == "0.99"
    damaged.unlink()
    assert weights.choose(saved, 0.15).name == "sigma_rel 0.15"
    shutil.rmtree(damaged.parent)
    assert weights.choose(saved, 0.05).name == "sigma_rel 0.05"


def test_a_light_file_holds_the_rebuilt_average(run: Path, tmp_path: Path) -> None:
    weights.save_weights(tmp_path / "light.safetensors", newest(run), 0.15)
    light = checkpoint.read(tmp_path / "light.safetensors")
    assert (light.weights, light.profiles) == (("online",), ())
    assert light.about["origin"] == {"weights": "sigma_rel 0.15"}
    assert toy.same(light.tensors("model/"), weights.choose(newest(run), 0.15).tensors())


def test_what_was_not_trained_is_the_same_in_every_average(tmp_path: Path) -> None:
    """A sum of profiles whose coefficients add up to 1.003, in which a frozen tensor keeps its bits."""
    frozen = torch.randn(50, generator=torch.Generator().manual_seed(0))
    files = []
    for i, trained in enumerate((1.0, 3.0)):
        path = tmp_path / f"{i}.safetensors"
        checkpoint.save(path, {"model/frozen": frozen, "model/trained": torch.full((2,), trained)}, {"recipe": {}})
        files.append(checkpoint.read(path))
    made = weights.Weights(
        "both", (weights.Part(files[0], "model/", 0.501), weights.Part(files[1], "model/", 0.502))
    ).tensors()
    assert torch.equal(made["frozen"], frozen)
    torch.testing.assert_close(made["trained"], torch.full((2,), 0.501 + 3 * 0.502))
    alone = weights.Weights("one", (weights.Part(files[0], "model/", 0.5),)).tensors()
    assert torch.equal(alone["frozen"], 0.5 * frozen)


def test_rebuilt_averages_keep_what_was_not_trained(tmp_path: Path) -> None:
    """Bit for bit, though snapshots hold it in float16, whose rounding a sum of large coefficients would enlarge."""
    folder = RunFolder.create(tmp_path / "run", {"preset": "x"})
    frozen = torch.randn(1000, generator=torch.Generator().manual_seed(0))

    def about(images: int) -> dict[str, Any]:
        progress = {"images": images, "step": images, "seconds": 1.0, "skipped": 0, "skipped_in_a_row": 0}
        return {"recipe": {}, "train": {}, "data": {}, "progress": progress, "profiles": ["0.05", "0.1"], "ema": []}

    def stored(images: int) -> dict[str, torch.Tensor]:
        held = {"autoencoder.weight": frozen, "trained": torch.full((10,), 1 + images / 1600)}
        return {f"profile/{length}/{key}": value for length in ("0.05", "0.1") for key, value in held.items()}

    for images in range(100, 1601, 100):
        halves = {name: checkpoint.halved(name, value) for name, value in stored(images).items()}
        folder.save_snapshot(images, halves, about(images))
    online = {"model/autoencoder.weight": frozen, "model/trained": torch.full((10,), 2.0)}
    folder.save_checkpoint(1600, {**stored(1600), **online}, about(1600))
    for length in (0.03, 0.07, 0.15, 0.25):
        chosen = weights.choose(newest(tmp_path / "run"), length)
        made = chosen.tensors()
        assert len(chosen.parts) > 1
        assert torch.equal(made["autoencoder.weight"], frozen)
        sums = sum(part.times * (1 + part.source.progress["images"] / 1600) for part in chosen.parts)
        torch.testing.assert_close(made["trained"], torch.full((10,), sums), rtol=2e-3, atol=0)
