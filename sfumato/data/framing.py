"""Framing: how pictures of any size and proportions are brought to the one size of a spec, a square or a rectangle.

Resampling is Lanczos over the whole area of a pixel. A random part (`?crop=random`) is cut out at a place that is
given: by the image counter in training, once and for all by the picture's key elsewhere.
"""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sfumato.core.randomness import mix
from sfumato.data.loader import levels_of
from sfumato.data.spec import Size, Spec

Place = tuple[float, float]
"""Where a part is cut out of a picture: from 0, left or top, to 1, right or bottom."""

MIDDLE: Place = (0.5, 0.5)

LANCZOS = Image.Resampling.LANCZOS


def place_of(key: str) -> Place:
    """The place that a key stands for: the same whenever and wherever the picture is read."""
    digest = hashlib.sha256(key.encode(errors="surrogateescape")).digest()
    return _place(int.from_bytes(digest[:8], "big"), int.from_bytes(digest[8:16], "big"))


def place_at(seed: int, counter: int) -> Place:
    """The place of an image counter, which is another in each epoch and the same in every resumed run."""
    return _place(mix(seed, counter, 0), mix(seed, counter, 1))


def _place(x: int, y: int) -> Place:
    return x % 2**53 / 2**53, y % 2**53 / 2**53


def note(size: tuple[int, int], spec: Spec) -> str:
    """What is done to a picture of this width and height, for the data card; empty where it loses nothing."""
    if spec.cut is not None and (middle := _middle(Size(*size), spec.cut)) != size:
        rest = note(middle, spec._replace(options={k: v for k, v in spec.options.items() if k != "cut"}))
        return f"of which the middle {middle} is taken{f', {rest}' if rest else ''}"
    wanted = spec.size_for(size)
    if wanted is None or size == wanted:
        return ""
    if spec.crop == "random":
        return f"cut at random to {wanted}"
    if size[0] * wanted.height == size[1] * wanted.width:
        return ""
    if spec.crop == "none":
        return "of other proportions, padded" if spec.pad else "of other proportions, stretched"
    return "not square, centre kept" if wanted.width == wanted.height else "of other proportions, centre kept"


def _middle(picture: Size, cut: Size) -> Size:
    """The size of the middle that is cut out: no side is longer than the picture's."""
    return Size(min(picture.width, cut.width), min(picture.height, cut.height))


def framed(image: Image.Image, spec: Spec, at: Place = MIDDLE) -> Image.Image:
    """A picture in the size of the spec, where it has one: cut, resized or padded as its options say."""
    if spec.cut is not None:
        middle = _middle(Size(*image.size), spec.cut)
        left, top = corner(Size(*image.size), middle, MIDDLE)
        image = image.crop((left, top, left + middle.width, top + middle.height))
    size = spec.size_for(image.size)
    if size is None or (image.size == size and spec.resize is None):
        return image
    if spec.crop == "random":
        image = _covering(image, size, spec.resize)
        left, top = corner(Size(*image.size), size, at)
        return image.crop((left, top, left + size.width, top + size.height))
    if spec.crop == "center":
        return ImageOps.fit(image, size, LANCZOS)
    if (colour := spec.pad) is None:
        return image.resize(size, LANCZOS)
    paper = Image.new("RGB", (1, 1), colour).convert(image.mode).getpixel((0, 0))
    return ImageOps.pad(image, size, LANCZOS, color=paper)  # type: ignore[arg-type]  # a number for grey pictures


def _covering(image: Image.Image, size: Size, shorter: int | None) -> Image.Image:
    """The picture with its shorter side resized where that is asked for, and at least as large as what is cut out."""
    factor = 1.0 if shorter is None else shorter / min(image.size)
    factor = max(factor, size.width / image.width, size.height / image.height)
    if factor == 1:
        return image
    width, height = (round(side * factor) for side in image.size)
    return image.resize((max(width, size.width), max(height, size.height)), LANCZOS)


def corner(picture: Size, size: Size, at: Place) -> tuple[int, int]:
    """Left and top of the part of this size that lies at a place of a picture."""
    left, top = (int(u * (p - s + 1)) for u, p, s in zip(at, picture, size, strict=True))
    return left, top


def framed_array(pixels: Tensor, spec: Spec, at: Place = MIDDLE) -> Tensor:
    """Pixels (C, H, W) of any depth in the size of the spec, each channel by itself."""
    size = spec.size
    if spec.cut is not None:
        picture = Size(pixels.shape[2], pixels.shape[1])
        middle = _middle(picture, spec.cut)
        left, top = corner(picture, middle, MIDDLE)
        pixels = pixels[:, top : top + middle.height, left : left + middle.width]
    if size is None or (pixels.shape[1:] == size[::-1] and spec.resize is None):
        return pixels
    if (
        spec.crop == "random"
        and spec.resize is None
        and size.width <= pixels.shape[2]
        and size.height <= pixels.shape[1]
    ):
        left, top = corner(Size(pixels.shape[2], pixels.shape[1]), size, at)
        return pixels[:, top : top + size.height, left : left + size.width]
    if pixels.dtype != torch.uint8:
        return _framed_deep(pixels, spec, at)
    if len(pixels) == 3:
        rgb = Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy())
        return torch.from_numpy(np.array(framed(rgb, spec, at)).transpose(2, 0, 1))
    planes = [np.array(framed(Image.fromarray(plane.numpy()), spec, at)) for plane in pixels]
    return torch.from_numpy(np.stack(planes))


def _framed_deep(pixels: Tensor, spec: Spec, at: Place) -> Tensor:
    """Deeper pixels, resampled as float32 and rounded to their levels; what resampling overshoots is clamped.

    Padding is in the range of the pixels: the colour of 8 bits, by its grey where there is one channel.
    """
    number = levels_of(pixels)
    planes = []
    for channel, plane in enumerate((pixels.float() if number else (pixels + 1) / 2 * 255).numpy()):
        scale = (number - 1) / 255 if number else 1.0
        own = spec
        if spec.pad is not None:
            grey = spec.pad[channel] if len(pixels) == 3 else round(sum(spec.pad) / 3)
            own = spec._replace(options={**spec.options, "pad": f"{grey},{grey},{grey}"})
        planes.append(np.array(framed(Image.fromarray(plane / np.float32(scale)), own, at)) * np.float32(scale))
    found = torch.from_numpy(np.stack(planes))
    if not number:
        return (found / 255 * 2 - 1).clamp(-1, 1)
    return found.round().clamp(0, number - 1).to(torch.int32).to(pixels.dtype)
