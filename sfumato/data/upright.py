"""A picture file of whatever kind as an upright picture, grey or colour, with a note of what was changed.

Files of more than 8 bits keep their depth (`deep`), unless ?bits=8 is asked for.

Conversions go strip by strip, so that a large picture is held about twice and no more.
"""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sfumato.data import framing
from sfumato.data.decoding import Source, Unreadable, decoded_bytes, is_deep, opened, stored, strips, to_tensor
from sfumato.data.deep import deep_pixels
from sfumato.data.depth import of_depth
from sfumato.data.room import Room
from sfumato.data.spec import Size, Spec


@dataclass
class Met:
    """What was met among so many pictures, counted."""

    sizes: Counter[str] = field(default_factory=Counter)
    modes: Counter[str] = field(default_factory=Counter)
    converted: Counter[str] = field(default_factory=Counter)
    corrupt: list[str] = field(default_factory=list)

    def add(self, other: Met) -> None:
        """Count what another met as well."""
        for mine, theirs in ((self.sizes, other.sizes), (self.modes, other.modes), (self.converted, other.converted)):
            mine.update(theirs)
        self.corrupt += other.corrupt

    @property
    def bits(self) -> str | None:
        """The depth of the colours, where pixels have another."""
        deep = any(mode.startswith("I") or mode.endswith("of 16 bits") for mode in self.modes)
        return "16 bits a channel, kept as 8" if deep else None

    @property
    def notes(self) -> tuple[str, ...]:
        """What was changed, in words."""
        return tuple(f"{n:,} {what}" for what, n in self.converted.items())

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {name: value if name == "corrupt" else dict(value) for name, value in vars(self).items()}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Met:
        """What `to_json` wrote."""
        counts = {name: Counter(values[name]) for name in ("sizes", "modes", "converted")}
        return cls(**counts, corrupt=list(values["corrupt"]))


class Picture(NamedTuple):
    """One picture as it is kept.

    Attributes:
        pixels: (C, H, W), upright and of the spec's size; uint8, uint16 or float32 in [-1, 1].
        either: it was stored with a palette of greys, and goes with grey pictures as well as with colour.
    """

    pixels: Tensor
    met: Met
    either: bool


def upright(picture: Source, spec: Spec, room: Room, at: framing.Place = framing.MIDDLE) -> Picture:
    """One file as an upright picture of the spec's size and channels: grey or colour where it does not say more.

    Args:
        at: where a part is cut out, with ?crop=random.

    Raises:
        Unreadable: it is damaged or too large.
        UnfitError: with those before it, it takes more than there is `room` for; it is not decoded then.
    """
    with opened(picture) as file:
        deep, mode = is_deep(file), file.mode
        taken = max(3, spec.channels or 3) * math.prod(spec.size) if spec.size else 0
        room.add(decoded=max(decoded_bytes(file), taken), stored=stored(picture))
        if deep and spec.levels != 256:
            return _deep(picture, file, spec, at)
        animated = bool(getattr(file, "is_animated", False))  # counting the frames would read them all
        file.load()
        ImageOps.exif_transpose(file, in_place=True)
        met = Met(Counter([f"{file.width}x{file.height}"]), Counter([f"{mode} of 16 bits" if deep else mode]))
        if spec.channels in (None, 1, 3):
            image, notes, either = _plain(file, mode, deep, spec.background)
            if animated:
                notes.insert(0, "animated, first frame kept")
            pages = [image]
        else:
            pages, notes, either = _all_of(file, deep, spec.channels), ["16 bits kept as 8"] * deep, False
        if note := framing.note(pages[0].size, spec):
            notes.append(note)
        pixels = torch.cat([to_tensor(framing.framed(page, spec, at)) for page in pages])
        if spec.levels not in (None, 256):
            notes.append(f"8 bits as {spec.options['bits']}")
            pixels = torch.from_numpy(of_depth(pixels.numpy(), spec.levels, None, "pixels"))
    met.converted.update(notes)
    return Picture(pixels, met, either)


class OtherSizeError(Unreadable):
    """A picture of another size than the one that is asked for."""

    def __init__(self, width: int, height: int) -> None:
        super().__init__(f"{width}x{height} pixels")


