"""The depth of pictures: 16 bits and floats are what is stored, by every reader, and 8 bits are what they were."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import DataError, eight_bits, open_source, to_float, to_pixels
from sfumato.data.card import card_from_json
from sfumato.data.deep_files import encoded, write_all
from sfumato.data.given import given
from sfumato.data.prepare import prepare
from sfumato.data.sources import parse_spec
from sfumato.data.stream import open_for_training

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (6, 8, 12, 3), dtype=np.uint16)
FLOATS = RNG.uniform(-1000, 3000, (6, 8, 12)).astype(np.float32)


def nchw(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))


def tiff(pixels: np.ndarray, order: str, compressed: bool) -> bytes:
    """A baseline TIFF of 16-bit colour (H, W, 3), in either order of bytes, as it is or deflated."""
    height, width, channels = pixels.shape
    data = pixels.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if compressed else data
    bits = 8 + 2 + 12 * 9 + 4
    start = bits + 2 * channels
    rows = (
        (256, 3, 1, width), (257, 3, 1, height), (258, 3, channels, bits), (259, 3, 1, 8 if compressed else 1),
        (262, 3, 1, 2), (273, 4, 1, start), (277, 3, 1, channels), (278, 3, 1, height), (279, 4, 1, len(data)),
    )  # fmt: skip

    def row(tag: int, kind: int, count: int, value: int) -> bytes:
        short = kind == 3 and count == 1
        return struct.pack(f"{order}HHI", tag, kind, count) + struct.pack(
            f"{order}{'HH' if short else 'I'}", *((value, 0) if short else (value,))
        )

    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(rows))
    depth = struct.pack(f"{order}{channels}H", *[16] * channels)
    return head + b"".join(row(*r) for r in rows) + bytes(4) + depth + data


# ---------------------------------------------------------------- numbers and levels


@pytest.mark.parametrize(("levels", "kind"), [(256, np.uint8), (65536, np.uint16)])
def test_every_level_goes_there_and_back(levels: int, kind: type) -> None:
    every = torch.from_numpy(np.arange(levels).astype(kind)).reshape(1, 1, 1, -1)
    x = to_float(every)
    assert (float(x.min()), float(x.max())) == (-1, 1)
    assert torch.equal(to_pixels(x, levels), every)
    assert torch.equal(to_pixels(2 * x, levels)[..., [0, -1]], every[..., [0, -1]])  # clamped


def test_a_view_is_of_the_window() -> None:
    deep = torch.tensor([0, 4095, 32768, 65535]).to(torch.uint16).reshape(1, 1, 1, 4)
    assert eight_bits(deep).flatten().tolist() == [0, 16, 128, 255]
    assert eight_bits(deep, (0, 4095 / 65535)).flatten().tolist() == [0, 255, 255, 255]
    assert eight_bits(to_float(deep), (0.5, 1)).flatten().tolist() == [0, 0, 0, 255]
    shallow = torch.arange(4).byte()
    assert eight_bits(shallow, (0, 0.1)) is shallow


# ---------------------------------------------------------------- arrays


@pytest.mark.parametrize("kind", ["<u2", ">u2"])
def test_arrays_of_16_bits(kind: str, tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DEEP.astype(kind))
    images = open_source(f"npy:{tmp_path}/a.npy")
    assert torch.equal(images.images, nchw(DEEP))
    card = images.card
    assert (card.levels, card.bits) == (65536, "16 bits a channel")
    assert card.mean == pytest.approx(DEEP.mean((0, 1, 2)), abs=1e-3)
    assert card.std == pytest.approx(DEEP.std((0, 1, 2)), abs=1e-3)
    assert "(of 0..65535)" in str(card)
    assert card.fingerprint == hashlib.sha256(nchw(DEEP).numpy().tobytes()).hexdigest()
    assert card_from_json(card.to_json()) == card
    eight = open_source(f"npy:{tmp_path}/a.npy?bits=8").images
    assert torch.equal(eight, torch.from_numpy(np.rint(nchw(DEEP).numpy() / 257).astype(np.uint8)))


def test_floats_say_what_black_and_white_are(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", images=FLOATS)
    spec = f"npz:{tmp_path}/a.npz"
    with pytest.raises(DataError, match=r"images are float32 from -9.* to 29.*say what black and white are"):
        open_source(spec)
    with pytest.raises(DataError, match=r"outside of values=\(0, 1\)"):
        open_source(f"{spec}?values=0,1")
    for wrong in ("1,0", "1", "nan,2", "0,inf"):
        with pytest.raises(DataError, match=r"values in .* is black and white, as values=0,1"):
            open_source(f"{spec}?values={wrong}")
    images = open_source(f"{spec}?values=-1000,3000")
    assert images.images.dtype == torch.float32
    assert torch.allclose(images.images[:, 0], torch.from_numpy((FLOATS + 1000) / 2000 - 1), atol=1e-6)
    assert (images.levels, images.card.values) == (0, (-1000.0, 3000.0))
    assert images.card.mean[0] == pytest.approx(FLOATS.mean(), rel=1e-3)
    assert "real numbers from -1000 to 3000" in str(images.card)
    sixteen = open_source(f"{spec}?values=-1000,3000&bits=16").images
    assert (to_float(sixteen) - images.images).abs().max() <= 1 / 65535 + 1e-6
    nans = np.where(FLOATS > 2900, np.nan, FLOATS)
    np.savez(tmp_path / "a.npz", images=nans)
    with pytest.raises(DataError, match="from nan to nan"):
        open_source(f"{spec}?values=-1000,3000")


def test_12_bits_in_16_fill_the_range_as_real_numbers(tmp_path: Path) -> None:
    twelve = DEEP[:, :, :, 0] // 16
    np.save(tmp_path / "a.npy", twelve)
    write_all(tmp_path / "files", torch.from_numpy(twelve[:, None].copy()))
    for source in (f"npy:{tmp_path}/a.npy", f"folder:{tmp_path}/files"):
        found = open_source(f"{source}?bits=float&values=0,4095")
        assert torch.allclose(found.images[:, 0], torch.from_numpy(twelve / np.float32(2047.5) - 1), atol=1e-6)
        assert (found.levels, found.card.values) == (0, (0.0, 4095.0))
    with pytest.raises(DataError, match=r"from \d+ to \d+, outside of values=\(0, 2000\)"):
        open_source(f"npy:{tmp_path}/a.npy?bits=float&values=0,2000")


def test_options_that_cannot_be_meant(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", DEEP)
    for options, words in (
        ("bits=12", "bits in .* is 8, 16, float, not '12'"),
        ("values=0,1", r"values= says what floats mean \(or with bits=float\); these images are uint16"),
        ("window=0,4095", "window in .* lies between 0, black, and 1, white"),
    ):
        with pytest.raises(DataError, match=words):
            open_source(f"npy:{tmp_path}/a.npy?{options}")
    with pytest.raises(DataError, match="unknown option 'bits'"):
        open_source("emoji32?bits=16")


def test_eight_bits_are_what_they_were(tmp_path: Path) -> None:
    """The same bytes, and the same digest: recorded before pictures had another depth."""
    pixels = (np.arange(2 * 4 * 4 * 3) % 251).astype(np.uint8).reshape(2, 4, 4, 3)
    np.save(tmp_path / "a.npy", pixels)
    images = open_source(f"npy:{tmp_path}/a.npy")
    assert torch.equal(images.images, nchw(pixels))
    digest = hashlib.sha256(nchw(pixels).numpy().tobytes()).hexdigest()
    assert (images.card.fingerprint, images.card.levels) == (digest, 256)
    old = {k: v for k, v in images.card.to_json().items() if k not in ("levels", "values")}
    assert card_from_json(old) == images.card


def test_arrays_in_memory() -> None:
    memory, share = parse_spec("memory"), FLOATS / 4000 + 0.25
    assert torch.equal(given(memory, DEEP).images, nchw(DEEP))
    assert torch.equal(given(memory, nchw(DEEP)).images, nchw(DEEP))
    assert given(memory, share, values=(0, 1)).images.dtype == torch.uint8  # as ever, unless more is asked for
    assert given(parse_spec("memory?bits=16"), share, values=(0, 1)).images.dtype == torch.uint16
    real = given(parse_spec("memory?bits=float"), FLOATS, values=(-1000, 3000))
    assert (real.levels, real.card.values) == (0, (-1000.0, 3000.0))


# ---------------------------------------------------------------- files


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_16_bit_png_there_and_back(channels: int, tmp_path: Path) -> None:
    images = torch.from_numpy(RNG.integers(0, 65536, (3, channels, 8, 12), dtype=np.uint16))
    (tmp_path / "00007.png").write_bytes(b"of before")
    write_all(tmp_path, images)
    found = open_source(f"folder:{tmp_path}{f'?channels={channels}' if channels in (2, 4) else ''}")
    assert torch.equal(found.images, images)
    with Image.open(tmp_path / "00000.png") as file:  # Pillow has the upper bytes of colour
        upper = np.asarray(file)
        if channels == 3:
            assert np.array_equal(upper, images[0].permute(1, 2, 0).numpy() >> 8)
    assert open_source(f"folder:{tmp_path}?bits=8&channels=3").images.dtype == torch.uint8


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("compressed", [False, True])
def test_16_bit_colour_of_tiff(order: str, compressed: bool, tmp_path: Path) -> None:
    (tmp_path / "a.tif").write_bytes(tiff(DEEP[0], order, compressed))
    assert torch.equal(open_source(f"folder:{tmp_path}").images, nchw(DEEP[:1]))


def test_transparent_colour_of_16_bits_lies_on_the_background(tmp_path: Path) -> None:
    pixels = torch.tensor([1000, 2000, 3000, 32768]).to(torch.uint16)[:, None, None].expand(4, 4, 4)
    (tmp_path / "a.png").write_bytes(encoded(pixels)[1])
    share = 32768 / 65535
    expected = [round(v * share + 65535 * (1 - share)) for v in (1000, 2000, 3000)]
    assert open_source(f"folder:{tmp_path}").images[0, :, 0, 0].tolist() == expected
    black = open_source(f"folder:{tmp_path}?background=black").images[0, :, 0, 0].tolist()
    assert black == [round(v * share) for v in (1000, 2000, 3000)]


def test_pages_of_16_bits_and_of_floats_are_channels(tmp_path: Path) -> None:
    deep = torch.from_numpy(RNG.integers(0, 65536, (2, 5, 8, 12), dtype=np.uint16))
    write_all(tmp_path / "deep", deep)
    assert torch.equal(open_source(f"folder:{tmp_path}/deep?channels=5").images, deep)
    with pytest.raises(DataError, match="5 pages, where channels=4 are asked for"):
        open_source(f"folder:{tmp_path}/deep?channels=4")
    real = 2 * torch.rand(2, 3, 8, 12) - 1
    write_all(tmp_path / "real", real, (0.0, 10.0))
    found = open_source(f"folder:{tmp_path}/real?channels=3&values=0,10")
    assert torch.allclose(found.images, real, atol=1e-6)
    with pytest.raises(DataError, match=r"pixels that are floats; \?values=0,1, say"):
        open_source(f"folder:{tmp_path}/real")


def test_mixed_depths_are_counted(tmp_path: Path) -> None:
    write_all(tmp_path, nchw(DEEP))
    Image.new("RGB", (12, 8), (1, 2, 3)).save(tmp_path / "shallow.png")
    words = r"mixes 6 images of 16 bits and 1 images of 8 bits, shallow\.png for one; choose with \?bits=8 or \?bits=16"
    with pytest.raises(DataError, match=words):
        open_source(f"folder:{tmp_path}")
    with pytest.raises(DataError, match=r"mixes images of 16 bits and of 8 bits, shallow\.png among the latter"):
        prepare(f"folder:{tmp_path}", tmp_path / "out")
    sixteen = open_source(f"folder:{tmp_path}?bits=16")
    assert sixteen.images[-1, :, 0, 0].tolist() == [257, 514, 771]
    assert any("1 8 bits as 16" in note for note in sixteen.card.notes)
    assert open_source(f"folder:{tmp_path}?bits=8").images.dtype == torch.uint8


def test_orientation_and_sizes(tmp_path: Path) -> None:
    turned = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(DEEP[0, ..., 0]).save(turned, "TIFF", exif=exif)
    (tmp_path / "a.tif").write_bytes(turned.getvalue())
    assert np.array_equal(open_source(f"folder:{tmp_path}").images[0, 0].numpy(), np.rot90(DEEP[0, ..., 0], 3))
    flat = torch.full((1, 3, 8, 12), 40_000).to(torch.uint16)
    write_all(tmp_path / "flat", flat)
    small = open_source(f"folder:{tmp_path}/flat?size=5&pad=128,128,128").images
    assert small.dtype == torch.uint16
    assert set(small.flatten().tolist()) == {40_000, 128 * 257}
    assert torch.equal(open_source(f"folder:{tmp_path}/flat?size=4x6").images, flat[..., :6, :4])
    grey = open_source(f"folder:{tmp_path}/flat?channels=1").images
    assert grey.shape[1] == 1
    assert grey.unique().tolist() == [40_000]


def test_resampling_is_that_of_eight_bits(tmp_path: Path) -> None:
    """The upper byte of what 16 bits become is what 8 bits become, to a level."""
    np.save(tmp_path / "a.npy", DEEP // 4 + 24_000)  # so that 8 bits are not clamped between its two passes
    deep = open_source(f"npy:{tmp_path}/a.npy?size=5").images
    shallow = open_source(f"npy:{tmp_path}/a.npy?size=5&bits=8").images
    assert (eight_bits(deep).int() - shallow.int()).abs().max() <= 1


# ---------------------------------------------------------------- prepared and streamed


def test_prepared_maps_keep_the_depth(tmp_path: Path) -> None:
    np.save(tmp_path / "deep.npy", DEEP)
    np.save(tmp_path / "real.npy", FLOATS)
    for source in (f"npy:{tmp_path}/deep.npy", f"npy:{tmp_path}/real.npy?values=-1000,3000"):
        out, whole = tmp_path / source[-6:].replace(",", ""), open_source(source)
        made = prepare(source, out)
        assert not isinstance(made, str)
        assert torch.equal(made.images, whole.images)
        assert (made.levels, made.card.values, made.card.mean) == (whole.levels, whole.card.values, whole.card.mean)
        part = made.take(torch.tensor([2, 0])).card
        assert (part.levels, part.values) == (whole.levels, whole.card.values)
        cut = open_for_training(f"map:{out}?size=4&crop=random")
        assert cut.stream is not None
        pixels, _, _ = cut.stream.feed(2, 0)(range(2))
        assert (pixels.dtype, cut.card.values) == (whole.images.dtype, whole.card.values)
        with pytest.raises(DataError, match="bits=8"):
            open_source(f"map:{out}?bits=8")


def test_shards_hold_16_bits_of_grey(tmp_path: Path) -> None:
    pytest.importorskip("webdataset")
    np.save(tmp_path / "grey.npy", DEEP[..., 0])
    spec = prepare(f"npy:{tmp_path}/grey.npy", tmp_path / "grey", shard=3)
    assert isinstance(spec, str)
    assert sorted(open_source(spec).images.flatten(1).tolist()) == sorted(DEEP[..., 0].reshape(6, -1).tolist())
    np.save(tmp_path / "deep.npy", DEEP)
    with pytest.raises(DataError, match="16-bit pictures of several channels; prepare a map"):
        prepare(f"npy:{tmp_path}/deep.npy", tmp_path / "shards", shard=3)
