"""Order, bytes and numbers, and pictures on disk: permutations whatever the cut, round trips, and atomic files.

What training sees must not depend on how it is asked for.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from sfumato.data import Order, flip, pictures, to_float, to_uint8
from sfumato.runtime import files


@given(st.integers(1, 50), st.integers(0, 5), st.integers(0, 5))
def test_each_epoch_is_a_permutation(n: int, seed: int, epoch: int) -> None:
    assert sorted(Order(n, seed).batch(epoch * n, n).tolist()) == list(range(n))


@given(st.integers(1, 30), st.integers(0, 200), st.lists(st.integers(0, 20), max_size=6))
def test_any_cut_gives_the_same_images(n: int, start: int, sizes: list[int]) -> None:
    order, at, parts = Order(n, 1), start, []
    for size in sizes:
        parts.append(order.batch(at, size))
        at += size
    assert torch.equal(torch.cat([*parts, torch.empty(0, dtype=torch.long)]), order.batch(start, sum(sizes)))


def test_epochs_and_seeds_differ() -> None:
    order = Order(100, 0)
    assert not torch.equal(order.batch(0, 100), order.batch(100, 100))
    assert not torch.equal(order.batch(0, 100), Order(100, 1).batch(0, 100))


def test_bytes_survive_the_round_trip() -> None:
    every = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(to_float(every)), every)
    assert to_float(every).min() == -1
    assert to_float(every).max() == 1
    assert to_uint8(torch.tensor([-9.0, 9.0, float("nan")])).tolist() == [0, 255, 0]


def test_flip_mirrors_only_where_asked() -> None:
    x = torch.arange(8.0).reshape(2, 1, 1, 4)
    flipped = flip(x, torch.tensor([True, False]))
    assert flipped[0, 0, 0].tolist() == [3, 2, 1, 0]
    assert torch.equal(flipped[1], x[1])


@given(st.integers(1, 12), st.sampled_from([1, 3]), st.integers(1, 9), st.integers(1, 9))
def test_grid_keeps_every_pixel(n: int, channels: int, height: int, width: int) -> None:
    assume((channels, height, width) != (1, 1, 2))  # points in the plane, which become one picture
    images = torch.randint(0, 256, (n, channels, height, width), dtype=torch.uint8)
    sheet = pictures.grid(images, columns=3, pad=1, scale=2)
    columns = min(3, n)
    rows = -(-n // columns)
    assert sheet.shape == (channels, 2 * (1 + rows * (height + 1)), 2 * (1 + columns * (width + 1)))
    for i in range(n):
        y, x = 1 + i // columns * (height + 1), 1 + i % columns * (width + 1)
        assert torch.equal(sheet[:, 2 * y : 2 * (y + height) : 2, 2 * x : 2 * (x + width) : 2], images[i])


def test_files_read_back(tmp_path: Path) -> None:
    images = torch.randint(0, 256, (4, 3, 8, 8), dtype=torch.uint8)
    pictures.save_npz(tmp_path / "a.npz", images, torch.arange(4))
    with np.load(tmp_path / "a.npz") as file:
        assert np.array_equal(file["arr_0"], images.permute(0, 2, 3, 1).numpy())
        assert file["arr_1"].tolist() == [0, 1, 2, 3]
    pictures.save_png(tmp_path / "a.png", images[0])
    with Image.open(tmp_path / "a.png") as file:
        assert np.array_equal(np.asarray(file), images[0].permute(1, 2, 0).numpy())
    for suffix in (".webp", ".gif", ".png"):
        pictures.save_animation(tmp_path / f"film{suffix}", list(images))
        with Image.open(tmp_path / f"film{suffix}") as film:
            assert film.n_frames == 4  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="animation ends in"):
        pictures.save_animation(tmp_path / "film.mp4", list(images))


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.txt"
    pictures.write_text(path, "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        pictures.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]
