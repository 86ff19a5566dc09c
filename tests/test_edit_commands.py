"""Restoring pictures and kinds of guidance from the command line, with small models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sfumato.cli import main
from sfumato.conditioning import Labels
from tests.models.small import RECIPES, made


@pytest.fixture(scope="module")
def ddpm(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "ddpm.safetensors"
    made(RECIPES["ddpm"]).save(path)
    return str(path)


def picture(path: Path, side: int) -> str:
    pixels = np.random.default_rng(0).integers(60, 200, (side, side), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return str(path)


def edited(out: Path, *arguments: str) -> Any:
    assert main(["edit", *arguments, "--steps", "4", "--out", str(out)]) == 0
    with np.load(out / "draws.npz") as file:
        return file["arr_0"]


@pytest.mark.parametrize("verb", ["superres", "deblur", "restyle"])
def test_pictures_of_a_data_set(verb: str, ddpm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    draws = edited(tmp_path, verb, ddpm, "--data", "digits:test", "-n", "2", "--draws", "3")
    assert draws.shape == (6, 8, 8, 1)
    assert "deviation of the draws" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} >= {"triples.png", "draws.png", "mean.png", "deviation.png"}


def test_a_small_picture_file_is_enlarged(ddpm: str, tmp_path: Path) -> None:
    file = picture(tmp_path / "small.png", 4)
    draws = edited(tmp_path / "out", "superres", ddpm, "--data", file, "--draws", "2", "--method", "diffpir")
    small = draws.astype(float).reshape(2, 4, 2, 4, 2).mean((2, 4))
    seen = np.array(Image.open(file)).astype(float)
    inside = ((draws > 0) & (draws < 255)).reshape(2, 4, 2, 4, 2).all((2, 4))
    assert np.abs(small - seen)[inside].max() < 1


def test_what_does_not_fit_ends_in_one_line(ddpm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments, words in (
        (["superres", "--data", picture(tmp_path / "p.png", 5)], "5x5 pixels; this takes 8x8 or 4x4"),
        (["superres", "--data", "digits:test", "--factor", "3"], "MeanPool by 3"),
        (["superres", "--data", "digits:test", "--factor", "1"], "--factor is between 2"),
        (["deblur", "--data", "digits:test", "--std", "0"], "above 0"),
        (["deblur", "--data", "digits:test", "--method", "mmsp"], "did you mean mmps"),
        (["deblur", "--data", "digits:test", "--steps", "many"], "--steps is a number from 1"),
        (["restyle", "--data", "digits:test", "--strength", "2"], "--strength is above 0 and at most 1"),
        (["restyle", "--data", "digits:test", "--method", "dps"], "sdedit"),
    ):
        assert main(["edit", arguments[0], ddpm, *arguments[1:], "--out", str(tmp_path / "out")]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1


def test_guidance_from_the_command_line(ddpm: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, guide = str(tmp_path / "adm.safetensors"), str(tmp_path / "worse.safetensors")
    made(replace(RECIPES["adm"], conditioning=Labels(3, 0.2)), ("a", "b", "c")).save(Path(model))
    made(RECIPES["ddpm"]).save(Path(guide))
    common = ["-n", "2", "--steps", "4", "--out", str(tmp_path / "out")]
    assert main(["sample", model, *common, "--guidance", "interval?scale=3&high=9"]) == 0
    assert main(["sample", model, *common, "--guidance", "negative?negative=b"]) == 0
    capsys.readouterr()
    assert main(["sample", ddpm, *common, "--guide-model", guide]) == 0
    assert "8 network evaluations" in capsys.readouterr().out
    for arguments, words in (
        (["--guidance", "intervall"], "did you mean interval"),
        (["--guidance", "interval"], "label dropout"),
        (["--guidance", "autoguidance"], "needs a guide"),
        (["--guide-weights", "0.5"], "0.5"),
    ):
        assert main(["sample", ddpm, *common, *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1
