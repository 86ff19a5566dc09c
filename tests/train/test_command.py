"""What `sfumato train` makes of its arguments: other parts of a recipe by their names, and what the data decide."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from torch import Tensor

from sfumato.cli import main
from sfumato.cli.train import with_parts
from sfumato.conditioning import Labels, LowRes, Unconditional
from sfumato.data.loader import to_float
from sfumato.fitting import check_validation, fit_to_data
from sfumato.networks.ncsnpp import NCSNpp
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.dpm import DPM
from sfumato.papers.edm import EDM
from tests.train import toy

TINY = ["--train.images", "64", "--train.batch", "16", "--train.preview-images", "2", "--train.preview-steps", "2",
        "--train.validation-images", "8", "--train.precision", "float32", "--train.threads", "1"]  # fmt: skip


def test_a_flag_names_another_part() -> None:
    words = ["--recipe.network", "ncsnpp?channels=64", "--out", "here", "--recipe.conditioning=labels?dropout=0.1",
             "--recipe.network.channels", "32"]  # fmt: skip
    recipe, rest = with_parts(DDPM(), words)
    assert recipe == DDPM(network=NCSNpp(channels=64), conditioning=Labels(dropout=0.1))
    assert rest == ["--out", "here", "--recipe.network.channels", "32"]
    assert with_parts(DDPM(), ["--train.minutes", "1"]) == (DDPM(), ["--train.minutes", "1"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--recipe.network", "unets"], "unknown network 'unets'"),
        (["--recipe.network"], "unknown network ''"),
        (["--recipe.network", "ddpm-unet?width=3"], "network ddpm-unet has no option 'width'; its options: channels"),
        (["--recipe.conditioning", "labels?dropout=2"], "dropout is at least 0 and below 1, not 2"),
    ],
)
def test_a_wrong_part_is_one_line(capsys: pytest.CaptureFixture[str], words: list[str], said: str) -> None:
    assert main(["train", "ddpm/digits", *words]) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert heard.count("\n") == 1


@pytest.mark.parametrize(
    ("preset", "part"),
    [
        ("consistency/digits", "noising"), ("dpm/digits", "noising"), ("autoencoder/digits", "noising"),
        ("adm_classifier/digits", "noising"), ("ddpm/digits", "of"),
    ],
)  # fmt: skip
def test_a_part_that_a_recipe_has_not_is_one_line(capsys: pytest.CaptureFixture[str], preset: str, part: str) -> None:
    for words in ([f"--recipe.{part}", "independent"], [f"--recipe.{part}=independent"]):
        assert main(["train", preset, *words]) == 2
        heard = capsys.readouterr().err
        assert f"unknown option '--recipe.{part}'" in heard
        assert heard.count("\n") == 1


def test_the_data_decide_shape_classes_and_moments(capsys: pytest.CaptureFixture[str]) -> None:
    images = toy.images()
    assert fit_to_data(DDPM(conditioning=Labels(7, 0.1)), images) == DDPM((1, 8, 8), conditioning=Labels(3, 0.1))
    assert fit_to_data(DDPM(), images) == DDPM((1, 8, 8)), "a recipe without labels stays so"
    plain = replace(images, labels=None, classes=())
    assert fit_to_data(DDPM(conditioning=Labels(7, 0.1)), plain) == DDPM((1, 8, 8), conditioning=Unconditional())
    assert "training without classes" in capsys.readouterr().out
    fitted = fit_to_data(DPM(), images)
    x0 = images.images.float() / 127.5 - 1
    assert fitted.space.mean == pytest.approx(float(x0.mean()))
    assert fit_to_data(replace(fitted, steps=7), toy.images(seed=1), moments=False).space == fitted.space


def test_moments_are_measured_a_part_of_the_images_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A set that is a file may be larger than memory: no more of it is turned into floats than a block."""
    images, seen = toy.images(), []

    def noted(pixels: Tensor) -> Tensor:
        seen.append(pixels.numel())
        return to_float(pixels)

    whole = fit_to_data(EDM(), images).space
    monkeypatch.setattr("sfumato.fitting.to_float", noted)
    monkeypatch.setattr("sfumato.fitting.BLOCK", 1000)
    parts = fit_to_data(EDM(), images).space
    assert parts.std == pytest.approx(whole.std, rel=1e-12)
    assert max(seen) <= 1000
    assert sum(seen) == images.images.numel()


def test_labels_of_validation_images_mean_what_those_of_the_training_images_mean(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images, held_out = toy.images(), toy.images(16, seed=1)
    recipe = fit_to_data(DDPM(conditioning=Labels(3, 0.1)), images)
    check_validation(recipe, images, held_out)
    check_validation(recipe, images, replace(toy.images(16, 2), classes=images.classes[:2]))
    bare, turned = replace(held_out, labels=None, classes=()), replace(held_out, classes=images.classes[::-1])
    with pytest.raises(ValueError, match="the model has classes, and the validation images, bars, have no labels"):
        check_validation(recipe, images, bare)
    with pytest.raises(ValueError, match="validation images are bar2, bar1, bar0, those of the training images bar0"):
        check_validation(recipe, images, turned)
    for other in (bare, turned):
        check_validation(replace(recipe, conditioning=Unconditional()), images, other)
    words = ["train", "adm/digits", *TINY, "--validation", "digits:test?classes=9,8,7", "--out", str(tmp_path / "run")]
    assert main(words) == 2
    heard = capsys.readouterr().err
    assert "the classes of the validation images are 9, 8, 7, those of the training images 0, 1, 2, 3, 4, ..." in heard
    assert heard.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_what_the_data_cannot_give_is_refused() -> None:
    images = toy.images()
    with pytest.raises(ValueError, match="a classifier needs labelled data"):
        fit_to_data(NoisyClassifier(), replace(images, labels=None, classes=()))
    with pytest.raises(ValueError, match="needs larger, square training images"):
        fit_to_data(DDPM(conditioning=LowRes(8)), images)


def test_another_network_is_trained_and_sampled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From the command line alone: the checkpoint carries the network, and no flag is typed twice."""
    parts = ["--recipe.network", "improved-unet?channels=32&multipliers=1&blocks=1&attention=none",
             "--recipe.conditioning", "labels?dropout=0.2", "--recipe.network.dropout", "0.1"]  # fmt: skip
    out = tmp_path / "run"
    assert main(["train", "ddpm/digits", *parts, "--out", str(out), *TINY]) == 0
    recipe = json.loads((out / "config.json").read_text())["recipe"]
    assert recipe["network"]["kind"] == "improved-unet"
    assert recipe["network"]["dropout"] == 0.1
    assert recipe["conditioning"] == {"kind": "labels", "classes": 10, "dropout": 0.2}
    assert (out / "samples" / "000000064-ema.png").is_file()
    assert f"sfumato sample {out}" in capsys.readouterr().out


def test_an_upsampler_is_trained(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    small = ["--recipe.network", "ddpm-unet?channels=32&multipliers=1&blocks=1&attention=none"]
    out = tmp_path / "run"
    words = ["train", "ddpm/digits", *small, "--recipe.conditioning", "low-res?picture=4", "--out", str(out), *TINY]
    assert main(words) == 0
    assert "--low-res digits:test" in capsys.readouterr().out
