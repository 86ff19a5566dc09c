"""The cascade by the command line: measured levels, the least kept, pictures, and what ends in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.conditioning import Labels, Picture, Together
from sfumato.models import load_cascade
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from tests.models.small import made

NETWORK = HoUNet(channels=32, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0)
DIGITS = tuple(map(str, range(10)))


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A model of 4x4 digits and an upsampler to 8x8, with random weights."""
    root = tmp_path_factory.mktemp("stages")
    base = made(DDPM((1, 4, 4), NETWORK, Labels(10), prediction="v", betas="cosine", steps=20), DIGITS)
    twice = Together((Labels(10), Picture("mean-pool?factor=2", noise=0.5)))
    up = made(DDPM((1, 8, 8), NETWORK, twice, prediction="v", betas="cosine", steps=20), DIGITS)
    for name, model in (("base", base), ("up", up)):
        model.about["data"] = {"spec": "digits"}
        model.save(root / f"{name}.safetensors")
    return str(root / "base.safetensors"), str(root / "up.safetensors")


def test_two_models_become_one_that_samples(
    stages: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, drawn = tmp_path / "the two?", tmp_path / "drawn"
    assert main(["cascade", *stages, "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "4x4 -> 8x8, noise on the inputs 0.1" in said
    assert f"sfumato sample '{out}'" in said
    words = ["-n", "6", "--steps", "2", "--classes", "3", "--level", "0.2", "--out", str(drawn)]
    assert main(["sample", str(out), *words]) == 0
    assert "6 pictures of 8x8, 2 stages, 4 steps in all" in capsys.readouterr().out
    found = np.load(drawn / "images.npz")
    assert found["arr_0"].shape == (6, 8, 8, 1)
    assert found["arr_1"].tolist() == [3] * 6
    assert json.loads((drawn / "sample.json").read_text())["levels"] == [0.2]
    beside = ["-n", "1", "--steps", "2", "--classes", "3", "--out", str(out)]
    assert main(["sample", stages[0], *beside]) == 0  # of the base alone: the cascade is where to, not what of
    assert np.load(out / "images.npz")["arr_0"].shape == (1, 4, 4, 1)
    expected = load_cascade(out).with_levels([0.2]).sample(6, steps=2, classes=["3"])
    assert torch.equal(torch.from_numpy(found["arr_0"]).permute(0, 3, 1, 2), expected)
    with Image.open(drawn / "rows.png") as rows:
        assert rows.size[0] > rows.size[1]


def test_the_level_of_the_least_distance_is_kept(
    stages: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "measured"
    words = ["--measure", "0", "0.3", "-n", "16", "--reference", "digits:test", "--out", str(out)]
    assert main(["cascade", *stages, *words]) == 0
    said = capsys.readouterr().out
    assert "of 16 pictures against" in said
    found = load_cascade(out)
    measured = found.about["measured"]
    assert measured["levels"] == [0, 0.3]
    assert measured["distances"][0] != measured["distances"][1]
    assert found.levels == (measured["levels"][int(np.argmin(measured["distances"]))],)
    again = tmp_path / "again"
    assert main(["cascade", str(out), "--level", "0.4", "--out", str(again)]) == 0
    assert load_cascade(again).levels == (0.4,)


@pytest.mark.parametrize(("words", "message"), [
    ("{0} {0} --out {2}", "an upsampler is a model"),
    ("{0} --out {2}", "a model and an upsampler"),
    ("{0} {1} --level 0.6 --out {2}", "at most that of training, 0.5"),
    ("{0} {1} --level 2 --out {2}", "--level is"),
    ("{0} {1} --out {0}", "is there already"),
    ("{0} nothing --out {2}", "no such run folder"),
    ("{0} {1} --measure 0 --reference fashion:test -n 16 --out {2}", "the feature net fashion is for images of 28x28"),
])  # fmt: skip
def test_what_does_not_fit_ends_in_one_line(
    words: str, message: str, stages: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["cascade", *words.format(*stages, out).split()]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert not out.exists()


def test_a_cascade_asked_for_too_much_says_so(
    stages: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "both"
    assert main(["cascade", *stages, "--out", str(out)]) == 0
    capsys.readouterr()
    for command, message in (
        (["sample", str(out), "--classes", "x"], "unknown class 'x'"),
        (["sample", str(out), "--scale", "2", "2", "2"], "there are 2 stages"),
        (["sample", str(out), "--scale", "2"], "label dropout"),
        (["evaluate", str(out)], "is a cascade of several models"),
    ):
        assert main([*command, *(["--out", str(tmp_path / "no")] if command[0] == "sample" else [])]) == 2
        said = capsys.readouterr().err.strip()
        assert message in said
        assert "\n" not in said
    assert not (tmp_path / "no").exists()
