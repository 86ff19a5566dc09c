"""What the tensors of a foreign file say of the network, by their names and shapes alone.

They tell almost everything about a U-Net of ermongroup/ddim, improved-diffusion or guided-diffusion; what they cannot
tell (heads, order of q, k and v, levels of noise) is the caller's to know. `scores` is for the score line.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sfumato.convert.state import ForeignError, Shapes

MOST = 200
"""Blocks or levels; published networks have up to 24."""


@dataclass(frozen=True)
class Facts:
    """What names and shapes say of a network.

    Attributes:
        family: "ddim", "openai" (a U-Net of improved- or guided-diffusion) or "classifier" (its EncoderUNetModel).
        image_channels: of an image.
        channels, multipliers, blocks, attention: width of the first level, widths, blocks a level, factors.
        classes: of labels, or of a classifier's answer.
        variance: whether the network has a variance head.
        low_res: whether it sees a smaller image too.
        scale_shift: whether the embedding scales and shifts.
        residual: whether residual blocks resample (ADM), or convolutions do.
        pool: of a classifier.
    """

    family: str
    image_channels: int
    channels: int
    multipliers: tuple[float, ...]
    blocks: int
    attention: tuple[int, ...]
    classes: int = 0
    variance: bool = False
    low_res: bool = False
    scale_shift: bool = False
    residual: bool = False
    pool: str = ""

    def __str__(self) -> str:
        what = {"ddim": "U-Net of ermongroup/ddim", "classifier": "classifier of guided-diffusion"}.get(
            self.family, f"U-Net of {'guided' if self.residual else 'improved'}-diffusion"
        )
        parts = [f"{self.image_channels} channels", f"width {self.channels}",
                 f"multipliers {','.join(f'{m:g}' for m in self.multipliers)}", f"{self.blocks} blocks a level",
                 f"attention at factors {','.join(map(str, self.attention)) or 'none'}"]  # fmt: skip
        parts += [f"{self.classes} classes"] if self.classes else []
        parts += ["a learned variance"] if self.variance else []
        parts += ["a low-resolution input"] if self.low_res else []
        return f"{what}: {', '.join(parts)}"


def recognise(shapes: Shapes) -> Facts:
    """What network these tensors are. ForeignError where they are none that is known."""
    try:
        if "temb.dense.0.weight" in shapes and "conv_in.weight" in shapes:
            return _ddim(shapes)
        if "time_embed.0.weight" in shapes and "input_blocks.0.0.weight" in shapes:
            return _openai(shapes)
    except ForeignError:
        raise
    except (LookupError, ValueError, TypeError, ZeroDivisionError):
        raise ForeignError("the weights begin like those of a U-Net, but lack layers, or have other shapes") from None
    names = ", ".join(name[:60] for name in list(shapes)[:3])
    raise ForeignError(f"no known network has these weights ({names}, ...); known are those of ermongroup/ddim, "
                       "improved-diffusion, guided-diffusion, ncsn, ncsnv2, score_sde_pytorch and "
                       "denoising-diffusion-pytorch (its Unet and Unet1D)")  # fmt: skip


def _ddim(shapes: Shapes) -> Facts:
    channels, image_channels = shapes["conv_in.weight"][:2]
    levels = _count(shapes, "down.{}.block.0.conv1.weight")
    widths = [shapes[f"down.{i}.block.0.conv1.weight"][0] for i in range(levels)]
    attention = tuple(2**i for i in range(levels) if f"down.{i}.attn.0.q.weight" in shapes)
    return Facts(
        "ddim", image_channels, channels, _multipliers(widths, channels),
        _count(shapes, "down.0.block.{}.conv1.weight"), attention,
        variance=shapes["conv_out.weight"][0] == 2 * image_channels,
    )  # fmt: skip


def _openai(shapes: Shapes) -> Facts:
    channels = shapes["time_embed.0.weight"][1]
    count = _count(shapes, "input_blocks.{}.0", prefix=True)
    outs, attended, strided = [], [], []
    for n in range(1, count):
        block = f"input_blocks.{n}.0"
        strided.append(f"{block}.op.weight" in shapes)
        outs.append(shapes.get(f"{block}.out_layers.3.weight", (0,))[0])
        attended.append(f"input_blocks.{n}.1.qkv.weight" in shapes)
    classifier = not any(name.startswith("output_blocks.") for name in shapes)
    blocks = _blocks_a_level(shapes, count, outs, attended, strided, classifier)
    starts = range(0, count - 1, blocks + 1)
    emb = shapes["input_blocks.1.0.emb_layers.1.weight"][0]
    inputs = shapes["input_blocks.0.0.weight"][1]
    common: dict[str, Any] = {
        "multipliers": _multipliers([outs[n] for n in starts], channels), "blocks": blocks,
        "attention": tuple(2**i for i, n in enumerate(starts) if attended[n]),
        "scale_shift": emb == 2 * outs[0], "residual": not any(strided),
    }  # fmt: skip
    if classifier:
        pool, classes = _pool(shapes)
        return Facts("classifier", inputs, channels, classes=classes, pool=pool, **common)
    outputs = shapes["out.2.weight"][0]
    low_res = inputs == 2 * outputs or inputs == outputs in (2, 6)  # an upsampler sees two grey or colour images
    image_channels = inputs // 2 if low_res else inputs
    return Facts(
        "openai", image_channels, channels, classes=shapes.get("label_emb.weight", (0,))[0],
        variance=outputs == 2 * image_channels, low_res=low_res, **common,
    )  # fmt: skip


def _blocks_a_level(
    shapes: Shapes, count: int, outs: list[int], attended: list[bool], strided: list[bool], classifier: bool
) -> int:
    """Residual blocks a level, the one that resamples not counted; count = levels * (blocks + 1)."""
    if any(strided):
        return strided.index(True)
    if not classifier:
        for n in range(count):
            if any(f"output_blocks.{n}.{k}.in_layers.0.weight" in shapes for k in (1, 2)):
                return n
        return count - 1
    fitting = []
    for blocks in range(1, count):  # those of a level are alike; one that resamples keeps the width, without attention
        alike = all(
            len(set(outs[n : n + blocks + 1])) == 1 and len(set(attended[n : n + blocks])) == 1
            and not any(attended[n + blocks : n + blocks + 1])
            for n in range(0, count - 1, blocks + 1)
        )  # fmt: skip
        if alike and count % (blocks + 1) == 0:
            fitting.append(blocks)
    if len(fitting) != 1:
        ways = f"in {len(fitting)} ways" if fitting else "not at all"
        raise ForeignError(f"the blocks of this classifier fall into levels {ways}")
    return fitting[0]


def _pool(shapes: Shapes) -> tuple[str, int]:
    if "out.2.positional_embedding" in shapes:
        return "attention", shapes["out.2.c_proj.weight"][0]
    if "out.3.weight" in shapes and len(shapes["out.3.weight"]) == 4:
        return "adaptive", shapes["out.3.weight"][0]
    if "out.3.weight" in shapes:
        return "spatial_v2", shapes["out.3.weight"][0]
    return "spatial", shapes["out.2.weight"][0]


def _count(shapes: Shapes, pattern: str, prefix: bool = False) -> int:
    """How many consecutive numbers from 0 fit into the pattern, which is a whole name, or the beginning of names."""
    parts = pattern.count(".") + 1
    known = {".".join(name.split(".")[:parts]) for name in shapes} if prefix else shapes
    count = next(n for n in range(MOST + 2) if pattern.format(n) not in known)
    if count > MOST:
        raise ForeignError(f"more than {MOST} blocks or levels, which no known network has")
    return count


def _multipliers(widths: list[int], channels: int) -> tuple[float, ...]:
    return tuple(width // channels if width % channels == 0 else width / channels for width in widths)