def single(picture: Source, channels: int, size: Size | None = None) -> Tensor:
    """One picture file by itself, a mask for example, upright as uint8 (C, H, W): grey or colour, 16 bits scaled to 8,
    what is transparent laid on white.

    Args:
        size: it is to have this one; another is not decoded.

    Raises:
        OtherSizeError: it has another size.
        Unreadable: it is no picture, damaged or too large.
    """
    with opened(picture) as file:
        if size and sorted(size) != sorted(file.size):
            raise OtherSizeError(*file.size)
        deep, mode = is_deep(file), file.mode
        file.load()
        ImageOps.exif_transpose(file, in_place=True)
        if size and size != file.size:
            raise OtherSizeError(*file.size)
        return to_tensor(_plain(file, mode, deep, (255, 255, 255))[0].convert("L" if channels == 1 else "RGB"))


def _deep(source: Source, file: Image.Image, spec: Spec, at: framing.Place) -> Picture:
    """A picture of 16 bits or of floats, at that depth."""
    kind = file.mode
    pixels = torch.from_numpy(deep_pixels(source, file, spec))
    size = Size(pixels.shape[2], pixels.shape[1])
    met = Met(Counter([str(size)]), Counter([f"deep {kind}"]))
    if note := framing.note(size, spec):
        met.converted[note] += 1
    return Picture(framing.framed_array(pixels, spec, at), met, False)


def _all_of(file: Image.Image, deep: bool, channels: int) -> list[Image.Image]:
    """Grey with alpha, colour with alpha, or the pages of a file one behind the other: together so many channels.

    Raises:
        Unreadable: it has others.
    """
    pages = getattr(file, "n_frames", 1) if file.format == "TIFF" else 1
    if channels in (2, 4) and pages == 1:
        if deep:
            raise Unreadable("16 bits with transparency, which is not read")
        wanted = "LA" if channels == 2 else "RGBA"
        return [file if file.mode == wanted else file.convert(wanted)]
    if pages > channels:
        raise Unreadable(f"{pages:,} pages, where channels={channels} are asked for")
    found: list[Image.Image] = []
    for page in range(pages):
        file.seek(page)
        plain = file.copy() if file.mode in ("L", "RGB") else _plain(file, file.mode, is_deep(file), (255,) * 3)[0]
        if found and plain.size != found[0].size:
            raise Unreadable("pages of several sizes")
        found.append(plain)
    if (count := sum(len(page.getbands()) for page in found)) != channels:
        raise Unreadable(f"{count} channels on {pages} pages, where channels={channels} are asked for")
    return found


def _plain(
    image: Image.Image, mode: str, deep: bool, background: tuple[int, int, int]
) -> tuple[Image.Image, list[str], bool]:
    """L or RGB, what was done to get there, and whether grey was stored as a palette."""
    if mode.startswith("I") or mode == "F":
        return _eight_bits(image, mode), ["16-bit scaled to 8 bits"], False
    notes = ["16-bit colour, of which the upper 8 bits are kept"] if deep else []
    either = mode in ("P", "PA") and _grey_palette(image)
    if image.has_transparency_data:
        grey = (mode in ("LA", "La") or either) and len(set(background)) == 1
        return _laid(image, background, "L" if grey else "RGB"), [*notes, "transparent, laid on the background"], either
    if mode in ("L", "1") or either:
        return image.convert("L"), [*notes, *["palette of greys turned into grey"] * either], either
    if mode == "RGB":
        return image.convert("RGB"), notes, False
    return image.convert("RGB"), [*notes, f"{'palette' if mode == 'P' else mode} turned into colour"], False


def _grey_palette(image: Image.Image) -> bool:
    """Whether all colours of the palette that a picture uses are greys."""
    palette = image.getpalette("RGB")
    used = image.getchannel(0) if image.mode == "PA" else image
    if palette is None:
        return False
    colours = [palette[3 * i : 3 * i + 3] for i, count in enumerate(used.histogram()[:256]) if count]
    return all(len(set(colour)) <= 1 for colour in colours)


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    """Levels of 0..65535 as grey. ValueError where there are others."""
    if mode == "F":
        raise ValueError("pixels that are floats")
    out = Image.new("L", image.size)
    for top, part in strips(image):
        values = np.asarray(part).astype(np.float64)
        if values.min() < 0 or values.max() > 65535:
            raise ValueError("pixel values outside 16 bits")
        out.paste(Image.fromarray(np.rint(values / 257).astype(np.uint8)), (0, top))
    return out


def _laid(image: Image.Image, background: tuple[int, int, int], mode: str) -> Image.Image:
    """A transparent picture on a background."""
    out = Image.new(mode, image.size)
    for top, part in strips(image):
        under = Image.new("RGBA", part.size, (*background, 255))
        under.alpha_composite(part.convert("RGBA"))
        out.paste(under.convert(mode), (0, top))
    return out
