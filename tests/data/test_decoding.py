"""Pictures of other people's: only the formats that are meant are opened, and whatever the bytes are, it ends well."""

from __future__ import annotations

import ast
import io
import os
import random
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import EpsImagePlugin, GifImagePlugin, Image, TiffImagePlugin, features

from sfumato.data import DataError, decoding, open_source, room
from sfumato.data.decoding import Slice, Unreadable, opened
from sfumato.data.room import Room
from sfumato.data.spec import Size, Spec
from sfumato.data.upright import OtherSizeError, single, upright

SPEC = Spec("folder:x", "folder", "x", {})


KINDS = [kind for kind in decoding.FORMATS if kind != "AVIF" or features.check("avif")]


def stored(mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (8, 8), value: object = 0) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, value).save(buffer, kind)  # type: ignore[arg-type]
    return buffer.getvalue()


def png(width: int, height: int, depth: int, colour: int, rows: bytes) -> bytes:
    """A PNG whose header and contents need not agree."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    )  # fmt: skip


def test_pillow_opens_pictures_in_one_place() -> None:
    """`Image.open` without the list of formats would start Ghostscript for some files."""
    found = []
    for path in Path(decoding.__file__).parents[1].rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Attribute) and node.attr == "open" and getattr(node.value, "id", "") == "Image":
                found.append(path.name)
    assert found == ["decoding.py"]


def test_a_pillow_that_lacks_a_format(monkeypatch: pytest.MonkeyPatch) -> None:
    Image.init()
    monkeypatch.setattr(Image, "OPEN", {name: opener for name, opener in Image.OPEN.items() if name != "AVIF"})
    decoding._formats.cache_clear()
    assert upright(stored(kind="PPM"), SPEC, Room("x")).pixels.shape[1:] == (8, 8)
    decoding._formats.cache_clear()


def test_postscript_named_png_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> None:
        raise AssertionError("Ghostscript")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", run)
    text = "%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n%%BeginPreview: 0\n"
    (tmp_path / "a.png").write_text(text)
    with pytest.raises(DataError, match="none of the 1"):
        open_source(f"folder:{tmp_path}")
    with pytest.raises(Unreadable, match="no picture that is known here"):
        single(tmp_path / "a.png", 1)


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_of_every_format(kind: str, recwarn: pytest.WarningsRecorder) -> None:
    """They are a picture, or unreadable; Pillow's own errors are of a dozen kinds."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.save(buffer, kind)
    whole, dice = buffer.getvalue(), random.Random(kind)
    assert upright(whole, SPEC, Room("x")).pixels.shape[1:] == (24, 24)
    for _ in range(60):
        damaged = bytearray(whole[: dice.choice([len(whole), dice.randrange(len(whole))])])
        for _ in range(dice.randrange(4)):
            damaged[dice.randrange(len(damaged) or 1) : 1] = bytes([dice.randrange(256)])
        try:
            upright(bytes(damaged), SPEC, Room("x"))
        except Unreadable:
            continue
    assert not recwarn.list


@pytest.mark.skipif(sys.platform != "linux", reason="libtiff is looked for on Linux")
@pytest.mark.parametrize("compression", ["group4", "tiff_lzw", "tiff_deflate", "jpeg"])
def test_libtiff_is_heard(compression: str, capfd: pytest.CaptureFixture[str]) -> None:
    """It prints what is wrong with a file, and Pillow takes what came out for the picture."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8))
    buffer = io.BytesIO()
    noise.convert("1" if compression == "group4" else "RGB").save(buffer, "TIFF", compression=compression)
    whole, unreadable = buffer.getvalue(), 0
    assert upright(whole, SPEC, Room("x")).pixels.shape[1:] == (32, 32)
    for place in range(8, 200, 8):
        damaged = whole[:place] + bytes([whole[place] ^ 0xFF]) + whole[place + 1 :]
        try:
            upright(damaged, SPEC, Room("x"))
        except Unreadable:
            unreadable += 1
    assert unreadable > 0
    assert capfd.readouterr().err == ""
    assert upright(whole, SPEC, Room("x")).pixels.shape[1:] == (32, 32)


def test_size_is_looked_at_before_anything_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    for width, height, words in ((60_000, 60_000, "more than twice"), (2**20, 257, "1048576x257 pixels; at most")):
        with pytest.raises(Unreadable, match=words):
            upright(png(width, height, 8, 0, b""), SPEC, Room("x"))
    large = png(14_000, 14_000, 1, 0, (b"\0" + bytes(1750)) * 14_000)  # a valid one, which Pillow itself would refuse
    spec = SPEC._replace(options={"size": "16"})
    assert upright(large, spec, Room("x")).pixels.shape[1:] == (16, 16)
    monkeypatch.setattr(room, "FREELY", 10**6)
    with pytest.raises(DataError, match="expand to"):
        upright(png(4000, 4000, 8, 6, b""), spec, Room("x"))


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    dice = np.random.default_rng(0)
    rgba = Image.fromarray(dice.integers(0, 256, (50, 40, 4), dtype=np.uint8))
    deep = Image.fromarray(dice.integers(0, 65536, (50, 40), dtype=np.uint16))
    files = []
    for image, kind in ((rgba, "PNG"), (deep, "TIFF"), (rgba.convert("LA"), "PNG")):
        buffer = io.BytesIO()
        image.save(buffer, kind)
        files.append(buffer.getvalue())
    whole = [upright(file, SPEC, Room("x")).pixels for file in files]
    original = decoding.strips

    def narrow(image: Image.Image) -> object:
        for top in range(0, image.height, 7):
            yield top, image.crop((0, top, image.width, min(top + 7, image.height)))

    monkeypatch.setattr("sfumato.data.upright.strips", narrow)
    monkeypatch.setattr(decoding, "strips", narrow)
    for file, expected in zip(files, whole, strict=True):
        assert torch.equal(upright(file, SPEC, Room("x")).pixels, expected)
    assert [part.height for _, part in original(rgba)] == [50]


def test_frames_are_not_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A film of many frames would be read to its end to count them."""
    for module, name, kind in ((GifImagePlugin, "GifImageFile", "GIF"), (TiffImagePlugin, "TiffImageFile", "TIFF")):
        monkeypatch.setattr(getattr(module, name), "n_frames", property(lambda _: 1 / 0))
        buffer = io.BytesIO()
        frames = [Image.new("L", (8, 8), v) for v in (10, 20, 30)]
        frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
        found = upright(buffer.getvalue(), SPEC, Room("x"))
        assert found.met.converted["animated, first frame kept"] == 1
        assert found.pixels[0, 0, 0] == 10


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_the_depth_of_png_is_told(colour: int, channels: int, tmp_path: Path) -> None:
    rows = (b"\0" + b"\xab\xcd" * channels * 8) * 8
    (tmp_path / "deep.png").write_bytes(png(8, 8, 16, colour, rows))
    card = open_source(f"folder:{tmp_path}?bits=8").card
    assert card.bits == "16 bits a channel, kept as 8"
    assert any("16-bit" in note for note in card.notes)
    assert open_source(f"folder:{tmp_path}").card.bits == "16 bits a channel"
    (tmp_path / "deep.png").write_bytes(stored())
    assert open_source(f"folder:{tmp_path}").card.bits == "8 bits a channel"


