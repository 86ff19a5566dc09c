"""Image-to-image by the command line: from two folders to a sheet, from whole pictures, and what ends in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.cli.inputs import agreement, colour_error
from sfumato.conditioning import Picture
from sfumato.data import open_source
from sfumato.models import Model, load_model
from sfumato.papers.ddpm import DDPM

TINY = ["--train.images", "64", "--train.batch", "16", "--train.threads", "1", "--train.preview-images", "4",
        "--train.preview-steps", "2", "--train.validation-images", "8", "--recipe.network",
        "ddpm-unet?channels=32&multipliers=1&blocks=1&attention=none&dropout=0"]  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Thirty emoji in colour, and grey ones of half the size."""
    root = tmp_path_factory.mktemp("pairs")
    (root / "in").mkdir()
    (root / "out").mkdir()
    for i, image in enumerate(open_source("emoji32?limit=30").images):
        picture = Image.fromarray(image.permute(1, 2, 0).numpy())
        picture.resize((8, 8)).save(root / "out" / f"{i:02d}.png")
        picture.convert("L").resize((4, 4)).save(root / "in" / f"{i:02d}.bmp")
    return root


@pytest.fixture(scope="module")
def run(folders: Path) -> Path:
    pairs = f"pair:{folders}/in|{folders}/out"
    out = folders / "run"
    conditioning = ["--recipe.conditioning", "picture?dropout=0.1"]
    assert main(["train", "ddpm/emoji32", "--data", pairs, *conditioning, *TINY, "--out", str(out)]) == 0
    return out


def test_from_two_folders_to_a_sheet(
    folders: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = load_model(run)
    assert model.recipe.conditioning == Picture(dropout=0.1, shape=(1, 4, 4))
    pairs, out = f"pair:{folders}/in|{folders}/out", tmp_path / "both"
    assert main(["sample", str(run), "--inputs", pairs, "--steps", "2", "--out", str(out)]) == 0
    assert "colour   mean error of each channel" in capsys.readouterr().out
    made = np.load(out / "images.npz")["arr_0"]
    assert made.shape == (30, 8, 8, 3)
    record = json.loads((out / "sample.json").read_text())
    assert record["n"] == 30
    expected = colour_error(torch.from_numpy(made).permute(0, 3, 1, 2), open_source(pairs).images)
    assert record["colour_error"] == expected
    with Image.open(out / "pairs.png") as sheet:
        assert sheet.size == (8 * (2 + 9 * 10), 8 * (2 + 10 * 10))  # three triples a row

    guided = tmp_path / "guided"
    assert main(["sample", str(run), "--inputs", f"{folders}/in", "-n", "3", "--steps", "2", "--scale", "2",
                 "--out", str(guided)]) == 0  # fmt: skip
    assert np.load(guided / "images.npz")["arr_0"].shape == (3, 8, 8, 3)
    assert "colour_error" not in json.loads((guided / "sample.json").read_text())


def test_a_plain_folder_is_brought_to_the_size_of_the_inputs(folders: Path, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "two"
    assert main(["sample", str(run), "--inputs", f"{folders}/out", "-n", "2", "--steps", "2", "--out", str(out)]) == 0
    assert np.load(out / "images.npz")["arr_0"].shape == (2, 8, 8, 3)


def test_inputs_made_of_whole_pictures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = str(tmp_path / "run")
    assert main(["train", "ddpm/digits", "--recipe.conditioning", "labels+picture?by=mask", *TINY, "--out", run]) == 0
    assert f"sfumato sample {run} --originals digits:test" in capsys.readouterr().out
    out = tmp_path / "filled"
    assert main(["sample", run, "--originals", "digits:test?limit=5", "--steps", "2", "--out", str(out)]) == 0
    stored = np.load(out / "images.npz")
    assert stored["arr_0"].shape == (5, 8, 8, 1)
    assert stored["arr_1"].tolist() == open_source("digits:test?limit=5").labels.tolist()  # type: ignore[union-attr]
    assert (out / "pairs.png").is_file()
    assert "agreement" not in json.loads((out / "sample.json").read_text())  # the holes are random


def test_how_well_outputs_keep_to_their_inputs() -> None:
    recipe = DDPM((3, 8, 8), conditioning=Picture("grey"))
    model = Model(recipe, torch.nn.Linear(1, 1))
    images = torch.randint(0, 256, (6, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    grey = images.double().mean(1, keepdim=True).round().byte()
    same = agreement(model, images, grey)
    assert same == {"correlation": pytest.approx(1, abs=1e-3), "absolute": pytest.approx(0, abs=0.5)}
    inverse = agreement(model, 255 - images, grey)
    assert inverse is not None
    assert inverse["correlation"] < -0.99
    pairs = Model(DDPM((3, 8, 8), conditioning=Picture()), model.network)
    assert agreement(pairs, images, images) is None


@pytest.mark.parametrize(("words", "message"), [
    ("--inputs digits", "inputs of 1x4x4"), ("--originals digits", "the model makes"),
    ("--inputs {0}/in --originals digits", "give one of them"), ("", "give --inputs"),
    ("--low-res digits", "no upsampler"),
    ("--inputs {0}/in -n 31", "has 30 pictures as inputs; 31"), ("--inputs {0}/none", "unknown data set"),
    ("--inputs pair:{0}/in|{0}/none", "no folder"), ("--originals {0}/out", "no pairs"),
])  # fmt: skip
def test_bad_inputs_end_in_one_line(
    words: str, message: str, folders: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["sample", str(run), *words.format(folders).split(), "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("words", "message"), [
    ("--data pair:{0}/in|{0}/out", "set conditioning to picture"),
    ("--recipe.conditioning picture", "pair:INPUTS|TARGETS"),
    ("--data pair:{0}/in|{0}/out --recipe.conditioning picture?by=grey", "leave out by=grey"),
    ("--recipe.conditioning picture?by=gray", "did you mean grey"),
    ("--data pair:{0}/in|{0}/out --validation emoji32?size=8 --recipe.conditioning picture", "both pairs, or neither"),
])  # fmt: skip
def test_bad_trainings_end_in_one_line(
    words: str, message: str, folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    assert main(["train", "ddpm/emoji32", *words.format(folders).split(), *TINY, "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert not out.exists()


def test_resume_sees_other_inputs(folders: Path, run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The data of a run are inputs and targets: with others it does not go on."""
    path = folders / "in" / "03.bmp"
    before = path.read_bytes()
    Image.new("L", (4, 4), 7).save(path)
    try:
        assert main(["train", "--resume", str(run), "--train.images", "96"]) != 0
    finally:
        path.write_bytes(before)
    assert "other images" in capsys.readouterr().err
    assert main(["train", "--resume", str(run), "--train.images", "96"]) == 0
