"""The score line from the command line: every sampler, restoring with a mask, techniques of a data set."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.samplers import SAMPLERS
from tests.models.small import OF_2015, RECIPES, made


def saved(recipe: Any, path: Path) -> str:
    replace(made(recipe), about={"data": {"spec": "digits"}}).save(path)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: saved(RECIPES[name], folder / f"{name}.safetensors") for name in ("VP", "VE levels", "ncsn")}


@pytest.mark.parametrize("sampler", [*SAMPLERS, "own"])
def test_every_sampler_has_a_name(
    sampler: str, models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(name: str) -> int:
        common = ["-n", "2", "--steps", "20", "--sampler", sampler, "--out", str(tmp_path / name)]
        return main(["sample", models[name], *common])

    assert sample("VP") == 0
    assert "evaluations of " + ("" if sampler == "own" else sampler) in capsys.readouterr().out
    with np.load(tmp_path / "VP" / "images.npz") as file:
        assert file["arr_0"].shape == (2, 8, 8, 1)
    needs_time = sampler in ("euler-maruyama", "euler-ode", "adaptive")
    assert sample("VE levels") == (2 if needs_time else 0)
    assert (tmp_path / "VE levels").exists() != needs_time
    assert ("separate noise levels" in capsys.readouterr().err) == needs_time


def test_steps_and_network_evaluations_are_told(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps are those that were asked for, whatever they cost; the evaluations are counted."""
    for spec, words in (
        ("heun", "20 steps, 39 network evaluations of heun, in"),
        ("heun?churn=10", "20 steps, 39 network evaluations of heun?churn=10, in"),
        ("predictor-corrector?snr=0.3", "20 steps, 40 network evaluations of predictor-corrector?snr=0.3, in"),
        ("auto", "20 steps, 20 network evaluations of dpmpp-2m?grid=karras, in"),
        ("own", "20 steps, 20 network evaluations of own, in"),
    ):
        out = tmp_path / "told"
        common = ["-n", "3", "--batch", "2", "--steps", "20", "--sampler", spec, "--out", str(out)]
        assert main(["sample", models["VP"], *common]) == 0
        said = capsys.readouterr().out
        assert words in said
        record = json.loads((out / "sample.json").read_text())
        assert f"{record['network_evaluations']:g} network" in said
        assert record["sampler"] == spec


def test_samplers_differ(models: dict[str, str], tmp_path: Path) -> None:
    made = []
    for spec in ("heun", "predictor-corrector", "predictor-corrector?snr=0.3", "ddim?eta=1"):
        out = tmp_path / spec
        assert main(["sample", models["VP"], "-n", "1", "--steps", "5", "--sampler", spec, "--out", str(out)]) == 0
        made.append((out / "images.npz").read_bytes())
    assert len(set(made)) == 4


def test_the_help_lists_every_sampler(capsys: pytest.CaptureFixture[str]) -> None:
    for verb in ("sample", "evaluate"):
        with pytest.raises(SystemExit) as stop:
            main([verb, "--help"])
        assert stop.value.code == 0
        said = capsys.readouterr().out
        assert all(f"\n{name} " in said for name in ("auto", "own", *SAMPLERS))


