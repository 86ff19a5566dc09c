"""Labels of a folder from a table or from file names: what they say, and what does not go together."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.data import DataError, open_source
from sfumato.data.folders import shelf
from sfumato.data.sources import parse_spec

NAMES = ("b-1.png", "a_10.png", "sub/a-2.png", "b_x-3.png")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i, name in enumerate(NAMES):
        path = tmp_path / "set" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8), i).save(path)
    return tmp_path / "set"


def said(spec: str) -> dict[str, str]:
    """The class of each picture, by its key."""
    images = open_source(spec)
    assert images.labels is not None
    return {key: images.classes[label] for key, label in zip(images.keys, images.labels.tolist(), strict=True)}


def test_prefix(root: Path) -> None:
    images = open_source(f"folder:{root}?labels=prefix")
    assert images.classes == ("a", "b")
    assert said(f"folder:{root}?labels=prefix") == {name: Path(name).name[0] for name in NAMES}
    assert len(open_source(f"folder:{root}?labels=prefix&classes=a")) == 2
    with pytest.raises(DataError, match="some images lie in sub-folders"):
        open_source(f"folder:{root}")
    for name in ("plain.png", "_x.png", "sub/-.png"):
        (root / name).write_bytes((root / NAMES[0]).read_bytes())
    with pytest.raises(DataError, match=r"^3 names have nothing before .*: _x.png, plain.png, sub/-.png$"):
        open_source(f"folder:{root}?labels=prefix")


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("l.csv", "file_name,label\n{0},x\n{1},y\n{2},x\n{3},z\n"),
        ("l.csv", "{0},x\n{1},y\n./{2},x\n{3}, z \n"),
        ("metadata.csv", "more,label,file_name\n,x,{0}\n,y,{1}\n,x,{2}\n1,z,{3}\n"),
        ("l.jsonl", '{{"file_name": "{0}", "label": "x"}}\n{{"file_name": "{1}", "label": "y"}}\n\n'
                    '{{"file_name": "{2}", "label": "x"}}\n{{"label": "z", "file_name": "{3}"}}'),
    ],
)  # fmt: skip
def test_tables(root: Path, file: str, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = dict(zip(NAMES, "xyxz", strict=True))
    (root / file).write_text(text.format(*NAMES))
    assert said(f"folder:{root}?labels={file}") == expected
    (root / file).rename(root.parent / file)
    monkeypatch.chdir(root.parent)
    assert said(f"folder:{root}?labels={file}") == expected


def test_numbers_are_in_their_order_and_captions_go_on(root: Path) -> None:
    rows = "".join(f"{name},{n},of {n}\n" for name, n in zip(NAMES, (10, 2, 2, 1), strict=True))
    (root / "metadata.csv").write_text("file_name,label,text\n" + rows)
    images = open_source(f"folder:{root}?labels=metadata.csv")
    assert images.classes == ("1", "2", "10")
    assert images.texts is not None
    assert said(f"folder:{root}?labels=metadata.csv") == {
        k: t[3:] for k, t in zip(images.keys, images.texts, strict=True)
    }
    assert torch.equal(images.labels, torch.tensor([1, 2, 0, 1]))  # type: ignore[arg-type]


def test_other_labels_are_another_set(root: Path) -> None:
    for name, labels in (("1.csv", "xyxz"), ("2.csv", "xyxy")):
        (root / name).write_text("".join(f"{n},{label}\n" for n, label in zip(NAMES, labels, strict=True)))
    prints = [shelf(parse_spec(f"folder:{root}?labels={n}")).fingerprint for n in ("1.csv", "2.csv", "1.csv")]
    assert prints[0] == prints[2] != prints[1]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{0},x\n{1},y\n", r"^2 images in .*set have no label in .*l.csv: b_x-3.png, sub/a-2.png$"),
        ("{0},x\n{1},y\n{2},x\n{3},z\n" + "".join(f"{i}.png,x\n" for i in range(7)),
         r"^7 file names in .*l.csv are no images in .*: 0.png, 1.png, 2.png, 3.png, 4.png, ...$"),
        ("file,class\n{0},x\n{1},y\n{2},x\n{3},z\n", r"^1 file names in .*: file$"),
        ("{0}\n", r"l.csv, row 1: every row has a file_name and a label"),
        ("{0},\n", r"l.csv, row 1: every row has"),
        ("{0},x,y\n", r"l.csv, row 1: more than"),
        ("{0},x\n./{0},x\n", r"l.csv, row 2: b-1.png has a label already"),
        ("\xff", "not in UTF-8"),
        ("", "4 images in .* have no label"),
        ("{0}," + "x" * 256 + "\n", "row 1: every row has"),
    ],
)  # fmt: skip
def test_what_does_not_go_together(root: Path, text: str, words: str) -> None:
    (root / "l.csv").write_bytes(text.format(*NAMES).encode("latin1"))
    with pytest.raises(DataError, match=words):
        open_source(f"folder:{root}?labels=l.csv")


def test_words_that_are_none(root: Path) -> None:
    (root / "l.jsonl").write_text("[]\n")
    for spec, words in (
        (f"folder:{root}?labels=l.txt", "is a FILE.csv, a FILE.jsonl or prefix"),
        (f"folder:{root}?labels=", "name=value"),
        (f"folder:{root}?labels=none.csv", "none.csv: No such file"),
        (f"folder:{root}?labels=l.jsonl", "row 1: every row has"),
        ("digits?labels=prefix", "unknown option 'labels'"),
    ):
        with pytest.raises(DataError, match=words):
            open_source(spec)
