"""ImageNet as it is downloaded, of a few tiny pictures: the tar of tars, class folders, damage, and what is missing."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import DataError, imagenet, open_source
from sfumato.data.prepare import prepare
from sfumato.data.sources import parse_spec
from sfumato.data.stream import open_for_training

CLASSES = ("n00000001", "n00000002", "n00000003")


def picture(value: int, mode: str = "RGB") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (12, 10), value if mode == "L" else (value, 0, 9)).save(buffer, "PNG")  # as one of theirs is
    return buffer.getvalue()


def packed(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def of_class(label: int) -> dict[str, bytes]:
    """Five pictures, one of them grey, whose red is 10 label + i."""
    return {f"{CLASSES[label]}_{i}.JPEG": picture(10 * label + i, "L" if i == 4 else "RGB") for i in range(5)}


@pytest.fixture
def tar(tmp_path: Path) -> Path:
    path = tmp_path / "imagenet" / imagenet.TRAIN
    path.parent.mkdir()
    path.write_bytes(packed({f"{CLASSES[k]}.tar": packed(of_class(k)) for k in (2, 0, 1)}))
    return path


def test_a_tar_of_tars(tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_DATA", str(tar.parents[1]))
    images = open_source("imagenet?size=8")
    assert images.classes == CLASSES
    assert images.shape == (3, 8, 8)
    assert images.labels is not None
    assert torch.equal(images.images[:, 0, 4, 4].long() // 10, images.labels)
    assert sorted(images.images[:, 0, 4, 4].tolist()) == sorted(10 * k + i for k in range(3) for i in range(5))
    assert list(images.keys) != sorted(images.keys)
    assert set(open_source(f"imagenet:{tar}?limit=9").labels.tolist()) == {0, 1, 2}  # type: ignore[union-attr]
    two = open_source(f"imagenet:{tar}?classes={CLASSES[2]},{CLASSES[0]}&limit=9")
    assert two.labels is not None
    assert two.card.classes[CLASSES[2]] + two.card.classes[CLASSES[0]] == 9
    assert set(two.images[two.labels == 0][:, 0, 4, 4].tolist()) <= set(range(20, 25))


def test_class_folders_are_the_same_set(tar: Path) -> None:
    for k, name in enumerate(CLASSES):
        for split in ("train", "val"):
            (tar.parent / split / name).mkdir(parents=True)
            for file, content in of_class(k).items():
                (tar.parent / split / name / file).write_bytes(content)
    for spec in (f"imagenet:{tar.parent}/train?size=8", f"imagenet:{tar.parent.parent}?split=val&size=8"):
        found, same = open_source(spec), open_source(f"imagenet:{tar}?size=8")
        assert found.keys == same.keys
        assert torch.equal(found.images, same.images)
        assert torch.equal(found.labels, same.labels)  # type: ignore[arg-type]


def test_it_is_read_while_training_and_prepared(tar: Path, tmp_path: Path) -> None:
    stream = open_for_training(f"imagenet:{tar}?size=8").stream
    assert stream is not None
    pixels, labels, keys = stream.feed(5, 0)(range(5, 10))
    assert labels is not None
    assert torch.equal(pixels[:, 0, 4, 4].long() // 10, labels)
    assert [key.split("/")[0] for key in keys] == [CLASSES[k] for k in labels.tolist()]
    made = prepare(f"imagenet:{tar}?size=8", tmp_path / "map")
    assert not isinstance(made, str)
    assert torch.equal(made.images, open_source(f"imagenet:{tar}?size=8").images)


def test_classes_are_chosen_before_anything_is_read(tar: Path, tmp_path: Path) -> None:
    spec = f"imagenet:{tar}?classes={CLASSES[2]},{CLASSES[0]}&size=8"
    images = open_for_training(spec)
    assert images.classes == (CLASSES[2], CLASSES[0])
    assert images.stream is not None
    pixels, labels, _ = images.stream.feed(5, 0)(range(5))
    assert labels is not None
    assert torch.equal(labels, (pixels[:, 0, 4, 4] < 20).long())
    made, same = prepare(spec, tmp_path / "map"), open_source(spec)
    assert not isinstance(made, str)
    assert made.classes == same.classes == images.classes
    assert torch.equal(made.images, same.images)
    assert torch.equal(made.labels, same.labels)  # type: ignore[arg-type]
    assert len(made) == 10
    with pytest.raises(DataError, match="names one twice"):
        open_for_training(f"imagenet:{tar}?classes={CLASSES[2]},{CLASSES[2]}")


def test_nothing_is_read_before_it_is_asked_for(tar: Path) -> None:
    """Bytes of pictures may be anything until they are decoded, and are then counted."""
    whole = tar.read_bytes()
    start = whole.index(b"\x89PNG")
    tar.write_bytes(whole[:start] + bytes(8) + whole[start + 8 :])
    assert len(imagenet.shelf(parse_spec(f"imagenet:{tar}"))) == 15
    images = open_source(f"imagenet:{tar}?size=8")
    assert len(images) == 14
    assert len(images.card.corrupt) == 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (packed({"n1.tar": packed(of_class(0))[:3000]}), "damaged"),
        (packed({"n1.tar": packed(of_class(0))})[:3000], "damaged"),
        (packed({"n1.tar": b"\x1f\x8b" + bytes(600)}), "n1.tar is compressed"),
        (packed({"n1.tar": packed({"x.txt": b""})}), "holds no images"),
        (packed({"a/n1.tar": packed({}), "b/n1.tar": packed({})}), "one tar file a class"),
        (packed(of_class(0)), "one tar file a class"),
        (b"", "damaged"),
        (np.random.default_rng(0).bytes(3000), "damaged"),
    ],
)
def test_what_is_none(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_source(f"imagenet:{tmp_path}/a.tar?size=8")


def test_what_is_missing(tar: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SFUMATO_DATA", raising=False)
    for spec in ("imagenet", f"imagenet:{tar.parent}?split=val"):
        with pytest.raises(DataError, match=r"get ILSVRC2012_img_train.tar from https.*\$SFUMATO_DATA/imagenet"):
            open_source(spec)
    with pytest.raises(DataError, match="unknown class 'n0000001'; did you mean"):
        open_source(f"imagenet:{tar}?classes=n0000001")
