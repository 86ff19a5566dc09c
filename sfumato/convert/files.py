"""Foreign checkpoint files, opened without running anything in them, and what their tensors say of the network.

Names and shapes tell almost everything about a U-Net of ermongroup/ddim, improved-diffusion or guided-diffusion; what
they cannot tell (heads, order of q, k and v, levels of noise) is the caller's to know. `scores` is for the score line.
"""

from __future__ import annotations

import errno
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]


class ForeignError(ValueError):
    """A foreign file that cannot be used, in one clear line."""


class _Nothing:
    """What a numpy number in an optimiser's state becomes: it keeps nothing, and nobody reads it."""

    def __init__(self, *parts: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


NUMPY = ("numpy.dtype", "numpy.ndarray") + tuple(
    f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")
)
"""Names under which numpy pickles numbers: training states hold a learning rate as one (score_sde_pytorch)."""


def read_state(path: str | Path) -> tuple[State, list[str]]:
    """The weights in a PyTorch file, and in words which of several were taken.

    Nothing is unpickled that could run code. Known wrappers: a bare state dict; DataParallel's prefix; the lists of
    ncsn, [network, optimiser], and of ncsnv2 and ermongroup/ddim, [network, optimiser, epoch, step, average]; the
    dictionary of score_sde_pytorch, whose average is a list without names. The average is taken where there is one, and
    what it leaves out (tables of noise levels, frozen weights) from the network.

    Raises:
        OSError: no such file.
        ForeignError: damaged, a pickle with code, no weights, or an average that is not of these weights.
    """
    path = Path(path)
    found = _opened(path)
    notes: list[str] = []
    average: Any = None
    if isinstance(found, list | tuple):
        dicts = [part for part in found if _is_state(part)]
        if not dicts:
            raise ForeignError(f"{path} is a list without weights")
        if len(dicts) > 1 and len(found) >= 5:
            average = dicts[-1]
        found = dicts[0]
        notes.append("a training state; " + ("online weights" if average is None else "its moving average"))
    elif isinstance(found, dict) and _is_state(found.get("model")) and isinstance(found.get("ema"), dict):
        average, found = found["ema"].get("shadow_params"), found["model"]
        notes.append("a training state; its moving average, matched by the order of the trained parameters")
    for wrapper in ("state_dict", "model"):
        if isinstance(found, dict) and _is_state(found.get(wrapper)):
            found = found[wrapper]
            notes.append(f"the entry {wrapper!r}")
    if not _is_state(found):
        kind = "an optimiser's state" if isinstance(found, dict) and "param_groups" in found else "no network's weights"
        raise ForeignError(f"{path} holds {kind}")
    state = _unprefixed(found)
    if len(state) and next(iter(state)) != next(iter(found)):
        notes.append("the prefix of DataParallel is left out")
    return (state if average is None else _averaged(path, state, average)), notes


def _opened(path: Path) -> Any:
    """What a file holds, by the unpickler that builds tensors and plain values only."""
    with path.open("rb") as file:
        start = file.read(2)
    if start != b"PK" and start[:1] != b"\x80":  # a web page or a pointer to a large file, saved under this name
        raise ForeignError(f"{path} is damaged or no PyTorch file: it {'begins otherwise' if start else 'is empty'}")
    try:
        with torch.serialization.safe_globals([(_Nothing, name) for name in NUMPY]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" (it names {named[1]})" if named else ""
        raise ForeignError(f"{path} is a pickle that could run code, so it was not opened{what}") from None
    except (RuntimeError, EOFError, ValueError, KeyError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # which torch raises for a file that is cut off
            raise
        raise ForeignError(f"{path} is damaged or no PyTorch file: {' '.join(str(error).split())[:120]}") from None


def _unprefixed(state: Mapping[str, Tensor]) -> State:
    """The same tensors without DataParallel's prefix."""
    parallel = all(name.startswith("module.") for name in state)
    return {name.removeprefix("module.") if parallel else name: value for name, value in state.items()}


def _averaged(path: Path, state: State, average: Any) -> State:
    """The weights with their moving average in their place, which is kept by name, or in the order of what is trained.

    In score_sde_pytorch that leaves out the table of noise levels and the rates of the Fourier features.
    """
    if _is_state(average):
        average = _unprefixed(average)
    elif isinstance(average, list | tuple) and all(isinstance(value, Tensor) for value in average):
        trained = [name for name, value in state.items() if name != "sigmas" and not _frozen(name, value)]
        if len(trained) != len(average):
            raise ForeignError(f"{path}: its moving average has {len(average)} tensors, the network {len(trained)}")
        average = dict(zip(trained, average, strict=True))
    else:
        raise ForeignError(f"{path}: its moving average holds something else than weights")
    for name, value in average.items():
        if name not in state or state[name].shape != value.shape:
            raise ForeignError(f"{path}: its moving average has {name} {tuple(value.shape)}, the network does not")
    return {**state, **average}


def _frozen(name: str, value: Tensor) -> bool:
    return name == "all_modules.0.W" and value.ndim == 1


def _is_state(value: Any) -> bool:
    if not isinstance(value, dict) or not value:
        return False
    return all(isinstance(name, str) and isinstance(tensor, Tensor) for name, tensor in value.items())


# ---------------------------------------------------------------- what shapes tell


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
    if "temb.dense.0.weight" in shapes and "conv_in.weight" in shapes:
        return _ddim(shapes)
    if "time_embed.0.weight" in shapes and "input_blocks.0.0.weight" in shapes:
        return _openai(shapes)
    names = ", ".join(list(shapes)[:3])
    raise ForeignError(f"no known network has these weights ({names}, ...); known are those of ermongroup/ddim, "
                       "improved-diffusion, guided-diffusion, ncsn, ncsnv2 and score_sde_pytorch")  # fmt: skip


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
    """How many consecutive numbers from 0 fit into the pattern."""
    n = 0
    while any(name.startswith(pattern.format(n) + ".") for name in shapes) if prefix else pattern.format(n) in shapes:
        n += 1
    return n


def _multipliers(widths: list[int], channels: int) -> tuple[float, ...]:
    return tuple(width // channels if width % channels == 0 else width / channels for width in widths)
