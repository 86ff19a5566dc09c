"""Attributes of pictures from tables: what they say, how they are counted, and what does not go together."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.data import DataError, Images, open_source
from sfumato.data.celeba import PACKED, PARTS
from sfumato.data.prepare import prepare
from sfumato.data.stream import open_for_training

CSV = "file_name,left,bright\n" + "".join(f"{i:02}.png,{i % 2},{i // 2 % 2}\n" for i in range(16))


def stripes(root: Path) -> Images:
    """16 pictures 8x8, the left half or all of them grey or white, with a table that says so."""
    root.mkdir(exist_ok=True, parents=True)
    for i in range(16):
        picture = Image.new("L", (8, 8))
        picture.paste(255 if i // 2 % 2 else 90, (0, 0, 4 if i % 2 else 8, 8))
        picture.save(root / f"{i:02}.png")
    (root / "has.csv").write_text(CSV)
    return open_source(f"folder:{root}?attributes=has.csv")


def test_a_table_of_columns(tmp_path: Path) -> None:
    images = stripes(tmp_path)
    assert images.attributes is not None
    assert images.named == ("left", "bright")
    assert images.attributes.values.tolist()[:4] == [[-1, -1], [1, -1], [-1, 1], [1, 1]]
    assert images.card.attributes == {"left": 8, "bright": 8}
    assert "has      left 8, bright 8" in str(images.card)
    assert images.labels is None
    few = images.take(torch.tensor([1, 2]))
    assert few.card.attributes == {"left": 1, "bright": 1}
    assert torch.equal(few.given(torch.tensor([1]), False)["attributes"], torch.tensor([[-1, 1]], dtype=torch.int8))
    assert open_source(f"folder:{tmp_path}?attributes=has.csv&limit=2").card.attributes == {"left": 1, "bright": 0}


def test_the_fingerprint_is_of_attributes_too(tmp_path: Path) -> None:
    first = stripes(tmp_path).card.fingerprint
    assert first == open_source(f"folder:{tmp_path}?attributes=has.csv").card.fingerprint
    (tmp_path / "has.csv").write_text(CSV.replace("00.png,0", "00.png,1"))
    changed = open_source(f"folder:{tmp_path}?attributes=has.csv").card.fingerprint
    assert len({first, changed, open_source(f"folder:{tmp_path}").card.fingerprint}) == 3


@pytest.mark.parametrize(("file", "text", "expected"), [
    ("a.csv", "file_name,x,y\none/a.png,1,\nsub/b.png,-1,?\n", [[1, 0], [-1, 0]]),
    ("a.jsonl", '{"file_name": "one/a.png", "attributes": ["x"]}\n{"file_name": "sub/b.png", "attributes": ["y"]}',
     [[1, -1], [-1, 1]]),
    ("a.jsonl", '{"file_name": "one/a.png", "attributes": {"x": true}}\n'
                '{"file_name": "sub/b.png", "attributes": {"y": 0}}', [[1, 0], [0, -1]]),
    ("a.txt", "2\nx y\none/a.png 1 -1\nsub/b.png -1 -1\n", [[1, -1], [-1, -1]]),
])  # fmt: skip
def test_forms_of_tables(tmp_path: Path, file: str, text: str, expected: list[list[int]]) -> None:
    for name in ("one/a.png", "sub/b.png"):
        (tmp_path / name).parent.mkdir()
        Image.new("L", (8, 8)).save(tmp_path / name)
    (tmp_path / file).write_text(text)
    assert open_source(f"folder:{tmp_path}").attributes is None
    images = open_source(f"folder:{tmp_path}?attributes={file}")
    assert images.classes == ("one", "sub"), "labels of sub-folders stay beside them"
    assert images.attributes is not None
    assert images.attributes.values.tolist() == expected
    open_cells = sum(value == 0 for row in expected for value in row)
    assert (f"attributes not known of {open_cells} of 4" in str(images.card)) == (open_cells > 0)


@pytest.mark.parametrize(("text", "words"), [
    ("file_name,x\n00.png,1\n", r"^15 images in .* have no attributes in .*: 01.png"),
    (CSV + "more.png,1,1\n", r"^1 file names in .* are no images in .*: more.png"),
    (CSV + "00.png,1,1\n", "row 18: 00.png has attributes already"),
    (CSV.replace("00.png,0", "00.png,7"), "row 2: left is 1 or 0"),
    (CSV.replace("left", "a=b"), "a word without"),
    (CSV.replace("left", "-b"), "not after a -"),
    ("file_name\n" + "".join(f"{i:02}.png\n" for i in range(16)), "names no attribute"),
    ("name,x\n00.png,1\n", "every row has a file_name"),
])  # fmt: skip
def test_what_does_not_go_together(tmp_path: Path, text: str, words: str) -> None:
    stripes(tmp_path)
    (tmp_path / "has.csv").write_text(text)
    with pytest.raises(DataError, match=words):
        open_source(f"folder:{tmp_path}?attributes=has.csv")


def test_where_they_are_not_read(tmp_path: Path) -> None:
    stripes(tmp_path)
    with pytest.raises(DataError, match="not read while training"):
        open_for_training(f"folder:{tmp_path}?attributes=has.csv&size=4&crop=random")
    with pytest.raises(DataError, match="not prepared"):
        prepare(f"folder:{tmp_path}?attributes=has.csv", tmp_path / "map")


def test_celeba_list(tmp_path: Path) -> None:
    folder = tmp_path / "celeba"
    folder.mkdir()
    Image.new("RGB", (18, 22)).save(tmp_path / "x.jpg")
    with zipfile.ZipFile(folder / PACKED, "w") as archive:
        for i in (1, 2):
            archive.write(tmp_path / "x.jpg", f"img_align_celeba/{i}.jpg")
    (folder / PARTS).write_text("1.jpg 0\n2.jpg 0\n3.jpg 1\n")
    (folder / "list_attr_celeba.txt").write_text("3\nBald Smiling Male \n1.jpg -1  1 1\n2.jpg  1 -1 1\n3.jpg -1 -1 -1")
    images = open_source(f"celeba:{folder}?attributes=Smiling,Bald")
    assert images.attributes is not None
    assert (images.named, images.attributes.values.tolist()) == (("Smiling", "Bald"), [[1, -1], [-1, 1]])
    assert open_source(f"celeba:{folder}?attributes=all").card.attributes == {"Bald": 1, "Smiling": 1, "Male": 2}
    with pytest.raises(DataError, match="did you mean Smiling"):
        open_source(f"celeba:{folder}?attributes=Smilin")
    (folder / "list_attr_celeba.txt").unlink()
    with pytest.raises(DataError, match=r"lacks list_attr_celeba\.txt"):
        open_source(f"celeba:{folder}?attributes=all")
