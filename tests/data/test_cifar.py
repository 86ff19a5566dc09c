"""CIFAR's archives as they are downloaded, of a few images; pickles that would run something, and damaged ones."""

from __future__ import annotations

import io
import os
import pickle
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.data import DataError, open_source
from sfumato.data.splits import test_split as split_beside

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 3072), np.uint8)


def batch(rows: slice, **more: Any) -> bytes:
    return pickle.dumps({b"data": PIXELS[rows], b"labels": [3, 9, 0, 1, 2, 4][rows], **more}, protocol=2)


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    folder = tmp_path / "cifar-10-batches-py"
    folder.mkdir()
    for i in range(5):
        (folder / f"data_batch_{i + 1}").write_bytes(batch(slice(i, i + 1)))
    (folder / "test_batch").write_bytes(batch(slice(5, 6)))
    return folder


def test_a_folder_an_archive_and_the_variable(ten: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = torch.from_numpy(PIXELS.reshape(6, 3, 32, 32))
    images = open_source(f"cifar10:{ten}")
    assert torch.equal(images.images, expected[:5])
    assert images.labels is not None
    assert [images.classes[i] for i in images.labels.tolist()][:2] == ["cat", "truck"]
    packed = ten.parent / "cifar-10-python.tar.gz"
    with tarfile.open(packed, "w:gz") as archive:
        archive.add(ten, ten.name)
    assert torch.equal(open_source(f"cifar10:{packed}?split=test").images, expected[5:])
    monkeypatch.setenv("SFUMATO_DATA", str(ten.parent))
    assert torch.equal(open_source("cifar10:test").images, expected[5:])
    assert split_beside("cifar10?size=16") == "cifar10:test?size=16"
    packed.write_bytes(packed.read_bytes()[:500])
    with pytest.raises(DataError, match="damaged"):
        open_source(f"cifar10:{packed}")


def test_a_hundred(tmp_path: Path) -> None:
    rows = {b"data": PIXELS, b"fine_labels": [1, 0, 1, 1, 0, 0], b"coarse_labels": [0] * 6}
    (tmp_path / "train").write_bytes(pickle.dumps(rows, protocol=2))
    (tmp_path / "test").write_bytes(pickle.dumps(rows, protocol=2))
    (tmp_path / "meta").write_bytes(pickle.dumps({b"fine_label_names": [b"apple", b"bear"]}, protocol=2))
    images = open_source(f"cifar100:{tmp_path}?split=test")
    assert images.classes == ("apple", "bear")
    assert len(images) == 6


class Runs:
    def __reduce__(self) -> Any:
        return os.mkdir, ("ran",)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (pickle.dumps({b"data": Runs()}, protocol=2), "asks for"),
        (pickle.dumps([1, 2]), "damaged"),
        (batch(slice(1))[:-40], "damaged"),
        (b"", "damaged"),
        (pickle.dumps({b"data": PIXELS[:, :9], b"labels": [0] * 6}, protocol=2), "not uint8"),
        (pickle.dumps({b"data": PIXELS.astype("f4"), b"labels": [0] * 6}, protocol=2), "not uint8"),
        (pickle.dumps({b"data": PIXELS, b"labels": [0] * 5}, protocol=2), "a label for each"),
        (pickle.dumps({b"data": PIXELS, b"labels": [10] * 6}, protocol=2), "none of 0 to 9"),
    ],
)
def test_what_is_no_batch(
    content: bytes, words: str, ten: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (ten / "test_batch").write_bytes(content)
    with pytest.raises(DataError, match=words):
        open_source(f"cifar10:{ten}?split=test")
    assert not (tmp_path / "ran").exists()


def test_what_is_missing_says_what_to_get(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SFUMATO_DATA", raising=False)
    for spec in ("cifar10", f"cifar10:{tmp_path}"):
        with pytest.raises(DataError, match=r"cifar-10-python.tar.gz from https.*SFUMATO_DATA"):
            open_source(spec)
    empty = tmp_path / "empty.tar.gz"
    with tarfile.open(empty, "w:gz") as archive:
        archive.addfile(tarfile.TarInfo("x"), io.BytesIO())
    with pytest.raises(DataError, match="lacks data_batch_1"):
        open_source(f"cifar10:{empty}")
