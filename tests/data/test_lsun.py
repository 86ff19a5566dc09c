"""LSUN's databases as they are downloaded, of a few tiny pictures; damaged ones, and what is missing."""

from __future__ import annotations

import hashlib
import importlib.util
import io
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.data import DataError, open_source
from sfumato.data.stream import open_for_training

installed = pytest.mark.skipif(importlib.util.find_spec("lmdb") is None, reason="lmdb is not installed")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    lmdb = pytest.importorskip("lmdb")
    folder = tmp_path / "lsun" / "tower_train_lmdb"
    folder.parent.mkdir()
    with lmdb.open(str(folder), map_size=2**24) as environment, environment.begin(write=True) as transaction:
        for i in range(300):
            buffer = io.BytesIO()
            Image.new("RGB", (16, 12), (i % 25 * 10, 0, 0)).save(buffer, "PNG")
            transaction.put(hashlib.sha1(b"%d" % i).hexdigest().encode(), buffer.getvalue())
    return folder


@installed
def test_a_category_and_a_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_DATA", str(folder.parents[1]))
    images = open_source("lsun:tower?size=8")
    assert (len(images), images.shape) == (300, (3, 8, 8))
    assert images.keys == tuple(sorted(hashlib.sha1(b"%d" % i).hexdigest() for i in range(300)))
    value = {hashlib.sha1(b"%d" % i).hexdigest(): i % 25 * 10 for i in range(300)}
    assert images.images[:, 0, 4, 4].tolist() == [value[key] for key in images.keys]
    again = open_source(f"lsun:{folder}?size=8&limit=7")
    assert torch.equal(again.images, images.images[:7])
    stream = open_for_training("lsun:tower?size=8").stream
    assert stream is not None
    pixels, labels, keys = stream.feed(8, 0)(range(8))
    assert labels is None
    assert pixels[:, 0, 4, 4].tolist() == [value[key] for key in keys]


@installed
def test_what_is_damaged(folder: Path) -> None:
    data = folder / "data.mdb"
    whole = data.read_bytes()
    for content in (whole[: len(whole) // 2], whole[:5000], b"", bytes(8192), b"x" * 8192, bytes(4096) + whole[4096:]):
        data.write_bytes(content)
        with pytest.raises(DataError, match=r"damaged|cannot be read|no pictures"):
            open_source(f"lsun:{folder}?size=8")


def test_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    for spec in ("lsun:church_outdoor", f"lsun:{tmp_path}/x?split=val"):
        with pytest.raises(DataError, match=r"get \w+_(train|val)_lmdb.zip .*\$SFUMATO_DATA/lsun"):
            open_source(spec)
    for spec in ("lsun", "lsun:cat?split=test"):
        with pytest.raises(DataError, match="write lsun:CATEGORY"):
            open_source(spec)
    (tmp_path / "cat_train_lmdb").mkdir()
    (tmp_path / "cat_train_lmdb" / "data.mdb").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(DataError, match=r"pip install 'sfumato\[lsun\]'"):
        open_source("lsun:cat")
