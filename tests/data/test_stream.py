"""Streams: every image once an epoch, the same ones in any number of processes and after a resume, fetched ahead."""

from __future__ import annotations

import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sfumato.data import DataError, open_source
from sfumato.data.prepare import open_shelf, prepare
from sfumato.data.stream import Feed, Lanes, Stream, open_for_training


@given(st.lists(st.integers(0, 9), min_size=1, max_size=70).filter(any), st.integers(1, 96), st.integers(0, 3))
def test_every_image_comes_once_an_epoch(sizes: list[int], batch: int, seed: int) -> None:
    lanes = Lanes(tuple(sizes), batch, seed)
    assert batch % lanes.number == 0
    length, width = sum(sizes) // lanes.number, batch // lanes.number
    for epoch in range(2):
        steps = range(epoch * length // width, (epoch + 1) * length // width + 1)
        slots = [(step * width + k % width, step * batch + k) for step in steps for k in range(batch)]
        seen = [lanes.at(counter) for nth, counter in slots if nth // length == epoch and nth < (epoch + 1) * length]
        assert len(set(seen)) <= len({where[1:] for where in seen}) == length * lanes.number > sum(sizes) - lanes.number
        assert all(0 <= row < sizes[block] for _, block, row in seen)


def test_processes_read_blocks_of_their_own() -> None:
    lanes = Lanes((40,) * 64, 128)
    shares = [{lanes.at(128 * n + k)[1] for n in range(20) for k in range(32 * r, 32 * r + 32)} for r in range(4)]
    assert sum(map(len, shares)) == len(set.union(*shares)) == 64


def test_epochs_are_shuffled_differently() -> None:
    lanes = Lanes((50,), 10)
    epochs = [[lanes.at(50 * e + k)[2] for k in range(50)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1])
    assert epochs[0] != epochs[1]


def digits() -> Stream:
    shelf = open_shelf("digits?limit=1100")
    return Stream(shelf, (1, 8, 8))


def test_a_feed_is_its_parts_and_does_not_depend_on_the_past() -> None:
    whole, jumping = digits().feed(12, 5), digits().feed(12, 5)
    wanted = {start: whole(range(start, start + 12)) for start in range(0, 240, 12)}
    for start in (120, 36, 228, 0):
        parts = [jumping(range(start, start + 5)), jumping(range(start + 5, start + 12))]
        assert torch.equal(torch.cat([p[0] for p in parts]), wanted[start][0])
        assert torch.equal(torch.cat([p[1] for p in parts]), wanted[start][1])  # type: ignore[arg-type]
        assert parts[0][2] + parts[1][2] == wanted[start][2]
    images = open_source("digits?limit=1100")
    rows = [images.keys.index(key) for key in wanted[24][2]]
    assert torch.equal(images.images[rows], wanted[24][0])
    assert torch.equal(images.labels[rows], wanted[24][1])  # type: ignore[index, arg-type]


def test_few_blocks_are_open_and_each_is_read_once_an_epoch() -> None:
    stream, reads = digits(), Counter[int]()
    shelf = stream.shelf

    def counted(block: int) -> Any:
        reads[block] += 1
        return shelf.read(block)

    feed = Feed(replace(stream, shelf=replace(shelf, read=counted)), 10, 0)
    for start in range(0, 1000, 10):
        feed(range(start, start + 10))
        assert sum(map(len, feed.open.values())) <= 2 * feed.lanes.number
    assert set(reads) == {0, 1, 2, 3, 4}
    assert max(reads.values()) <= 3


def test_a_damaged_picture_is_replaced_by_its_neighbour(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.data.stream.AHEAD", 0)
    for i in range(4):
        Image.fromarray(np.full((8, 8), i, dtype=np.uint8)).save(tmp_path / f"{i}.png")
    (tmp_path / "2.png").write_bytes(b"no picture")
    feed = Stream(open_shelf(f"folder:{tmp_path}"), (1, 8, 8)).feed(4, 0)
    with pytest.warns(UserWarning, match=r"2\.png cannot be read"):
        pixels, labels, keys = feed(range(4))
    assert labels is None
    assert Counter(keys) == {"0.png": 1, "1.png": 1, "3.png": 2}
    assert pixels[:, 0, 0, 0].tolist() == [int(key[0]) for key in keys]


# ---------------------------------------------------------------- shards and datasets


def test_shards_are_read_while_training(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    spec = prepare("digits?limit=600", tmp_path / "out", shard=100)
    assert isinstance(spec, str)
    look, whole = open_for_training(spec), open_source(spec)
    assert look.stream is not None
    assert (look.card.count, len(look), look.classes, look.shape) == (600, 256, whole.classes, whole.shape)
    assert torch.equal(look.images, whole.images[:256])
    pixels, _, keys = look.stream.feed(30, 0)(range(600))
    assert sorted(keys) == sorted(whole.keys)
    assert torch.equal(pixels, whole.images[[whole.keys.index(key) for key in keys]])
    (tmp_path / "out" / "shards.json").unlink()  # then they are counted
    again = open_for_training(spec)
    assert again.stream is not None
    assert again.stream.shelf.sizes == look.stream.shelf.sizes
    assert again.classes == look.classes
    assert open_for_training(spec + "?limit=150").card.count == 150
    with pytest.raises(DataError, match="no shard"):
        open_for_training(f"wds:{tmp_path}/{{7..9}}.tar")
    with pytest.raises(DataError, match="nothing downloads"):
        open_for_training("wds:https://example.org/{0..9}.tar")
    shard = tmp_path / "out" / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:700])
    with pytest.raises(DataError, match=r"damaged|does not hold"):
        open_source(spec)


def test_datasets_are_read_from_their_folder(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = open_source("digits?limit=300")
    assert images.labels is not None
    features = datasets.Features(
        {
            "picture": datasets.Image(),
            "digit": datasets.ClassLabel(names=list(images.classes)),
            "n": datasets.Value("int8"),
        }
    )
    rows = {
        "picture": [Image.fromarray(image[0].numpy()) for image in images.images],
        "digit": images.labels.tolist(),
        "n": [0] * 300,
    }
    table = datasets.Dataset.from_dict(rows, features=features)
    datasets.DatasetDict({"train": table, "test": table.select(range(40))}).save_to_disk(str(tmp_path / "set"))
    spec = f"hf:{tmp_path / 'set'}"
    found = open_source(spec)
    assert torch.equal(found.images, images.images)
    assert torch.equal(found.labels, images.labels)  # type: ignore[arg-type]
    assert found.classes == images.classes
    assert len(open_source(spec + "?split=test")) == 40
    look = open_for_training(spec)
    assert look.stream is not None
    pixels, _, keys = look.stream.feed(10, 0)(range(300))
    order = [found.keys.index(key) for key in keys]
    assert sorted(order) == list(range(300))
    assert torch.equal(pixels, images.images[order])
    for option, words in (("split=dev", "no split"), ("label=n", "no label column"), ("image=n", "no image column")):
        with pytest.raises(DataError, match=words):
            open_source(f"{spec}?{option}")
    with pytest.raises(DataError, match=r"get it with: python -c .*load_dataset\('no/such'\)"):
        open_source("hf:no/such")


def test_a_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shards are read without one."""
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'sfumato\[hf\]'"):
        open_source("hf:a")
    monkeypatch.setitem(sys.modules, "webdataset", None)
    with pytest.raises(DataError, match=r"pip install 'sfumato\[wds\]'"):
        prepare("digits?limit=4", tmp_path / "out", shard=2)
    assert not list(tmp_path.iterdir())
