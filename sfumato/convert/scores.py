"""What the weights of ncsn, ncsnv2 and score_sde_pytorch say of their networks.

One reading a family: RefineNets by their stages, and the networks of score_sde by their one list of all layers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from sfumato.convert.state import ForeignError, Shapes

LEVELS = 100_000
"""Noise levels in a table, at most; published models have up to 3,278."""


@dataclass(frozen=True)
class RefineNetFacts:
    """What names and shapes say of a RefineNet.

    Attributes:
        image_channels, channels: of an image, and of the network's first stage.
        depth: stages.
        levels: noise levels that the normalisations know, 0 for NCSNv2's.
        norm: "instance++", or "none" for NCSNv2's option NoneNorm.
        sigmas: the noise levels in the file, falling; empty where it has none.
    """

    image_channels: int
    channels: int
    depth: Literal[4, 5, 6]
    levels: int
    norm: Literal["instance++", "none"]
    sigmas: tuple[float, ...]

    def __str__(self) -> str:
        what = f"{self.levels} noise levels in its normalisations" if self.levels else f"{len(self.sigmas)} sigmas"
        return f"RefineNet: {self.image_channels} channels, width {self.channels}, {self.depth} stages, {what}"


@dataclass(frozen=True)
class LayersFacts:
    """What names and shapes say of a network of score_sde.

    Attributes:
        network: "ncsnpp", "ddpmpp" or "ddpm".
        progressive: "skip" for the networks of 256x256 and more, else "residual".
        image_channels, channels, multipliers, blocks, attention: as in the recipe.
        fourier: whether the network sees the noise level by Fourier features.
        sigmas: the noise levels in the file, falling.
    """

    network: str
    progressive: Literal["residual", "skip"]
    image_channels: int
    channels: int
    multipliers: tuple[int, ...]
    blocks: int
    attention: tuple[int, ...]
    fourier: bool
    sigmas: tuple[float, ...]

    def __str__(self) -> str:
        seen = "Fourier features" if self.fourier else "a number of the time"
        return (f"{self.network} of score_sde: {self.image_channels} channels, width {self.channels}, multipliers "
                f"{','.join(map(str, self.multipliers))}, {self.blocks} blocks a level, attention at factors "
                f"{','.join(map(str, self.attention)) or 'none'}, {seen}")  # fmt: skip


ScoreFacts = RefineNetFacts | LayersFacts


def knows(names: Mapping[str, object]) -> bool:
    """Whether these are the weights of a score network."""
    return "begin_conv.weight" in names or "all_modules.1.weight" in names


def recognise(state: Mapping[str, Tensor]) -> ScoreFacts:
    """What score network these tensors are. ForeignError where it is none of the papers'."""
    shapes = {name: tuple(value.shape) for name, value in state.items()}
    table = state.get("sigmas")
    if table is not None and (table.ndim != 1 or len(table) > LEVELS):
        raise ForeignError(f"its table of noise levels (sigmas) has the shape {tuple(table.shape)}")
    sigmas = () if table is None or table.is_meta else tuple(table.double().tolist())
    if not all(math.isfinite(sigma) and sigma > 0 for sigma in sigmas):
        raise ForeignError("its table of noise levels (sigmas) holds other values than finite ones above 0")
    try:
        return _refinenet(shapes, sigmas) if "begin_conv.weight" in shapes else _layers(shapes, sigmas)
    except (LookupError, ZeroDivisionError, TypeError, ValueError) as error:
        if isinstance(error, ForeignError):
            raise
        raise ForeignError("the weights begin like those of a score network, but lack layers") from None


def _refinenet(shapes: Shapes, sigmas: tuple[float, ...]) -> RefineNetFacts:
    channels, image_channels = shapes["begin_conv.weight"][:2]
    depth: Literal[4, 5, 6] = 4
    depth = 6 if "res31.0.conv1.weight" in shapes else 5 if "res5.0.conv1.weight" in shapes else depth
    levels, width = shapes.get("normalizer.embed.weight", (0, 3 * channels))
    none = not any(name.startswith("normalizer.") for name in shapes)
    plus = {"normalizer.embed.weight", "normalizer.gamma"} & set(shapes)
    if width != 3 * channels or not (none or plus):
        raise ForeignError("its normalisation is neither InstanceNorm++ nor none; see convert.from_official")
    return RefineNetFacts(image_channels, channels, depth, levels, "none" if none else "instance++", sigmas)


def _layers(shapes: Shapes, sigmas: tuple[float, ...]) -> LayersFacts:
    """Layers are told apart by what they hold; a block that resamples has a shortcut and keeps its width."""
    leaves: dict[int, set[str]] = {}
    for name in shapes:
        if name.startswith("all_modules."):
            _, at, leaf = name.split(".", 2)
            leaves.setdefault(int(at), set()).add(leaf)
    fourier = "W" in leaves[0]
    first = 3 if fourier else 2  # after the two dense layers
    channels, image_channels = shapes[f"all_modules.{first}.weight"][:2]
    blocks: list[tuple[int, int]] = []
    others: list[int] = []
    residual = any("Conv_2.weight" in leaf for leaf in leaves.values())
    for number in sorted(leaves)[first + 1 :]:
        if "GroupNorm_1.weight" in leaves[number]:
            out, width = shapes[f"all_modules.{number}.Conv_0.weight"][:2]
            if not residual or out != width or "Conv_2.weight" not in leaves[number]:
                blocks.append((number, out))
            else:
                others.append(number)
        elif "Conv_0.weight" in leaves[number] and not residual:
            others.append(number)
    levels = len(others) // 2 + 1
    count = (len(blocks) - 2 - levels) // (2 * levels)
    starts = blocks[: levels * count : count]
    beside = [held for held in leaves.values() if "GroupNorm_1.weight" not in held]
    pyramids = {leaf for held in beside for leaf in held & {"Conv2d_0.weight", "Conv_0.weight"}}
    return LayersFacts(
        network="ddpm" if not residual else "ncsnpp" if pyramids else "ddpmpp",
        progressive="skip" if residual and "Conv_0.weight" in pyramids else "residual",
        image_channels=image_channels, channels=channels, multipliers=tuple(out // channels for _, out in starts),
        blocks=count, fourier=fourier, sigmas=sigmas,
        attention=tuple(2**i for i, (n, _) in enumerate(starts) if "NIN_3.W" in leaves[n + 1]),
    )  # fmt: skip
