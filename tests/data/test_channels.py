"""More channels than three: transparency as it is stored, pages and bands, and how they are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.data import DataError, open_source, pictures
from sfumato.data.prepare import prepare

TINY = "ddpm-unet?channels=16&multipliers=1,2&blocks=1&attention=2"
PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 12, 5), np.uint8)


@pytest.fixture(scope="module")
def cut_out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six RGBA files of 12x8."""
    folder = tmp_path_factory.mktemp("alpha")
    for i, pixels in enumerate(PIXELS):
        Image.fromarray(pixels[..., :4]).save(folder / f"{i}.png")
    return folder


def test_transparency_is_kept_where_it_is_asked_for(cut_out: Path) -> None:
    images = open_source(f"folder:{cut_out}?channels=4")
    assert torch.equal(images.images, torch.from_numpy(PIXELS[..., :4].transpose(0, 3, 1, 2)))
    assert open_source(f"folder:{cut_out}").shape == (3, 8, 12)
    assert open_source(f"folder:{cut_out}?channels=2").shape == (2, 8, 12)


def test_nothing_shines_through_what_is_transparent(tmp_path: Path) -> None:
    """Resampling weighs colours by their alpha: red beside transparent blue stays red."""
    pixels = np.zeros((8, 8, 4), np.uint8)
    pixels[:, :4], pixels[:, 4:] = (255, 0, 0, 255), (0, 0, 255, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    small = open_source(f"folder:{tmp_path}?channels=4&size=3").images[0]
    seen = small[3] > 8
    assert 0 < seen.sum() < 9 or seen.all()
    assert small[2][seen].max() <= 4
    assert small[0][seen].min() >= 250


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_arrays_have_any_number_of_channels(layout: str, tmp_path: Path) -> None:
    wanted = torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy())
    np.save(tmp_path / "a.npy", PIXELS if layout == "NHWC" else wanted.numpy())
    images = open_source(f"npy:{tmp_path}/a.npy")
    assert torch.equal(images.images, wanted)
    assert len(images.card.mean) == 5
    for source in (f"npy:{tmp_path}/a.npy?size=6x4", f"npy:{tmp_path}/a.npy?channels=5&size=6x4"):
        assert open_source(source).shape == (5, 4, 6)


def test_pages_and_bands_are_channels(tmp_path: Path) -> None:
    pages = [Image.fromarray(PIXELS[0, ..., c]) for c in range(5)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    images = open_source(f"folder:{tmp_path}?channels=5")
    assert torch.equal(images.images[0], torch.from_numpy(PIXELS[0].transpose(2, 0, 1)))
    with pytest.raises(DataError, match="5 pages, where channels=4"):
        open_source(f"folder:{tmp_path}?channels=4")


def test_prepared_sets_keep_their_channels(cut_out: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "five.npy", PIXELS)
    for source in (f"folder:{cut_out}?channels=4", f"npy:{tmp_path}/five.npy"):
        out = tmp_path / source[:3]
        prepared = prepare(source, out)
        assert not isinstance(prepared, str)
        assert torch.equal(prepared.images, open_source(source).images)
    with pytest.raises(DataError, match="at most 4 channels"):
        prepare(f"npy:{tmp_path}/five.npy", tmp_path / "shards", shard=3)


def test_what_is_shown() -> None:
    images = torch.arange(5).byte()[None, :, None, None].expand(2, 5, 3, 3)
    assert pictures.visible(images)[0, :, 0, 0].tolist() == [0, 1, 2]
    assert pictures.visible(images, pictures.View((4, 2, 0)))[0, :, 0, 0].tolist() == [4, 2, 0]
    assert pictures.visible(images[:, :2])[0, :, 0, 0].tolist() == [0]
    with pytest.raises(ValueError, match="at most 4 channels"):
        pictures.to_pillow(images[0])


def test_from_a_folder_of_four_channels_to_a_sheet(cut_out: Path, tmp_path: Path) -> None:
    arguments = ["--recipe.network", TINY, "--recipe.steps", "4", "--train.images", "6", "--train.batch", "6"]
    data = f"folder:{cut_out}?channels=4&show=4,2,1"
    out = tmp_path / "run"
    assert (
        main(["train", "ddpm/digits", "--data", data, *arguments, "--train.preview-steps", "2", "--out", str(out)]) == 0
    )
    assert main(["sample", str(out), "-n", "4", "--steps", "2", "--out", str(tmp_path / "four")]) == 0
    with np.load(tmp_path / "four" / "images.npz") as file:
        made = file["arr_0"]
    assert made.shape == (4, 8, 12, 4)
    sheet = pictures.grid(torch.from_numpy(made.transpose(0, 3, 1, 2).copy()), show=pictures.View((3, 1, 0)))
    assert np.array_equal(np.array(Image.open(tmp_path / "four" / "grid.png")), sheet.permute(1, 2, 0).numpy())
    assert main(["likelihood", str(out), "--data", f"folder:{cut_out}?channels=4"]) == 0
    plain = f"folder:{cut_out}?channels=4"
    for verb, name, show in (("reconstruct", "pairs.png", (0, 1, 2)), ("restyle", "mean.png", (3, 1, 0))):
        chosen = plain + "&show=1,2,3" * (verb == "reconstruct")  # else as in training
        edited = tmp_path / verb
        words = [verb, str(out), "--data", chosen, "-n", "2", "--steps", "2", "--out", str(edited)]
        assert main(["edit", *words]) == 0
        with np.load(edited / "images.npz") as file:
            after = torch.from_numpy(file["arr_0"].transpose(0, 3, 1, 2).copy())
        picture = np.array(Image.open(edited / name))
        if verb == "reconstruct":
            before = open_source(plain).images
            pairs = torch.stack([before[[0, len(before) // 2]], after], dim=1).flatten(0, 1)
            assert np.array_equal(picture, pictures.grid(pairs, 8, show=pictures.View(show)).permute(1, 2, 0).numpy())
        else:
            with np.load(edited / "draws.npz") as file:
                draws = torch.from_numpy(file["arr_0"].transpose(0, 3, 1, 2).reshape(2, -1, 4, 8, 12).copy())
            mean = pictures.grid(draws.float().mean(1).round().byte(), show=pictures.View(show))
            assert np.abs(picture - mean.permute(1, 2, 0).numpy().astype(float)).max() <= 2
    only = next(cut_out.glob("*.png"))
    assert main(["edit", "restyle", str(out), "--data", str(only), "--out", str(tmp_path / "x")]) == 2
