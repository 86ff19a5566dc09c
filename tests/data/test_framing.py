"""Framing: rectangles, random parts and padding against their definitions, and the same parts after a resume."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import DataError, open_source
from sfumato.data.framing import place_at, place_of
from sfumato.data.prepare import prepare
from sfumato.data.sources import parse_spec
from sfumato.data.stream import open_for_training

WIDTH, HEIGHT = 40, 24


@pytest.fixture(scope="module")
def ramps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six pictures whose red is the column, green the row, blue the number of the picture."""
    folder = tmp_path_factory.mktemp("ramps")
    for i in range(6):
        picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        picture[..., 0], picture[..., 1], picture[..., 2] = np.arange(WIDTH), np.arange(HEIGHT)[:, None], i
        Image.fromarray(picture).save(folder / f"{i}.png")
    np.savez(folder / "all.npz", images=np.stack([np.array(Image.open(folder / f"{i}.png")) for i in range(6)]))
    return folder


@pytest.mark.parametrize("source", ["folder:{}", "npz:{}/all.npz"])
def test_a_rectangle_is_written_width_first(ramps: Path, source: str) -> None:
    assert open_source(source.format(ramps) + "?size=20x8").shape == (3, 8, 20)
    assert open_source(source.format(ramps) + "?size=8").shape == (3, 8, 8)


def test_the_same_proportions_lose_nothing_and_are_not_noted(ramps: Path) -> None:
    half = open_source(f"folder:{ramps}?size=20x12")
    assert not any("proportions" in note for note in half.card.notes)
    exact = torch.arange(20) * 2 + 0.5
    assert (half.images[0, 0, :, 2:-2].float() - exact[2:-2]).abs().max() <= 1
    centre = open_source(f"folder:{ramps}?size=24x24").images[0]
    assert torch.equal(centre[0, 0], torch.arange(8, 32).byte())
    assert any("not square, centre kept" in note for note in open_source(f"folder:{ramps}?size=24").card.notes)


@pytest.mark.parametrize("source", ["folder:{}", "npz:{}/all.npz"])
def test_the_middle_is_cut_out_first(ramps: Path, source: str) -> None:
    middle = open_source(source.format(ramps) + "?cut=20x10&size=20x10").images[0]
    assert torch.equal(middle[0], torch.arange(10, 30).byte().expand(10, 20))
    assert torch.equal(middle[1], torch.arange(7, 17).byte()[:, None].expand(10, 20))
    odd = open_source(source.format(ramps) + "?cut=21&size=21")  # left and top as torchvision's CenterCrop has them
    assert odd.images[0, :2, 0, 0].tolist() == [round((WIDTH - 21) / 2), round((HEIGHT - 21) / 2)]
    assert any("the middle 21x21 is taken" in note for note in odd.card.notes)
    cut, small = (
        open_source(source.format(ramps) + o).images[0].float() for o in ("?cut=20&size=20", "?cut=20&size=10")
    )
    assert (torch.nn.functional.avg_pool2d(cut, 2) - small)[:, 2:-2, 2:-2].abs().max() <= 1
    whole = open_source(source.format(ramps) + f"?cut=400&size={WIDTH}x{HEIGHT}")
    assert torch.equal(whole.images, open_source(source.format(ramps)).images)
    assert not any("middle" in note or "resized" in note for note in whole.card.notes)
    parts = open_for_training(source.format(ramps) + "?cut=20&size=8&crop=random").stream
    assert parts is not None
    left = parts.feed(6, 0)(range(300))[0][:, 0, 0, 0].long()
    assert set(left.tolist()) == set(range(10, 23))
    for wrong in ("cut=20", "cut=0&size=8", "cut=5000&size=8", "cut=8x&size=8"):
        with pytest.raises(DataError, match="cut in"):
            open_source(source.format(ramps) + f"?{wrong}")


def test_no_crop_stretches_and_padding_keeps_the_whole(ramps: Path) -> None:
    stretched = open_source(f"folder:{ramps}?size=40x48&crop=none").images[0]
    assert (stretched[1, 2:-2, 5].float() - (torch.arange(48)[2:-2] / 2 - 0.25)).abs().max() <= 1
    padded = open_source(f"folder:{ramps}?size=40&pad=10,20,30")
    assert torch.equal(padded.images[0, :, 8:32], open_source(f"folder:{ramps}").images[0])
    for rows in (padded.images[0, :, :8], padded.images[0, :, 32:]):
        assert torch.equal(rows, torch.tensor([10, 20, 30]).byte()[:, None, None].expand_as(rows))
    assert any("padded" in note for note in padded.card.notes)


