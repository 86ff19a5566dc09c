"""emoji128 beside emoji32: the same emoji, classes and split, read from a font; and fonts that are none."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sfumato.data import DataError, emoji, open_source

INSTALLED = next((path for path in emoji.INSTALLED if path.is_file()), None)


@pytest.mark.skipif(INSTALLED is None, reason="Debian's fonts-noto-color-emoji is not installed")
def test_emoji128_is_emoji32_at_its_own_size() -> None:
    large, small = open_source("emoji128:test"), open_source("emoji32:test")
    assert large.shape == (3, 128, 128)
    assert large.classes == small.classes
    assert set(large.keys) <= set(small.keys)
    assert len(large) > 0.9 * len(small)
    places = torch.tensor([small.keys.index(key) for key in large.keys])
    assert large.labels is not None
    assert small.labels is not None
    assert torch.equal(large.labels, small.labels[places])
    shrunk, ours = F.avg_pool2d(large.images.float(), 4), small.images[places].float()
    of_its_own = (shrunk - ours).abs().flatten(1).mean(1)
    of_another = (shrunk - ours.roll(1, 0)).abs().flatten(1).mean(1)
    assert of_its_own.median() < 3  # of 255: another filter, and some redrawn since
    assert (of_its_own < of_another).float().mean() > 0.95


@pytest.mark.skipif(INSTALLED is None, reason="Debian's fonts-noto-color-emoji is not installed")
def test_sequences_are_ligatures_of_the_font() -> None:
    assert INSTALLED is not None
    flag, family, digit, nothing = (0x1F1E9, 0x1F1EA), (0x1F468, 0x200D, 0x1F373), (0x1F600,), (0x1F600, 0x1F600)
    found = emoji.pictures_of(INSTALLED, [flag, family, digit, nothing])
    assert set(found) == {flag, family, digit}
    assert all(png.startswith(b"\x89PNG") for png in found.values())
    assert len(set(found.values())) == 3


def test_variation_selectors_are_left_out() -> None:
    assert emoji.code_points("2764-FE0F-200D-1F525") == (0x2764, 0x200D, 0x1F525)


def test_a_font_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(emoji, "INSTALLED", ())
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    with pytest.raises(DataError, match="apt-get install fonts-noto-color-emoji"):
        open_source("emoji128")


def test_fonts_without_pictures_and_damaged_ones(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SFUMATO_DATA", str(tmp_path))
    own = tmp_path / emoji.FONT
    letters = Path(str(resources.files("matplotlib"))) / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
    own.write_bytes(letters.read_bytes())
    with pytest.raises(DataError, match="no table CBDT"):
        open_source("emoji128")
    for damaged in (b"", b"no font", letters.read_bytes()[:5000]):
        own.write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged|no table CBDT"):
            open_source("emoji128")
    if INSTALLED is not None:
        whole = INSTALLED.read_bytes()
        own.write_bytes(whole[: len(whole) // 2])
        with pytest.raises(DataError, match="damaged"):
            open_source("emoji128:test")
