"""Sizes of networks, one dial for every preset: tiny, small, base, and paper, the published network of the same paper.

The first three are a preset's network with the numbers of the table; a network that was made for images of another size
keeps its resolutions: as many levels as its sides can be halved to, self-attention and patches where they were.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from sfumato.networks import NETWORKS
from sfumato.papers.presets.preset import Preset
from sfumato.spec import unknown

NAMES = ("tiny", "small", "base", "paper")
LOWEST = 4
"""Pixels of the smallest side that levels are added down to."""


def _three(**numbers: tuple[Any, Any, Any]) -> dict[str, dict[str, Any]]:
    """Numbers for tiny, small and base, by field."""
    return {size: {name: three[i] for name, three in numbers.items()} for i, size in enumerate(NAMES[:3])}


# most: the largest multiplier
UNET = _three(channels=(32, 32, 64), blocks=(1, 1, 2), most=(1, 4, 4))
HEADS = _three(channels=(32, 32, 64), blocks=(1, 1, 2), most=(1, 4, 4), head_channels=(32, 32, 32))
REFINE = _three(channels=(16, 32, 64))
UNITS = _three(hidden=(8, 16, 64))
TABLE: dict[str, Mapping[str, Mapping[str, Any]]] = {
    "ddpm-unet": UNET,
    "improved-unet": UNET,
    "adm-unet": HEADS,
    "unet2d": UNET,
    "lucidrains-unet": _three(channels=(16, 32, 64), most=(1, 4, 8)),
    "ncsnpp": UNET,
    "ddpmpp": UNET,
    "song-unet": UNET,
    "mp-unet": HEADS,
    "encoder-unet": HEADS,
    "dit": _three(width=(96, 192, 384), depth=(4, 8, 12), heads=(4, 6, 6)),
    "jit": _three(
        width=(96, 192, 384),
        depth=(4, 8, 12),
        heads=(4, 6, 6),
        bottleneck=(16, 16, 64),
        context=(4, 4, 16),
        start=(1, 2, 4),
    ),
    "uvit": _three(
        channels=(32, 32, 64), blocks=(1, 1, 2), most=(1, 4, 4), width=(96, 192, 384), depth=(2, 4, 8), heads=(4, 6, 6)
    ),
    "refinenet": REFINE,
    "refinenet-v2": REFINE,
    "dpm-image": _three(hidden=(8, 20, 40), dense=(64, 500, 1000)),
    "dpm-radial": UNITS,
    "dpm-local": UNITS,
    "dpm-bits": UNITS,
}
"""What each backbone's sizes set; all other options stay the preset's."""
DIAL = (
    "channels", "multipliers", "blocks", "attention", "heads", "head_channels", "dropout", "width", "depth", "patch",
    "bottleneck", "context", "start", "hidden", "layers", "scales", "dense",
)  # fmt: skip
"""The options of a published network that are its size; the others belong to the recipe."""


def check_size(word: str) -> str:
    """The name of a size; ValueError names the nearest for a word that is none."""
    if word not in NAMES:
        raise ValueError(unknown("size", word, NAMES))
    return word


def sized(
    network: Any, size: str, made_for: tuple[int, ...], shape: tuple[int, ...], published: Mapping[str, Preset]
) -> Any:
    """A network of another size, for images of a shape.

    Args:
        network: of a preset, made for images of the shape `made_for`, (C, H, W).
        size: one of `NAMES`.
        published: the published presets of the same paper, for the size paper: the one of the same kind of network, if
            any, and of the nearest image size is taken; without any the backbone's defaults.

    Raises:
        ValueError: an unknown size, or a network without sizes.
    """
    if check_size(size) != "paper":
        kind = next(name for name, known in NETWORKS.items() if type(network) is known)
        if kind not in TABLE:
            raise ValueError(f"there are no sizes of the network {kind}, only its own")
        numbers = dict(TABLE[kind][size])
        if "most" in numbers:
            most = numbers.pop("most")
            numbers["multipliers"] = tuple(min(m, most) for m in getattr(network, "multipliers", ()))
        return adapted(replace(network, **numbers), made_for, shape)
    rows = [row.recipe for row in published.values()]
    same = [recipe for recipe in rows if type(recipe.network) is type(network)] or rows
    if not same:
        return adapted(_with(network, type(network)()), made_for, shape)
    nearest = min(same, key=lambda recipe: abs(math.log(max(recipe.shape[1:]) / max(shape[1:]))))
    theirs = nearest.network if type(nearest.network) is not type(network) else _with(network, nearest.network)
    return adapted(theirs, tuple(nearest.shape), shape)


def _with(network: Any, theirs: Any) -> Any:
    """A network with the size of another of its kind."""
    names = {field.name for field in fields(network)} & set(DIAL)
    return replace(network, **{name: getattr(theirs, name) for name in names})


def adapted(network: Any, made_for: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """A network for images of another size: fewer levels where these cannot be halved as often, the same resolutions
    of self-attention, and as many patches. As it is where the sides are those that it was made for."""
    before, after = (max(shape[1:]) for shape in (made_for, shape))
    if tuple(made_for[1:]) == tuple(shape[1:]):
        return network
    names = {field.name for field in fields(network)}
    changed: dict[str, Any] = {}
    if "patch" in names:
        changed["patch"] = _patch(network.patch * after / before, shape)
    if "multipliers" in names:
        fixed = changed.get("patch", 1) * (2 if "patch" in names else 1)  # U-ViT halves after its last level, too
        levels = max(1, min(len(network.multipliers), _halvings(shape, fixed) + 1))
        changed["multipliers"] = network.multipliers[:levels]
        if "attention" in names:
            found = (_factor(factor, before, after, levels) for factor in network.attention)
            changed["attention"] = tuple(dict.fromkeys(filter(None, found)))
    return replace(network, **changed)


def _factor(factor: int, before: int, after: int, levels: int) -> int:
    """The factor at which a side has the pixels that it had before, or nearly; 0 where they are more than doubled."""
    wanted = min(2 ** max(0, round(math.log2(factor * after / before))), int(2 ** (levels - 1)))
    return wanted if after / wanted <= 2 * before / factor else 0


def _sides(shape: tuple[int, ...]) -> list[int]:
    """Height and width; of a row of numbers its width alone."""
    return [side for side in shape[1:] if side > 1] or [1]


def _halvings(shape: tuple[int, ...], fixed: int) -> int:
    """How often the sides can be halved after they were divided by `fixed`, down to `LOWEST`; below 0 for never."""
    count, sides = -1, _sides(shape)
    while all(side % (part := fixed * 2 ** (count + 1)) == 0 and side // part >= LOWEST for side in sides):
        count += 1
    return count


def _patch(wanted: float, shape: tuple[int, ...]) -> int:
    """The power of two nearest to a side of a patch that divides the sides of the images."""
    patch = 2 ** max(0, round(math.log2(wanted)))
    while any(side % patch for side in _sides(shape)):
        patch //= 2
    return int(patch)