def test_options_that_do_not_belong_are_refused(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bits = saved(OF_2015["bits"], tmp_path / "bits.safetensors")
    fixed = saved(OF_2015["dpm"], tmp_path / "dpm.safetensors")
    for arguments, words in (
        (["sample", models["VP"], "--sampler", "heun?snr=0.1"], "no option 'snr'; its options: "),
        (["sample", models["VP"], "--sampler", "predictor-corrector?snr=0"], "above 0"),
        (["sample", models["VP"], "--sampler", "ddim?eta=2"], "between 0 and 1"),
        (["sample", models["VP"], "--sampler", "ddim?eta"], "options are written name=value"),
        (["sample", models["VP"], "--sampler", "ancestral?variance=huge"], "small or large"),
        (["sample", models["VP"], "--sampler", "verlet"], "verlet"),
        (["sample", models["VP"], "--sampler", "huen"], "unknown sampler 'huen'; did you mean heun?"),
        (["sample", bits, "--sampler", "heun"], "2015"),
        (["likelihood", fixed, "--method", "ode", "--solver", "4"], "2015"),
        (["compare", "fashion", "--sampler", "huen"], "did you mean heun?"),
        (["evaluate", "digits", "--sampler", "huen"], "did you mean heun?"),
        (["inspect"], "say what to inspect"),
        (["inspect", "digits", "--ncsnv2", "digits"], "say what to inspect"),
        (["inspect", "--ncsnv2", "digit"], "did you mean digits"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1


def test_likelihoods_are_written_each_under_its_name(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dpm = saved(OF_2015["dpm"], tmp_path / "dpm.safetensors")
    for target, options, name, words in (
        (models["VP"], ["--method", "ode", "--solver", "4"], "ode", "16 evaluations"),
        (dpm, ["--steps", "4"], "k", "K - L_null"),
    ):
        out = str(tmp_path / name)
        assert main(["likelihood", target, "--limit", "6", "--out", out, *options]) == 0
        said = capsys.readouterr().out
        assert words in said
        found = json.loads((tmp_path / name / f"{name}.json").read_text())
        assert f"{found['total']:.4f}" in said
        assert found["protocol"]["images"] == 6


def test_inspect_prints_the_techniques(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "--ncsnv2", "digits"]) == 0
    said = capsys.readouterr().out
    assert "sigma_1 = 4.8" in said
    assert "--recipe.first-sigma 4.8 --recipe.steps 21 --recipe.step-size 2.4e-05" in said


# ---------------------------------------------------------------- restoring


def mask(path: Path, known: np.ndarray) -> str:
    Image.fromarray(np.where(known, 255, 0).astype(np.uint8)).save(path)
    return str(path)


def test_inpainting_keeps_what_the_mask_keeps(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = np.zeros((8, 8), dtype=bool)
    left[:, :4] = True
    png, out = mask(tmp_path / "m.png", left), tmp_path / "out"
    common = ["edit", "inpaint", models["VP"], "-n", "3", "--steps", "22", "--source", "digits:test"]
    assert main([*common, "--mask", png, "--out", str(out)]) == 0
    assert "before, what is known, after" in capsys.readouterr().out
    grid = np.array(Image.open(out / "triples.png").convert("L"))
    with np.load(out / "images.npz") as file:
        after = file["arr_0"]
    from sfumato.data import open_source

    images = open_source("digits:test").images
    chosen = images[torch.arange(3) * len(images) // 3].permute(0, 2, 3, 1).numpy()
    assert (after[:, :, :4] == chosen[:, :, :4]).all()
    assert (after[:, :, 4:] != chosen[:, :, 4:]).any()
    assert grid.shape[1] > 2 * grid.shape[0]  # nine pictures in a row


def test_what_cannot_be_restored_is_refused(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small, white = mask(tmp_path / "s.png", np.eye(5) > 0), mask(tmp_path / "w.png", np.ones((8, 8)) > 0)
    (tmp_path / "t.png").write_text("no picture")
    (tmp_path / "e.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n")
    os.mkfifo(tmp_path / "f.png")
    for arguments, words in (
        (["inpaint", models["VP"]], "--mask FILE.png"),
        (["inpaint", models["VP"], "--mask", small], "is 5x5 pixels, the model's images are 8x8"),
        (["inpaint", models["VP"], "--mask", white], "nothing to fill in"),
        (["inpaint", models["VP"], "--mask", str(tmp_path / "t.png")], "no picture"),
        (["inpaint", models["VP"], "--mask", str(tmp_path / "e.png")], "no picture"),
        (["inpaint", models["VP"], "--mask", str(tmp_path / "f.png")], "pipe"),
        (["inpaint", models["VP"], "--mask", str(tmp_path / "absent.png")], "No such file"),
        (["colorize", models["VP"]], "makes grey ones"),
        (["paint", models["VP"]], "edit does one of"),
    ):
        assert main(["edit", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1


def test_colouring_from_the_command_line(tmp_path: Path) -> None:
    model = saved(replace(RECIPES["ncsn"], shape=(3, 8, 8)), tmp_path / "c.safetensors")
    pixels = np.random.default_rng(0).integers(90, 160, (4, 8, 8, 3), dtype=np.uint8)
    np.savez(tmp_path / "pictures.npz", arr_0=pixels)
    common = ["edit", "colorize", model, "--data", f"npz:{tmp_path / 'pictures.npz'}", "-n", "2", "--steps", "10"]
    assert main([*common, "--out", str(tmp_path / "out")]) == 0
    with np.load(tmp_path / "out" / "images.npz") as file:
        assert file["arr_0"].shape == (2, 8, 8, 3)
