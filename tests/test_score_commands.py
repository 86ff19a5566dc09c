"""The score line from the command line: every sampler, restoring with a mask, techniques of a data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.model import Model
from sfumato.papers.dpm import DPM
from tests.test_lenses import RECIPES

SAMPLERS = ("heun", "reverse-diffusion", "euler-maruyama", "flow", "predictor-corrector", "annealed-langevin")


def saved(recipe: Any, path: Path) -> str:
    torch.manual_seed(0)
    network = recipe.model().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    Model(recipe, network, about={"data": {"spec": "digits"}}).save(path)
    return str(path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("models")
    return {name: saved(RECIPES[name], folder / f"{name}.safetensors") for name in ("VP", "VE levels", "ncsn")}


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_has_a_name(
    sampler: str, models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def sample(name: str) -> int:
        common = ["-n", "2", "--steps", "4", "--sampler", sampler, "--out", str(tmp_path / name)]
        return main(["sample", models[name], *common])

    assert sample("VP") == 0
    with np.load(tmp_path / "VP" / "images.npz") as file:
        assert file["arr_0"].shape == (2, 8, 8, 1)
    needs_time = sampler in ("euler-maruyama", "flow")
    for name in ("VE levels", "ncsn"):
        assert sample(name) == (2 if needs_time else 0)
        assert (tmp_path / name).exists() != needs_time
        assert ("separate noise levels" in capsys.readouterr().err) == needs_time


def test_samplers_differ(models: dict[str, str], tmp_path: Path) -> None:
    made = []
    for options in (["heun"], ["predictor-corrector"], ["predictor-corrector", "--snr", "0.3"]):
        out = tmp_path / "-".join(options)
        assert main(["sample", models["VP"], "-n", "1", "--steps", "5", "--sampler", *options, "--out", str(out)]) == 0
        made.append((out / "images.npz").read_bytes())
    assert len(set(made)) == 3


def test_options_that_do_not_belong_are_refused(
    models: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_2015 = DPM(shape=(1, 8, 8), hidden=8, scales=1, dense=8, steps=20)
    dpm = saved(of_2015, tmp_path / "dpm.safetensors")
    for arguments, words in (
        (["sample", models["VP"], "--sampler", "heun", "--snr", "0.1"], "belongs to"),
        (["sample", models["VP"], "--sampler", "predictor-corrector", "--snr", "0"], "above 0"),
        (["sample", models["VP"], "--sampler", "verlet"], "verlet"),
        (["sample", dpm, "--sampler", "heun"], "2015"),
        (["inspect"], "say what to inspect"),
        (["inspect", "digits", "--ncsnv2", "digits"], "say what to inspect"),
        (["inspect", "--ncsnv2", "digit"], "did you mean digits"),
    ):
        assert main(arguments) == 2
        assert words in capsys.readouterr().err


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
    for arguments, words in (
        (["inpaint", models["VP"]], "--mask FILE.png"),
        (["inpaint", models["VP"], "--mask", small], "is 5x5 pixels, the model's images are 8x8"),
        (["inpaint", models["VP"], "--mask", white], "nothing to fill in"),
        (["inpaint", models["VP"], "--mask", str(tmp_path / "t.png")], "no picture"),
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
