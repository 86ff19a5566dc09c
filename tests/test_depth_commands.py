"""From pictures of 16 bits, and of floats, to a sampled sheet by the command line: train, sample, measure, edit."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.data import eight_bits, open_source, pictures
from sfumato.data.deep_files import write_all
from sfumato.models.loading import load_model

TINY = "ddpm-unet?channels=16&multipliers=1,2&blocks=1&attention=2"
ARGUMENTS = [
    "--recipe.network", TINY, "--recipe.steps", "4", "--train.images", "6", "--train.batch", "6",
    "--train.preview-steps", "2", "--train.validation-images", "8",
]  # fmt: skip
RNG = np.random.default_rng(0)
BANDS = torch.from_numpy(RNG.integers(0, 4096, (6, 5, 8, 12), dtype=np.uint16))


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A folder of TIFF files of five pages, 12-bit numbers in 16, shown by three of them; and a run trained on it."""
    folder = tmp_path_factory.mktemp("scenes")
    write_all(folder / "tiles", BANDS)
    data, out = f"folder:{folder}/tiles?channels=5&show=4,2,1&window=0,0.0625", folder / "run"
    assert main(["train", "ddpm/digits", "--data", data, *ARGUMENTS, "--out", str(out)]) == 0
    return data, out


def test_multispectral_tiff_to_a_sheet(
    scenes: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = scenes
    assert torch.equal(open_source(data).images, BANDS)
    card = json.loads((run / "data_card.json").read_text())
    assert (card["levels"], card["bits"]) == (65536, "16 bits a channel")
    assert json.loads((run / "config.json").read_text())["recipe"]["space"]["levels"] == 65536
    out = tmp_path / "made"
    assert main(["sample", str(run), "-n", "4", "--steps", "2", "--out", str(out)]) == 0
    assert "sheets show 0 to 4095.94 as 8 bits" in capsys.readouterr().out
    with np.load(out / "images.npz") as file:
        made = torch.from_numpy(file["arr_0"].transpose(0, 3, 1, 2).copy())
    assert made.dtype == torch.uint16
    assert made.shape == (4, 5, 8, 12)
    sheet = pictures.grid(made, show=pictures.View((3, 1, 0), (0, 0.0625)))
    assert np.array_equal(np.array(Image.open(out / "grid.png")), sheet.permute(1, 2, 0).numpy())
    assert torch.equal(open_source(f"folder:{out}/pictures?channels=5").images, made)  # TIFF files of that depth
    assert len(made.unique()) > 256
    model = load_model(str(run))
    assert torch.equal(model.sample(2, steps=2, seed=0), made[:2])


def test_likelihoods_and_edits_of_16_bits(
    scenes: tuple[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, run = scenes
    assert main(["likelihood", str(run), "--out", str(tmp_path / "bound")]) == 0
    bound = json.loads((tmp_path / "bound" / "bound.json").read_text())
    assert "65536 bins" in bound["protocol"]["decoder"]
    edited = tmp_path / "edited"
    assert main(["edit", "reconstruct", str(run), "-n", "2", "--steps", "2", "--out", str(edited)]) == 0
    with np.load(edited / "images.npz") as file:
        assert file["arr_0"].dtype == np.uint16
    assert Image.open(edited / "pairs.png").mode == "RGB"
    drawn = tmp_path / "drawn"
    assert main(["edit", "restyle", str(run), "--data", data, "-n", "2", "--steps", "2", "--out", str(drawn)]) == 0
    with np.load(drawn / "draws.npz") as file:
        assert file["arr_0"].dtype == np.uint16


def test_floats_come_back_in_their_units(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    real = RNG.uniform(-1000, 3000, (8, 8, 8)).astype(np.float32)
    np.save(tmp_path / "ct.npy", real)
    data, run, out = f"npy:{tmp_path}/ct.npy?values=-1000,3000", tmp_path / "run", tmp_path / "made"
    assert main(["train", "ddpm/digits", "--data", data, *ARGUMENTS, "--out", str(run)]) == 0
    assert "sheets show -1000 to 3000 as 8 bits" in capsys.readouterr().out
    assert main(["sample", str(run), "-n", "3", "--steps", "2", "--out", str(out)]) == 0
    with np.load(out / "images.npz") as file:
        made = file["arr_0"][..., 0]
    assert made.dtype == np.float32
    inside = load_model(str(run)).sample(3, steps=2, seed=0)
    assert inside.dtype == torch.float32
    assert torch.allclose(torch.from_numpy((made + 1000) / 2000 - 1), inside[:, 0], atol=1e-5)
    sheet = np.array(Image.open(out / "grid.png"))
    assert np.array_equal(sheet, pictures.grid(eight_bits(inside))[0].numpy())
    with Image.open(out / "pictures" / "00001.tif") as file:
        assert np.array_equal(np.asarray(file), made[1])
    assert main(["likelihood", str(run), "--data", data, "--out", str(tmp_path / "bound")]) == 0
    assert "nats/dim" in capsys.readouterr().out
    assert main(["train", "ddpm/digits", "--data", f"npy:{tmp_path}/ct.npy", *ARGUMENTS]) == 2
    assert "say what black and white are" in capsys.readouterr().err


def test_an_evaluation_says_that_nets_see_8_bits(scenes: tuple[str, Path]) -> None:
    from sfumato.evaluate.samples import SHALLOW, from_images, of_tensor

    data, _ = scenes
    found = from_images(open_source(data))
    assert (found.images.dtype, found.quantiser) == (torch.uint8, SHALLOW)
    assert torch.equal(found.images, eight_bits(BANDS))
    assert of_tensor(BANDS).quantiser == SHALLOW


def test_whoever_is_given_the_model_is_told_the_depth(scenes: tuple[str, Path], tmp_path: Path) -> None:
    """The hub's card, and what a served model says of itself and shows."""
    from sfumato.hub.card import _use
    from sfumato.serve.work import Served

    _, run = scenes
    model = load_model(str(run))
    about = Served(model, "scenes").about()
    assert about["levels"] == 65536
    made = model.sample(2, steps=2)
    shown = Served(model, "scenes")._shown(made)
    view = pictures.View((3, 1, 0), (0, 0.0625))
    with Image.open(io.BytesIO(base64.b64decode(shown["sheet"]))) as file:
        assert np.array_equal(np.asarray(file), pictures.grid(made, show=view).permute(1, 2, 0).numpy())
    assert "uint16 (16, C, H, W)" in _use(model)
