"""Pairs of inputs and targets: by file stem, with options a side; what has no partner; batches, flips and cards."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.data import DataError, open_source, to_float
from sfumato.data.prepare import prepare
from sfumato.data.stream import open_for_training
from sfumato.papers.ddpm import DDPM
from sfumato.papers.training import TrainConfig
from sfumato.train.batches import Batches


def written(folder: Path, names: list[str], side: int, mode: str = "L", step: int = 10) -> Path:
    """Pictures of one grey each, that of the n-th name n times the step."""
    for i, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new(mode, (side, side), step * i if mode == "L" else (step * i,) * 3).save(path)
    return folder


def test_by_stem_whatever_the_suffix_and_the_order(tmp_path: Path) -> None:
    written(tmp_path / "in", ["b.png", "a.bmp", "c.png"], 4)
    written(tmp_path / "out", ["a.png", "b.png", "c.png"], 8, "RGB", 20)
    images = open_source(f"pair:{tmp_path}/in|{tmp_path}/out")
    assert images.shape == (3, 8, 8)
    assert images.inputs is not None
    assert images.inputs[:, 0, 0, 0].tolist() == [10, 0, 20]
    assert images.images[:, 0, 0, 0].tolist() == [0, 20, 40]
    assert any("each with an input of 4x4 grey" in note for note in images.card.notes)


def test_sub_folders_are_classes_and_part_of_the_name(tmp_path: Path) -> None:
    for side in ("in", "out"):
        written(tmp_path / side, ["x/1.png", "y/1.png", "y/2.png"], 4)
    spec = f"pair:{tmp_path}/in|{tmp_path}/out"
    images = open_source(f"{spec}?classes=y")
    assert images.classes == ("y",)
    assert images.inputs is not None
    assert images.inputs[:, 0, 0, 0].tolist() == [10, 20]
    few = open_source(f"{spec}?limit=2")
    assert few.inputs is not None
    assert (len(few), len(few.inputs)) == (2, 2)


def test_options_of_both_sides_and_of_one(tmp_path: Path) -> None:
    for side in ("in", "out"):
        written(tmp_path / side, ["1.png", "2.png"], 12, "RGB")
    images = open_source(f"pair:{tmp_path}/in?channels=1&size=4|{tmp_path}/out?size=8")
    assert images.inputs is not None
    assert (images.inputs.shape[1:], images.shape) == ((1, 4, 4), (3, 8, 8))
    images = open_source(f"pair:{tmp_path}/in?channels=1|folder:{tmp_path}/out?size=8")
    assert images.inputs is not None
    assert (images.inputs.shape[1:], images.shape) == ((1, 8, 8), (3, 8, 8))
    numbered = open_source("pair:digits:test?size=4|digits:test?limit=5")
    assert numbered.inputs is not None
    assert (numbered.inputs.shape, numbered.shape) == ((5, 1, 4, 4), (1, 8, 8))


def test_missing_partners_are_counted_and_five_are_named(tmp_path: Path) -> None:
    written(tmp_path / "in", [f"{i}.png" for i in range(8)], 4)
    written(tmp_path / "out", ["7.png", "x.png"], 4)
    with pytest.raises(DataError) as caught:
        open_source(f"pair:{tmp_path}/in|{tmp_path}/out")
    said = str(caught.value)
    assert "7 of 8 inputs have no target of the same name: 0, 1, 2, 3, 4, ...;" in said
    assert said.endswith("1 of 2 targets have no input of the same name: x")
    assert "\n" not in said


@pytest.mark.parametrize(("spec", "message"), [
    ("pair:{0}/in", "no two sides"), ("pair:", "no two sides"), ("pair:{0}/in|", "no two sides"),
    ("pair:{0}/in|{0}/out|{0}/in", "no two sides"), ("pair:{0}/in|{0}/none", "no folder"),
    ("pair:{0}/in|{0}/out?size=4&crop=random", "apart"), ("pair:pair:digits|{0}/out", "cannot be pairs"),
    ("pair:{0}/in?sise=3|{0}/out", "unknown option 'sise'"), ("pair:{0}/twice|{0}/out", "names twice"),
    ("pair:swiss_roll|swiss_roll", "points"),
])  # fmt: skip
def test_bad_specs_end_in_one_line(spec: str, message: str, tmp_path: Path) -> None:
    for side in ("in", "out"):
        written(tmp_path / side, ["1.png"], 4)
    written(tmp_path / "twice", ["1.png", "1.bmp"], 4)
    with pytest.raises(DataError, match=message) as caught:
        open_for_training(spec.format(tmp_path))
    assert "\n" not in str(caught.value)
    with pytest.raises(DataError, match="each side by itself"):
        prepare(f"pair:{tmp_path}/in|{tmp_path}/out", tmp_path / "map")


def test_the_fingerprint_is_of_both_sides() -> None:
    one, other = (open_source(f"pair:digits:test?size={side}|digits:test") for side in (4, 6))
    alone = open_source("digits:test")
    assert len({images.card.fingerprint for images in (one, other, alone)}) == 3
    again = one.take(torch.arange(len(one)))
    assert again.card.fingerprint == one.card.fingerprint
    assert again.card.notes == one.card.notes


@pytest.mark.parametrize("flip", [False, True])
def test_batches_bring_each_image_its_own_input(flip: bool) -> None:
    images = open_source("pair:digits:test|digits:test")
    batches = Batches(images, DDPM().build().times, TrainConfig(images=64, flip=flip), labelled=False)
    batch = batches(range(10, 50))
    assert torch.equal(batch.given["picture"], batch.x0)
    plain = Batches(open_source("digits:test"), DDPM().build().times, TrainConfig(images=64, flip=flip), False)
    assert torch.equal(plain(range(10, 50)).x0, batch.x0)
    given = images.given(torch.tensor([3, 1]), labelled=False)
    assert torch.equal(given["picture"], to_float(images.images[[3, 1]]))
