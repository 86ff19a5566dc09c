"""Aspect-ratio bucketing: the nearest size, batches of one bucket, each picture once an epoch, sheets of two ratios."""

from __future__ import annotations

import shlex
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.cli import main
from sfumato.core.randomness import mix
from sfumato.core.times import UniformInterval
from sfumato.data import DataError, open_source
from sfumato.data.loader import Order, Turns
from sfumato.data.sources import parse_spec
from sfumato.data.stream import open_for_training
from sfumato.models import Model, load_model
from sfumato.networks.unet import ImprovedUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train.batches import ORDER, Batches, shard

SIZES = {(60, 30): 6, (30, 60): 3, (40, 42): 2}
BUCKETS = "16x8,8x16,8x8"
TINY = "ddpm-unet?channels=32&multipliers=1,2&blocks=1&attention=2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wide, tall and almost square pictures, red, green and blue, with a table of attributes."""
    root = tmp_path_factory.mktemp("mixed")
    rows = ["file_name,wide"]
    for k, (size, n) in enumerate(SIZES.items()):
        for i in range(n):
            colour = [0, 0, 0]
            colour[k] = 255 - 10 * i
            Image.new("RGB", size, tuple(colour)).save(root / f"{k}{i}.png")
            rows.append(f"{k}{i}.png,{int(k == 0)}")
    (root / "has.csv").write_text("\n".join(rows))
    return root


@pytest.mark.parametrize(("picture", "expected"), [
    ((60, 30), (16, 8)), ((1, 100), (8, 16)), ((100, 99), (8, 8)), ((13, 9), (16, 8)), ((14, 10), (8, 8)),
])  # fmt: skip
def test_the_nearest_proportions(picture: tuple[int, int], expected: tuple[int, int]) -> None:
    assert parse_spec(f"folder:x?buckets={BUCKETS}").size_for(picture) == expected


def test_of_equal_proportions_the_nearest_area() -> None:
    spec = parse_spec("folder:x?buckets=8x8,32x32")
    assert [spec.size_for((side, side)) for side in (10, 15, 17, 100)] == [(8, 8), (8, 8), (32, 32), (32, 32)]


def test_pictures_go_to_their_buckets(folder: Path) -> None:
    images = open_for_training(f"folder:{folder}?buckets={BUCKETS}&attributes=has.csv")
    assert [(part.shape, len(part)) for part in images.parts] == [((3, 8, 16), 6), ((3, 16, 8), 3), ((3, 8, 8), 2)]
    assert images.shape == (3, 8, 16)
    assert images.card.count == 11
    assert images.card.attributes == {"wide": 6}
    assert "in 3 buckets: 16x8 6, 8x16 3, 8x8 2" in str(images.card)
    for k, part in enumerate(images.parts):
        assert int(part.images.float().mean((0, 2, 3)).argmax()) == k
    one = open_source(f"folder:{folder}?buckets={BUCKETS}&bucket=8x16")
    assert torch.equal(one.images, images.parts[1].images)
    assert not one.buckets


