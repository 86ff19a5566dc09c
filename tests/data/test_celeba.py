"""CelebA as it is downloaded, of a few tiny pictures: the zip, the unpacked folder, the list, damage."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from sfumato.data import DataError, open_source
from sfumato.data.celeba import PACKED, PARTS
from sfumato.data.prepare import prepare
from sfumato.data.splits import test_split as split_beside

NAMES = tuple(f"{i:06}.jpg" for i in range(1, 7))
LIST = "".join(f"{name} {part}\n" for name, part in zip(NAMES, (0, 0, 1, 2, 0, 2), strict=True))


def picture(i: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (18, 22), (40 * i, 0, 0)).save(buffer, "JPEG")
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "celeba"
    folder.mkdir()
    with zipfile.ZipFile(folder / PACKED, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("img_align_celeba/", b"")
        for i, name in enumerate(NAMES):
            archive.writestr(f"img_align_celeba/{name}", picture(i))
    (folder / PARTS).write_text(LIST)
    return folder


def test_the_three_parts(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_DATA", str(folder.parent))
    for spec, wanted in (("celeba", (0, 1, 4)), ("celeba:valid", (2,)), (f"celeba:{folder}?split=test", (3, 5))):
        images = open_source(spec)
        assert images.shape == (3, 22, 18)
        assert images.keys == tuple(f"celeba/{NAMES[i]}" for i in wanted)
        assert [round(v / 40) for v in images.images[:, 0].float().mean((1, 2)).tolist()] == list(wanted)
        assert images.labels is None
    assert split_beside("celeba?size=16") == "celeba:test?size=16"
    made = prepare("celeba?size=16", tmp_path / "map")
    assert not isinstance(made, str)
    assert torch.equal(made.images, open_source("celeba?size=16").images)
    with zipfile.ZipFile(folder / PACKED) as archive:
        archive.extractall(folder)
    (folder / PACKED).unlink()
    assert torch.equal(open_source("celeba?size=16").images, made.images)


def test_a_damaged_picture_is_counted(folder: Path) -> None:
    content = bytearray((folder / PACKED).read_bytes())
    at = content.index(NAMES[1].encode()) + len(NAMES[1])
    content[at + 20 : at + 40] = bytes(20)
    (folder / PACKED).write_bytes(bytes(content))
    images = open_source(f"celeba:{folder}")
    assert len(images) == 2
    assert images.card.corrupt == (f"celeba/{NAMES[1]}",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (LIST + "000007.jpg 0\n000008.jpg 0\n", r"^2 pictures of list_eval_partition.txt are not in .*: 000007.jpg"),
        (LIST + "000001.jpg\n", "row 7: a file name and 0, 1 or 2"),
        (LIST.replace(" 1", " 3"), "row 3: a file name"),
        (LIST + "000001.jpg 0\n", "damaged"),
        (LIST + "../000001.jpg 0\n", "damaged"),
        (LIST.replace(" 0", " 1"), "damaged"),
        ("\xff", "no text in ASCII"),
        ("", "damaged"),
    ],
)
def test_lists_that_are_none(text: str, words: str, folder: Path) -> None:
    (folder / PARTS).write_bytes(text.encode("latin1"))
    with pytest.raises(DataError, match=words):
        open_source(f"celeba:{folder}")


def test_what_is_missing_or_damaged(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = (folder / PACKED).read_bytes()
    for content in (whole[:-30], whole[:50], b"", b"x" * 100):
        (folder / PACKED).write_bytes(content)
        with pytest.raises(DataError, match=f"{PACKED} is damaged"):
            open_source(f"celeba:{folder}")
    (folder / PARTS).unlink()
    with pytest.raises(DataError, match=f"lacks {PARTS}"):
        open_source(f"celeba:{folder}")
    monkeypatch.delenv("SFUMATO_DATA", raising=False)
    with pytest.raises(DataError, match=f"get {PACKED} and {PARTS} from https"):
        open_source("celeba:test")
    with pytest.raises(DataError, match="splits train, valid and test, not 'val'"):
        open_source(f"celeba:{folder}?split=val")
