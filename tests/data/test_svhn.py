"""SVHN's MATLAB files as they are downloaded, of a few images; damaged ones, and others."""

from __future__ import annotations

import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.data import DataError, open_source
from sfumato.data.splits import test_split as split_beside

io = pytest.importorskip("scipy.io")

PIXELS = np.random.default_rng(0).integers(0, 256, (32, 32, 3, 5), np.uint8)
LABELS = np.array([[1], [10], [3], [9], [10]], np.uint8)


def saved(path: Path, compressed: bool = True, **arrays: Any) -> Path:
    path.parent.mkdir(exist_ok=True)
    io.savemat(path, {"X": PIXELS, "y": LABELS} | arrays, do_compression=compressed)
    return path


@pytest.mark.parametrize("compressed", [False, True])
def test_its_files(compressed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "svhn" / "test_32x32.mat", compressed)
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    for spec in ("svhn:test", f"svhn:{path}", f"svhn:{path.parent}?split=test"):
        images = open_source(spec)
        assert images.labels is not None
        assert images.labels.tolist() == [1, 0, 3, 9, 0]
        assert torch.equal(images.images[2], torch.from_numpy(PIXELS[..., 2].transpose(2, 0, 1)))
    assert split_beside("svhn?size=16") == "svhn:test?size=16"
    saved(tmp_path / "svhn" / "extra_32x32.mat", y=LABELS.astype(float))
    assert open_source("svhn:extra?channels=1&size=16").shape == (1, 16, 16)


def test_what_is_none(tmp_path: Path) -> None:
    path = tmp_path / "train_32x32.mat"
    for arrays, words in (
        ({"y": LABELS[:4]}, "something else"),
        ({"X": PIXELS.astype(float)}, "something else"),
        ({"X": PIXELS[:16]}, "something else"),
        ({"y": LABELS + 1}, "none of 1 to 10"),
        ({"y": LABELS * 0}, "none of 1 to 10"),
        ({"y": np.array([["a"]] * 5, object)}, "damaged"),
    ):
        saved(path, **arrays)
        with pytest.raises(DataError, match=words):
            open_source(f"svhn:{path}")
    whole = saved(path).read_bytes()
    for content in (whole[:200], whole[: len(whole) // 2], b"", b"x" * 300):
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged|something else"):
            open_source(f"svhn:{path}")


def test_every_byte_of_its_headers_may_be_damaged(tmp_path: Path) -> None:
    whole = bytearray(saved(tmp_path / "a.mat", compressed=False).read_bytes())
    for at in range(0, 256, 3):
        (tmp_path / "b.mat").write_bytes(bytes(whole[:at]) + bytes([whole[at] ^ 0xFF]) + bytes(whole[at + 1 :]))
        with suppress(DataError):  # and nothing else is raised
            assert open_source(f"svhn:{tmp_path}/b.mat").shape == (3, 32, 32)


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("SFUMATO_DATA", raising=False)
    with pytest.raises(DataError, match=r"get train_32x32.mat from http.*SFUMATO_DATA/svhn"):
        open_source("svhn")
    with pytest.raises(DataError, match="splits train, test and extra, not 'val'"):
        open_source(f"svhn:{tmp_path}?split=val")
    path = saved(tmp_path / "train_32x32.mat")
    monkeypatch.setitem(sys.modules, "scipy.io", None)
    with pytest.raises(DataError, match=r"pip install 'sfumato\[svhn\]'"):
        open_source(f"svhn:{path}")
