"""emoji128: the colour emoji of an installed font at 128x128, with the names, categories and split of emoji32.

The font is Google's NotoColorEmoji.ttf with bitmaps (tables CBDT and CBLC of OpenType), as Debian packages it; nothing
is drawn or resized: the pictures are those that the font holds, laid on white.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sfumato.data.arrays import finished
from sfumato.data.decoding import Unreadable, opened, to_tensor
from sfumato.data.images import Images
from sfumato.data.included import asset
from sfumato.data.spec import DataError, Spec, split_of
from sfumato.runtime.opening import read_bounded

FONT = "NotoColorEmoji.ttf"
INSTALLED = (
    Path("/usr/share/fonts/truetype/noto") / FONT,
    Path("/usr/share/fonts/noto") / FONT,
    Path("/usr/share/fonts/google-noto-emoji") / FONT,
)
"""Where packages of the system put it."""

FONT_BYTES = 2**26
"""Of the largest font: six times that of Debian."""

SIDE, WIDTH = 128, 136
"""Height and width of the font's pictures, of which the outer columns are empty."""

SELECTOR = 0xFE0F
"""The code point that asks for the colour form of a character; no glyph has it."""

HELP = (
    "emoji128 needs the font NotoColorEmoji, which is not here. Get it with `apt-get install fonts-noto-color-emoji`, "
    "or without root: `apt-get download fonts-noto-color-emoji && dpkg -x fonts-noto-color-emoji_*.deb emoji && "
    "export SFUMATO_DATA=$PWD/emoji/usr/share/fonts/truetype/noto` ($SFUMATO_DATA/NotoColorEmoji.ttf)"
)


def emoji128(spec: Spec) -> Images:
    """Noto emoji at 128x128 on white, read from the font; split by first code point, as those of emoji32.

    Raises:
        DataError: the font is not here, damaged, or holds no bitmaps.
    """
    split, path = split_of(spec), font()
    index = json.loads(asset("emoji32.json").read_text())
    entries = [entry for entry in index["emoji"] if entry[3] == split]
    glyphs = pictures_of(path, [code_points(entry[0]) for entry in entries])
    found = [entry for entry in entries if code_points(entry[0]) in glyphs]
    if not found:
        raise DataError(f"{path} has none of the emoji of this set")
    lacking = len(entries) - len(found)
    images = torch.stack([_on_white(path, entry[0], glyphs[code_points(entry[0])]) for entry in found])
    return finished(
        spec, images, torch.tensor([e[2] for e in found]), tuple(index["classes"]), tuple(e[0] for e in found),
        texts=tuple(e[1] for e in found), licence="Noto Emoji, the font under OFL-1.1",
        notes=(f"{lacking} of {len(entries)} emoji are not in this version of the font",) if lacking else (),
    )  # fmt: skip


def font() -> Path:
    """The font file, below $SFUMATO_DATA or where it is installed. DataError, which names the package, without one."""
    root = os.path.expanduser(os.environ.get("SFUMATO_DATA", ""))
    own = (Path(root) / FONT, Path(root) / "emoji" / FONT) if root else ()
    for path in (*own, *INSTALLED):
        if path.is_file():
            return path
    raise DataError(HELP)


def code_points(code: str) -> tuple[int, ...]:
    """The code points of an emoji, such as "2764-FE0F-200D-1F525", without variation selectors."""
    points = (int(part, 16) for part in code.split("-"))
    return tuple(point for point in points if point != SELECTOR)


def pictures_of(path: Path, emoji: Iterable[tuple[int, ...]]) -> Mapping[tuple[int, ...], bytes]:
    """The PNG files that a font holds of these emoji, each by its code points; those that it lacks are left out.

    Raises:
        DataError: it is no font, is damaged, or holds no pictures.
    """
    from fontTools.ttLib import TTFont

    try:
        file = TTFont(io.BytesIO(read_bounded(path, FONT_BYTES)), lazy=True)
        if "CBDT" not in file or "GSUB" not in file:
            raise DataError(f"{path} holds no pictures (it has no table CBDT); emoji128 needs the font with bitmaps")
        single, ligatures = file.getBestCmap(), _ligatures(file)
        (strike,) = file["CBDT"].strikeData
        names = {points: tuple(single.get(point, "") for point in points) for points in emoji}
        glyphs = {points: ligatures.get(name, name[0] if len(name) == 1 else "") for points, name in names.items()}
        return {points: strike[glyph].imageData for points, glyph in glyphs.items() if glyph in strike}
    except DataError:
        raise
    except Exception as error:  # fontTools raises nearly every kind for damaged files
        raise DataError(f"{path} is damaged: {' '.join(str(error).split()) or type(error).__name__}") from None


def _ligatures(file: Any) -> dict[tuple[str, ...], str]:
    """The glyphs of sequences, such as flags and families, by the names of their glyphs."""
    return {
        (first, *ligature.Component): ligature.LigGlyph
        for lookup in file["GSUB"].table.LookupList.Lookup
        for table in lookup.SubTable
        for first, ligatures in getattr(table, "ligatures", {}).items()
        for ligature in ligatures
    }


def _on_white(path: Path, code: str, png: bytes) -> Tensor:
    """uint8 (3, SIDE, SIDE) of one picture of the font."""
    try:
        with opened(png) as file:
            if file.size != (WIDTH, SIDE):
                raise DataError(f"{path} has pictures of {file.width}x{file.height}, not of {WIDTH}x{SIDE}")
            white = Image.new("RGBA", file.size, (255, 255, 255, 255))
            white.alpha_composite(file.convert("RGBA"))
    except Unreadable as error:
        raise DataError(f"{path} is damaged at {code}: {error}") from None
    edge = (WIDTH - SIDE) // 2
    return to_tensor(white.convert("RGB").crop((edge, 0, edge + SIDE, SIDE)))