@pytest.mark.parametrize(("options", "said"), [
    ("", "choose one, &bucket=16x8 or bucket=8x16 or bucket=8x8"),
    ("&size=8", "leave out size"),
    ("&crop=random", "leave out size and crop"),
    ("&bucket=9x9", "is one of 16x8, 8x16, 8x8"),
    (",8x8", "different sizes"),
    (",8y8", "a whole number"),
    ("&classes=a", "no classes|not chosen"),
])  # fmt: skip
def test_what_is_refused(folder: Path, options: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        open_source(f"folder:{folder}?buckets={BUCKETS}{options}")


@pytest.mark.parametrize("sizes", [(5, 3, 1), (7, 7), (1, 20), (9,)])
def test_turns_are_even_and_a_function_of_the_step(sizes: tuple[int, ...]) -> None:
    turns, total, seen = Turns(sizes), sum(sizes), Counter[int]()
    for step in range(3 * total):
        bucket, before = turns.at(step)
        assert before == seen[bucket], "how many steps had this bucket before"
        seen[bucket] += 1
        for i, n in enumerate(sizes):
            assert abs(seen[i] - (step + 1) * n / total) <= len(sizes) / 2 + 1e-9, "in proportion at every step"
    assert [seen[i] for i in range(len(sizes))] == [3 * n for n in sizes]


def test_batches_are_of_one_bucket_and_each_picture_comes_once_an_epoch(folder: Path) -> None:
    images = open_for_training(f"folder:{folder}?buckets={BUCKETS}&attributes=has.csv")
    make: Any = lambda: Batches(images, UniformInterval(), TrainConfig(batch=2), False)  # noqa: E731
    whole, seen = make(), list[str]()
    for step in range(11):  # two epochs of all pictures
        counters = range(2 * step, 2 * step + 2)
        batch = whole(counters)
        assert len({key[0] for key in batch.keys}) == 1, "of one bucket"
        assert batch.x0.shape[1:] == images.parts[int(batch.keys[0][0])].shape
        assert batch.given["attributes"].tolist() == [[1 if key[0] == "0" else -1] for key in batch.keys]
        halves = [make()(part) for part in shard(counters, 2)]  # by two processes, or after a resume
        assert torch.equal(torch.cat([half.x0 for half in halves]), batch.x0)
        seen += batch.keys
    assert set(Counter(seen).values()) == {2}


def test_one_size_keeps_its_order() -> None:
    images = open_source("digits")
    batches = Batches(images, UniformInterval(), TrainConfig(batch=8), True)
    order = Order(len(images), mix(0, ORDER)).batch(16, 8)
    assert batches(range(16, 24)).keys == [images.keys[i] for i in order]


def test_from_a_folder_of_mixed_ratios_to_sheets_of_two(folder: Path, tmp_path: Path) -> None:
    data, run = f"folder:{folder}?buckets={BUCKETS}", tmp_path / "run"
    words = ["--recipe.network", TINY, "--recipe.conditioning", "none", "--recipe.steps", "20", "--train.batch", "4"]
    quick = ["--train.images", "24", "--train.preview-steps", "2", "--train.preview-images", "2"]
    assert main(["train", "ddpm/digits", "--data", data, *words, *quick, "--out", str(run)]) == 0
    for size, shape in (("16x8", (8, 16, 3)), ("8x16", (16, 8, 3)), ("24x16", (16, 24, 3))):
        out = tmp_path / size
        assert main(["sample", str(run), "-n", "3", "--steps", "2", "--size", size, "--out", str(out)]) == 0
        with np.load(out / "images.npz") as file:
            assert file["arr_0"].shape == (3, *shape)
    model = load_model(run)
    assert model.sized(16, 8) is model
    assert torch.equal(model.sized(8, 16).sample(2, steps=2), model.sized(8, 16).sample(2, steps=2, batch=1))
    with pytest.raises(ValueError, match="HoUNet cannot make images of 9x7 pixels"):
        model.sized(9, 7)
    assert main(["sample", str(run), "-n", "3", "--size", "8:16", "--out", str(tmp_path / "no")]) == 2
    assert main(["evaluate", str(run), "-n", "8", "--out", str(tmp_path / "no")]) == 2
    assert main(["train", "ddpm/digits", "--data", data, "--train.fd-every", "0.5", "--out", str(tmp_path / "no")]) == 2
    assert not (tmp_path / "no").exists()


def test_an_autoencoder_of_buckets_is_measured_at_its_own_size(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = f"folder:{folder}?buckets={BUCKETS}", tmp_path / "run"
    words = ["--train.batch", "4", "--train.images", "16", "--train.preview-images", "0", "--out", str(run)]
    assert main(["train", "autoencoder/digits", "--data", data, *words]) == 0
    assert "latents?of=" in capsys.readouterr().out
    found = [row for row in RunFolder.open(run).metrics() if row["kind"] == "reconstruction"]
    assert len(found) == 1
    assert found[0]["on"].startswith(data + "&bucket=")


def test_a_resumed_run_is_the_same_run(folder: Path, tmp_path: Path) -> None:
    data = f"folder:{folder}?buckets={BUCKETS}"
    more: dict[str, Any] = {"batch": 4, "quiet": True, "preview_images": 0, "validation_images": 0, "threads": 1,
                            "decay": "constant", "warmup": 0, "ema": (0.5,),
                            "recipe": {"network": TINY, "conditioning": "none"}}  # fmt: skip
    whole = sfumato.fit(data, "ddpm/digits", out=tmp_path / "whole", images=32, **more)
    sfumato.fit(data, "ddpm/digits", out=tmp_path / "two", images=32, **more,
                callbacks=lambda row: row["kind"] == "train" and row["images"] >= 16)  # fmt: skip
    again = sfumato.fit(data, out=tmp_path / "two", images=32, resume=True, quiet=True)
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, again.network.state_dict()[name]), name


def test_distilled_models_and_controls_keep_the_buckets(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = f"folder:{folder}?buckets={BUCKETS}", tmp_path / "run"
    quick = ["--train.images", "8", "--train.batch", "4", "--train.preview-images", "0"]
    words = ["--recipe.network", TINY, "--recipe.conditioning", "none", *quick]
    assert main(["train", "ddpm/digits", "--data", data, *words, "--out", str(run)]) == 0
    out = tmp_path / "distilled"
    assert main(["distill", str(run), "--from-steps", "4", "--to", "2", *quick, "--out", str(out)]) == 0
    student = load_model(out / "steps-2")
    assert student.recipe.shape == (3, 8, 16)
    tall = student.sized(8, 16)
    assert tall.recipe.shape == (3, 16, 8)
    assert tall.sample(2).shape == (2, 3, 16, 8)
    assert main(["train", "control/edges", "--from", str(run), *quick, "--out", str(tmp_path / "control")]) == 0
    said = shlex.split(capsys.readouterr().out.strip().rpartition("\n")[2])
    assert said[-1] == f"{data}&bucket=16x8"
    assert main([*said[1:], "--steps", "2", "-n", "2", "--out", str(tmp_path / "drawn")]) == 0


def test_another_size_of_signals_is_one_line() -> None:
    recipe = DDPM((1, 16), ImprovedUNet(channels=8, multipliers=(1,), blocks=1, attention=()))
    model = Model(recipe, recipe.model().eval(), ())
    with pytest.raises(ValueError, match="another size is for models of images, and this one is of signals"):
        model.sized(16, 8)


@pytest.mark.slow
def test_a_size_is_what_the_model_makes_its_pictures_by(folder: Path, tmp_path: Path) -> None:
    """Wide pictures are red in the data and tall ones green; without labels or attributes the size alone says which."""
    model = sfumato.fit(
        f"folder:{folder}?buckets={BUCKETS}", "ddpm/digits", out=tmp_path / "run", images=4_000, batch=8, quiet=True,
        preview_images=0, validation_images=0, threads=1, recipe={"network": TINY, "conditioning": "none"},
    )  # fmt: skip
    for colour, size in ((0, (16, 8)), (1, (8, 16))):
        made = model.sized(*size).sample(8, seed=1)
        assert torch.equal(made.float().mean((2, 3)).argmax(1), torch.full((8,), colour))


def test_a_bucket_that_the_network_does_not_bear_is_refused_before_anything_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = f"folder:{folder}?buckets=16x8,9x8"
    network = "dit?patch=4&width=32&depth=1&heads=2"
    words = ["--recipe.network", network, "--recipe.conditioning", "none", "--train.images", "8", "--out"]
    assert main(["train", "ddpm/digits", "--data", data, *words, str(tmp_path / "run")]) == 2
    assert "8x9 images do not fit" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