@pytest.mark.parametrize("source", ["folder:{}", "npz:{}/all.npz"])
def test_random_parts_are_windows_of_the_pictures(ramps: Path, source: str) -> None:
    images = open_for_training(source.format(ramps) + "?size=16x8&crop=random")
    assert images.stream is not None
    assert images.shape == (3, 8, 16)
    pixels, _, keys = images.stream.feed(6, 3)(range(600))
    left, top = pixels[:, 0, 0, 0].long(), pixels[:, 1, 0, 0].long()
    assert torch.equal(pixels[:, 0].long(), (left[:, None, None] + torch.arange(16)).expand(-1, 8, -1))
    assert torch.equal(pixels[:, 1].long(), (top[:, None, None] + torch.arange(8)[:, None]).expand(-1, -1, 16))
    assert set(left.tolist()) == set(range(WIDTH - 16 + 1))
    assert set(top.tolist()) == set(range(HEIGHT - 8 + 1))
    counts = [sum(key == other for other in keys) for key in set(keys)]
    assert counts == [100] * 6
    once = open_source(source.format(ramps) + "?size=16x8&crop=random").images
    assert torch.equal(once, open_source(source.format(ramps) + "?size=16x8&crop=random").images)


def test_random_parts_are_the_same_after_a_resume_and_others_in_each_epoch(ramps: Path) -> None:
    spec = f"folder:{ramps}?size=16x8&crop=random"
    stream = open_for_training(spec).stream
    assert stream is not None
    whole, resumed = stream.feed(6, 1), stream.feed(6, 1)
    seen = [whole(range(6 * k, 6 * k + 6)) for k in range(4)]
    again = resumed(range(18, 21)), resumed(range(21, 24))
    assert torch.equal(torch.cat([part[0] for part in again]), seen[3][0])
    first, second = ({key: image for image, key in zip(part[0], part[2], strict=True)} for part in seen[:2])
    assert first.keys() == second.keys()
    assert not all(torch.equal(first[key], second[key]) for key in first)


def test_places_are_uniform() -> None:
    for places in ([place_at(5, k) for k in range(4000)], [place_of(str(k)) for k in range(4000)]):
        points = torch.tensor(places, dtype=torch.float64)
        assert points.min() >= 0
        assert points.max() < 1
        assert (points.mean(0) - 0.5).abs().max() < 4 * (1 / 12 / 4000) ** 0.5
        assert abs(float(torch.corrcoef(points.T)[0, 1])) < 4 / 4000**0.5


def test_resize_comes_before_a_random_part(ramps: Path) -> None:
    part = open_source(f"folder:{ramps}?size=12&resize=12&crop=random").images[0]
    steps = part[0, 0].float().diff()
    assert steps.mean() == pytest.approx(2, abs=0.2)
    small = open_source(f"folder:{ramps}?size=48x64&crop=random")  # a picture that is smaller is enlarged to cover
    assert small.shape == (3, 64, 48)


def test_prepared_sets_are_cut_as_they_are_read(ramps: Path, tmp_path: Path) -> None:
    prepared = prepare(f"folder:{ramps}?size=40x24", tmp_path / "set")
    assert not isinstance(prepared, str)
    assert prepared.shape == (3, 24, 40)
    images = open_for_training(f"map:{tmp_path}/set?size=16x8&crop=random")
    assert images.stream is not None
    assert images.shape == (3, 8, 16)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ("size=48x", "whole number above 0, not ''"),
        ("size=x32", "whole number above 0"),
        ("size=48x32x3", "WIDTHxHEIGHT"),
        ("size=48x5000", "at most 4,096"),
        ("crop=random", "goes with a size"),
        ("size=8&crop=middle", "center, random or none"),
        ("size=8&pad=white&crop=center", "leave one out"),
        ("size=8&resize=9", "crop=random"),
        ("size=8&resize=7&crop=random", "from the shorter side"),
        ("size=8&pad=pink", "white, black, grey or R,G,B"),
    ],
)
def test_options_that_mean_nothing_are_refused(options: str, words: str) -> None:
    with pytest.raises(DataError, match=words):
        parse_spec(f"folder:pictures?{options}")


def test_the_text_of_a_spec_without_options() -> None:
    assert parse_spec("folder:a?b?size=8&limit=3").without("size") == "folder:a?b?limit=3"
    assert parse_spec("npz:a.npz?size=8").without("size") == "npz:a.npz"
