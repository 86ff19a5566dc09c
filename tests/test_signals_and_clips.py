"""Signals and clips by the command line: from an npz to drawn samples, and what ends in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato import papers
from sfumato.cli import main
from sfumato.data import open_source
from sfumato.data.drawing import GAP, HEIGHT, WIDTH
from sfumato.models import load_model
from sfumato.papers.training import TrainConfig
from sfumato.train.loop import train

TINY = [
    "--recipe.steps", "20", "--train.images", "32", "--train.batch", "8", "--train.preview-images", "4",
    "--train.preview-steps", "2", "--train.validation-images", "8", "--recipe.network",
    "improved-unet?channels=16&multipliers=1,2&blocks=1&attention=2&heads=1&dropout=0",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Runs of a moment: `waves` on signals of two channels, `films` on clips in two classes; their data beside."""
    root = tmp_path_factory.mktemp("dims")
    chance = np.random.default_rng(0)
    np.savez(root / "waves.npz", signals=np.sin(chance.random((16, 2, 1)) * np.arange(16)).astype(np.float32))
    clips = chance.integers(0, 256, (16, 1, 4, 8, 8), np.uint8)
    np.savez(root / "films.npz", clips=clips, labels=np.arange(16) % 2)
    for name in ("waves", "films"):
        words = ["--data", f"npz:{root / name}.npz", "--out", str(root / name), *TINY]
        assert main(["train", "ddpm/digits", *words]) == 0
    return root


def test_signals_become_curves_and_floats(folder: Path, tmp_path: Path) -> None:
    (preview, *_) = sorted((folder / "waves" / "samples").glob("*-ema.png"))
    sheet = (2 * (WIDTH + GAP) + GAP, 2 * (HEIGHT + GAP) + GAP)
    assert Image.open(preview).size in (sheet, (WIDTH + 2 * GAP, 4 * (HEIGHT + GAP) + GAP))
    assert main(["sample", str(folder / "waves"), "-n", "3", "--steps", "3", "--out", str(tmp_path / "three")]) == 0
    found = open_source(f"npz:{tmp_path / 'three' / 'images.npz'}")
    model = load_model(folder / "waves")
    assert torch.equal(found.images, model.sample(3, steps=3))
    assert found.images.dtype == torch.float32
    assert len(found.images.unique()) > 90
    assert Image.open(tmp_path / "three" / "grid.png").size[0] >= WIDTH


def test_clips_become_rows_of_frames_and_an_animation(folder: Path, tmp_path: Path) -> None:
    (preview, *_) = sorted((folder / "films" / "samples").glob("*-ema.png"))
    with Image.open(preview) as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
    words = ["sample", str(folder / "films"), "-n", "3", "--steps", "3", "--classes", "1", "--animation"]
    assert main([*words, "--out", str(tmp_path / "three")]) == 0
    found = open_source(f"npz:{tmp_path / 'three' / 'images.npz'}")
    assert found.shape == (1, 4, 8, 8)
    assert found.labels is not None
    assert found.labels.tolist() == [1, 1, 1]
    assert torch.equal(found.images, load_model(folder / "films").sample(3, steps=3, classes=["1"]))
    with Image.open(tmp_path / "three" / "clips.gif") as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
    with Image.open(tmp_path / "three" / "grid.png") as sheet:
        assert sheet.size == (4 * (4 * 10 + 2), 4 * (3 * 10 + 2))  # 4 frames of 8, 3 rows, four times as large


@pytest.mark.parametrize(("name", "said"), [("waves", "16, 16 numbers in 2 channels"), ("films", "4 frames of 8x8")])
def test_the_report_holds_its_data_and_previews(folder: Path, name: str, said: str) -> None:
    page = (folder / name / "report.html").read_text()
    assert said in page
    assert page.count("data:image/png;base64") >= 2
    rows = [json.loads(line) for line in (folder / name / "metrics.jsonl").read_text().splitlines()]
    (*_, validation) = [row for row in rows if row["kind"] == "validation"]
    assert len(validation["ema"]) == 8
    assert all(0 < loss < 100 for loss in validation["ema"])


