"""Signals and clips as data: read from arrays, made with known statistics, drawn, and kept as they are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import DataError, flip, open_source, pictures
from sfumato.data.card import card_from_json
from sfumato.data.drawing import GAP, HEIGHT, WIDTH, curves
from sfumato.data.given import given
from sfumato.data.moving import LENGTH, covariance, signals
from sfumato.data.sources import parse_spec

WAVES = np.sin(np.arange(3 * 2 * 16)).reshape(3, 2, 16)
CLIPS = np.random.default_rng(0).integers(0, 256, (5, 3, 4, 6, 8), dtype=np.uint8)


def kept(folder: Path, array: np.ndarray, name: str = "images") -> str:
    np.savez(folder / "a.npz", **{name: array})  # type: ignore[arg-type]
    return f"npz:{folder / 'a.npz'}"


@pytest.mark.parametrize(
    ("array", "name", "options", "shape"),
    [
        (WAVES, "signals", "", (2, 16)),
        (WAVES, "images", "?kind=signals", (2, 16)),
        (WAVES[:, 0], "images", "", (1, 16)),
        (CLIPS, "images", "", (3, 4, 6, 8)),
        (CLIPS.transpose(0, 2, 3, 4, 1), "x", "", (3, 4, 6, 8)),
        (CLIPS[:, 0], "clips", "", (1, 4, 6, 8)),
        (CLIPS[:, :, 0], "images", "", (3, 6, 8)),
    ],
)
def test_an_array_is_what_its_shape_or_its_name_or_the_spec_says(
    tmp_path: Path, array: np.ndarray, name: str, options: str, shape: tuple[int, ...]
) -> None:
    found = open_source(kept(tmp_path, array, name) + options)
    assert found.shape == shape
    assert card_from_json(found.card.to_json()) == found.card
    rows = torch.from_numpy(np.ascontiguousarray(array)).reshape(len(array), -1).sort(1).values
    assert torch.equal(found.images.flatten(1).sort(1).values, rows.to(found.images.dtype))


def test_numbers_of_signals_are_kept_and_those_of_16_bits_scaled(tmp_path: Path) -> None:
    steps = np.array([[-32768, -1, 0, 16384]], np.int16)
    assert open_source(kept(tmp_path, steps)).images.tolist() == [[[-1.0, -1 / 32768, 0.0, 0.5]]]
    assert open_source(kept(tmp_path, steps.astype(np.uint8))).images.dtype == torch.uint8
    card = open_source(kept(tmp_path, WAVES, "signals")).card
    assert "3 signals, 16 numbers in 2 channels, real numbers from -1 to 1" in str(card)
    mean = " ".join(f"{value:.4g}" for value in WAVES.mean((0, 2)))
    assert f"values   mean {mean}, std" in str(card)
    halves = open_source(kept(tmp_path, 3 * WAVES, "signals") + "?values=-3,3")
    torch.testing.assert_close(halves.images, torch.from_numpy(WAVES).float())


@pytest.mark.parametrize(
    ("array", "options", "said"),
    [
        (2 * WAVES, "?kind=signals", r"signals go from -2 to 2: say their ends, \?values=LOW,HIGH"),
        (np.where(WAVES > 0.9, np.nan, WAVES), "?kind=signals", "from nan to nan"),
        (WAVES.astype(np.int64), "?kind=signals", "16-bit whole numbers, not int64"),
        (np.zeros((2, 40, 16)), "?kind=signals", r"\(N, C, L\) with 1 to 16 channels"),
        (WAVES, "?kind=signals&channels=3", "there are 2 channels"),
        (WAVES, "?kind=signals&size=8", r"signals are taken as they are; \?size= is for images"),
        (WAVES, "?kind=sound", "is signals or clips, not 'sound'"),
        (CLIPS / 255, "", "say what black and white are"),
        (CLIPS, "?size=4", "clips are taken as they are"),
        (np.zeros((2, 20, 4, 4, 20), np.uint8), "", "1 to 16 channels"),
    ],
)
def test_what_is_no_signal_or_clip_is_refused_in_a_line(
    tmp_path: Path, array: np.ndarray, options: str, said: str
) -> None:
    with pytest.raises(DataError, match=said):
        open_source(kept(tmp_path, array) + options)


def test_arrays_of_a_program_are_taken_alike() -> None:
    found = given(parse_spec("memory?kind=signals"), torch.from_numpy(WAVES), ["a", "b", "a"])
    assert found.shape == (2, 16)
    assert found.card.classes == {"a": 2, "b": 1}
    assert given(parse_spec("memory"), CLIPS / 255, values=(0, 1)).shape == (3, 4, 6, 8)


# ---------------------------------------------------------------- the sets that are made


def test_signals_have_the_covariance_that_is_computed() -> None:
    made, exact = signals(20_000, seed=3)[:, 0].double(), covariance()
    assert made.abs().max() <= 1
    assert made.mean(0).abs().max() < 5 * (exact.diag().max() / len(made)) ** 0.5
    sampled = made.T @ made / len(made)
    # each entry is a mean of products, whose spread is about that of a Gaussian's: C_ss C_tt + C_st^2
    spread = ((torch.outer(exact.diag(), exact.diag()) + exact**2) / len(made)).sqrt()
    assert ((sampled - exact).abs() / spread).max() < 5
    assert torch.linalg.eigvalsh(exact).min() > -1e-9
    assert exact.shape == (LENGTH, LENGTH)


def test_a_digit_moves_straight_and_stays_whole() -> None:
    clips = open_source("moving_digits:test")
    assert clips.shape == (1, 8, 16, 16)
    assert clips.classes == tuple("0123456789")
    sums = clips.images.float().sum((1, 3, 4))
    assert (sums == sums[:, :1]).all()  # no pixel leaves the frame
    frames = clips.images[:, 0].float()
    for axis in (1, 2):
        profile = frames.sum(2 + (axis == 1))
        centre = (profile * torch.arange(16)).sum(2) / profile.sum(2)
        speed = centre.diff(dim=1).abs()
        assert speed.max() <= 2.001
        assert (speed.quantile(0.5, dim=1) > 0.9).all()
    train = open_source("moving_digits?limit=8")
    assert not torch.equal(train.images, clips.images[:8])
    with pytest.raises(DataError, match="has one shape only"):
        open_source("moving_digits?size=32")


# ---------------------------------------------------------------- drawn and written


def test_a_curve_is_drawn_where_its_values_are() -> None:
    values = torch.stack([torch.full((50,), 0.5), torch.full((50,), -0.5)])
    (sheet,) = (curves(values[None]),)
    assert sheet.shape == (3, HEIGHT + 2 * GAP, WIDTH + 2 * GAP)
    middle = sheet[:, GAP:-GAP, GAP + WIDTH // 2].float()
    blue, orange = middle[2] - middle[0], middle[0] - middle[2]
    assert abs(int(blue.argmax()) - 0.25 * HEIGHT) <= 1
    assert abs(int(orange.argmax()) - 0.75 * HEIGHT) <= 1
    stored = ((values + 1) * 127.5).round().byte()
    assert (curves(stored[None]).int() - sheet).abs().float().mean() < 1
    assert curves(torch.full((1, 1, 9), float("nan"))).shape == sheet.shape
    assert pictures.grid(torch.zeros(6, 1, 300), columns=2).shape == (3, 3 * (HEIGHT + GAP) + GAP, 2 * 304 + GAP)


def test_a_clip_is_a_row_of_frames_and_an_animation_shows_them_in_time() -> None:
    clips = torch.arange(2 * 3, dtype=torch.uint8).reshape(2, 1, 3, 1, 1).expand(2, 1, 3, 32, 32) * 40
    sheet = pictures.grid(clips)
    assert sheet.shape == (1, 2 * 34 + 2, 3 * 34 + 2)
    assert sheet[0, 17::34, 17::34].tolist() == [[0, 40, 80], [120, 160, 200]]
    with Image.open(io.BytesIO(pictures.sheet_bytes(clips))) as film:
        assert film.n_frames == 3  # type: ignore[attr-defined]
        for i in range(3):
            film.seek(i)
            assert int(np.array(film.convert("L"))[20, 20]) == 40 * i


@pytest.mark.parametrize("array", [torch.from_numpy(WAVES).float(), torch.from_numpy(CLIPS)])
def test_what_is_written_is_read_as_it_was(tmp_path: Path, array: torch.Tensor) -> None:
    labels = torch.arange(len(array))
    pictures.save_npz(tmp_path / "b.npz", array, labels)
    found = open_source(f"npz:{tmp_path / 'b.npz'}")
    assert torch.equal(found.images, array)
    assert torch.equal(found.labels, labels)  # type: ignore[arg-type]


def test_frames_are_mirrored_left_and_right_alone() -> None:
    clips = torch.from_numpy(CLIPS)
    mask = torch.tensor([True, False, True, False, False])
    mirrored = flip(clips, mask)
    assert torch.equal(mirrored[0], clips[0].flip(-1))
    assert torch.equal(mirrored[1], clips[1])