def test_a_palette_of_greys_goes_with_grey_and_with_colour(tmp_path: Path) -> None:
    grey = Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8))
    grey.save(tmp_path / "a.png")
    grey.convert("RGB").convert("P", palette=Image.Palette.ADAPTIVE).save(tmp_path / "b.png")
    with Image.open(tmp_path / "b.png") as file:
        assert file.mode == "P"
    images = open_source(f"folder:{tmp_path}")
    assert images.shape == (1, 8, 8)
    assert torch.equal(images.images[0], images.images[1])
    (tmp_path / "a.png").write_bytes(stored("RGB", value=(1, 2, 3)))
    images = open_source(f"folder:{tmp_path}")
    assert images.shape == (3, 8, 8)
    assert images.images[1, :, 0, 5].tolist() == [5, 5, 5]


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(Unreadable, match="a pipe, socket or device"), opened(tmp_path / "a.png"):
        pass
    with pytest.raises(Unreadable, match="a folder"), opened(tmp_path):
        pass
    with pytest.raises(DataError, match=r"the first is a\.png \(a pipe"):
        open_source(f"folder:{tmp_path}")
    with (tmp_path / "b.png").open("wb") as file:
        file.write(stored()[:8])
        file.truncate(2**28)
    with pytest.raises(Unreadable, match="nearly all holes"), opened(tmp_path / "b.png"):
        pass


def test_a_slice_of_a_file_is_a_picture(tmp_path: Path) -> None:
    for kind in KINDS:
        data = stored("RGB", kind, value=(100, 100, 100))
        (tmp_path / "all").write_bytes(b"x" * 99 + data + b"y" * 99)
        found = upright(Slice(tmp_path / "all", 99, len(data)), SPEC, Room("x")).pixels
        assert (found[:, 4, 4].int() - 100).abs().max() < 4
    with pytest.raises(Unreadable):
        upright(Slice(tmp_path / "all", 99, 20), SPEC, Room("x"))


def test_a_single_picture_is_upright_of_eight_bits_and_laid_on_white(tmp_path: Path) -> None:
    deep, clear, turned = tmp_path / "deep.png", tmp_path / "clear.png", tmp_path / "turned.jpg"
    Image.fromarray(np.array([[0, 300], [30_000, 65_535]], np.uint16)).save(deep)
    assert single(deep, 1).tolist() == [[[0, 1], [117, 255]]]  # v / 257, not cut off at 255
    strokes = np.zeros((2, 2, 4), np.uint8)
    strokes[0, 0, 3] = 255  # one black pixel, the others transparent
    Image.fromarray(strokes).save(clear)
    assert single(clear, 1).tolist() == [[[0, 255], [255, 255]]]
    assert single(clear, 3).shape == (3, 2, 2)
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    Image.fromarray(np.array([[0] * 8 + [255] * 8] * 8, np.uint8)).save(turned, exif=exif, quality=100)
    upright_one = single(turned, 1, Size(8, 16))
    assert upright_one.shape == (1, 16, 8)
    assert int(upright_one[0, :8].max()) < 50 < 200 < int(upright_one[0, 8:].min())
    for wanted in (Size(16, 8), Size(8, 15)):
        with pytest.raises(OtherSizeError, match="pixels"):
            single(turned, 1, wanted)