@pytest.mark.parametrize("name", ["waves", "films"])
def test_likelihood_interpolation_and_reconstruction(
    folder: Path, name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, data = str(folder / name), ["--data", f"npz:{folder / name}.npz"]
    assert main(["likelihood", run, *data, "--limit", "4", "--out", str(tmp_path / "bound")]) == 0
    printed = capsys.readouterr().out
    assert ("nats/dim" if name == "waves" else "bits/dim") in printed
    assert main(["edit", "reconstruct", run, *data, "-n", "2", "--steps", "20", "--out", str(tmp_path / "back")]) == 0
    back, true = open_source(f"npz:{tmp_path / 'back' / 'images.npz'}"), open_source(data[1])
    assert back.shape == true.shape
    assert len(back) == 2
    rows = ["--steps", "3", "-n", "2", "--points", "3", "--out", str(tmp_path / "rows")]
    assert main(["edit", "interpolate", run, *rows]) == 0
    assert len(open_source(f"npz:{tmp_path / 'rows' / 'images.npz'}")) == 6


@pytest.mark.parametrize("name", ["waves", "films"])
def test_a_run_goes_on_bit_for_bit(folder: Path, name: str, tmp_path: Path) -> None:
    images, model = open_source(f"npz:{folder / name}.npz"), sfumato.load(folder / name)
    config = {"recipe": papers.to_json(model.recipe)}
    rest: dict[str, Any] = {"batch": 8, "threads": 1, "decay": "constant", "preview_images": 0, "validation_images": 0}
    long, short = TrainConfig(images=32, **rest), TrainConfig(images=16, **rest)
    train(model.recipe, images, long, tmp_path / "whole", config=config)
    train(model.recipe, images, short, tmp_path / "parts", config=config)
    train(model.recipe, images, long, tmp_path / "parts", config=config, resume=True)
    a, b = (sfumato.load(tmp_path / run, weights="online").network.state_dict() for run in ("whole", "parts"))
    assert all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("name", ["waves", "films"])
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["evaluate", "RUN", "--reference", "moving_digits:test"], "is for images, not for"),
        (["edit", "superres", "RUN", "--data", "DATA"], "restoring is for images"),
        (["prepare", "DATA", "OUT"], "an npz or npy is read as it is"),
        (["convert", "RUN", "--to", "official", "--out", "OUT.pt"], "for images, not for"),
        (["serve", "RUN", "--port", "0"], "sfumato serve is for images"),
        (["train", "edm/digits", "--data", "DATA", "--recipe.conditioning", "augmented", "--out", "OUT"],
         "an augmentation is for images"),
        (["train", "ddpm/digits", "--data", "DATA", "--recipe.conditioning", "picture?by=grey", "--out", "OUT"],
         "which have none"),
        (["train", "jit/digits", "--data", "DATA", "--out", "OUT"], "the network jit does not take"),
        (["train", "ddpm/digits", "--data", "DATA", "--recipe.network.multipliers", "1", "1", "1", "1", "1", "1",
          "--out", "OUT"], "multiples of 32: 32"),
        (["train", "ddpm/digits", "--data", "DATA", "--train.fd-every", "0.5", "--out", "OUT"],
         "is for images, not for"),
    ],
)  # fmt: skip
def test_what_is_for_images_alone_says_so_in_one_line(
    folder: Path, name: str, words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    meant = {"RUN": str(folder / name), "DATA": f"npz:{folder / name}.npz", "OUT": str(tmp_path / "out")}
    meant["OUT.pt"] = f"{tmp_path / 'out'}.pt"
    assert main([meant.get(word, word) for word in words]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("sfumato:")]
    assert said in line
    assert not list(tmp_path.iterdir())


def test_signals_are_not_mirrored(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--data", f"npz:{folder}/waves.npz", "--train.flip", "--out", str(tmp_path / "out")]
    assert main(["train", "ddpm/digits", *words]) == 2
    assert "holds signals" in capsys.readouterr().err


def test_one_call_trains_on_an_array(tmp_path: Path) -> None:
    waves = open_source("signals?limit=16").images.numpy()
    network = {"network": TINY[-1]}
    model = sfumato.fit(waves, "ddpm/signals", images=16, batch=8, out=tmp_path / "run", options="kind=signals",
                        recipe=network, preview_images=0, quiet=True)  # fmt: skip
    assert model.recipe.shape == (1, 128)
    assert model.sample(2, steps=2).shape == (2, 1, 128)
