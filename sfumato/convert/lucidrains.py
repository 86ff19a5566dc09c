"""The U-Nets of denoising-diffusion-pytorch: what names and shapes say of them, and their names of our parameters.

Its `Unet` of versions 0.x to 2.x, that of its classifier-free guidance, and `Unet1D` of 2.x.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch

from sfumato.convert import lucidrains_karras
from sfumato.convert.facts import MOST
from sfumato.convert.keys import Key, same
from sfumato.convert.state import ForeignError, Shapes
from sfumato.networks.lucidrains_karras import LucidrainsKarras
from sfumato.networks.lucidrains_unet import LucidrainsUNet

HEADS, HEAD_CHANNELS = 4, 32
"""The package's, which the weights show where attention has learned keys and values."""


@dataclass(frozen=True)
class LucidFacts:
    """What names and shapes say of a network.

    Attributes:
        network: its configuration, without dropout.
        inputs, outputs: channels of the first and the last convolution.
        classes: of labels.
        said: whether the weights show how many heads there are.
        old: whether the norm of its attention depends on the version.
        real_times: whether it is made for real numbers, the log SNR or ln sigma, and not for the number of a level.
        dropped: the share of labels that it hides in training, by default; its Karras U-Net has no null label.
        keys: (our network, channels of images) -> key map.
    """

    network: LucidrainsUNet | LucidrainsKarras
    inputs: int
    outputs: int
    classes: int = 0
    said: bool = True
    old: bool = False
    real_times: bool = False
    dropped: float = 0.5
    keys: Callable[[Any, int], Iterator[Key]] = field(default=lambda net, images: keys(net, images), repr=False)

    @property
    def feeds_back(self) -> bool:
        """Whether it also sees its own prediction (`self_condition=True`)."""
        return self.inputs == 2 * self.outputs

    @property
    def images(self) -> int:
        """Channels of the images."""
        return self.outputs if self.feeds_back else self.inputs

    def __str__(self) -> str:
        made: Any = self.network
        karras = type(made) is LucidrainsKarras
        kind = ("KarrasUnet" if karras else "Unet") + ("1D" if made.dimensions == 1 else "")
        full = ",".join(map(str, made.attention)) or "none"
        levels = f"{made.levels} levels" if karras else f"multipliers {','.join(map(str, made.multipliers))}"
        parts = [f"{self.inputs} channels in and {self.outputs} out", f"width {made.channels}",
                 levels, f"full attention at factors {full}"]  # fmt: skip
        parts += [f"{self.classes} classes"] if self.classes else []
        return f"{kind} of denoising-diffusion-pytorch: {', '.join(parts)}"


def knows(names: Any) -> bool:
    """Whether a state dict has the names of this package's networks."""
    unet = "init_conv.weight" in names and "final_conv.weight" in names and "time_mlp.1.weight" in names
    return unet or lucidrains_karras.knows(names)


def recognise(shapes: Shapes) -> LucidFacts:
    """What network these tensors are. ForeignError where they lack layers or no network here has these."""
    try:
        return _recognised(shapes)
    except ForeignError:
        raise
    except (LookupError, ValueError, TypeError, ZeroDivisionError) as error:
        raise ForeignError(f"the weights begin like those of lucidrains' U-Net, but {_why(error)}") from None


def _why(error: Exception) -> str:
    return str(error) if isinstance(error, ValueError) else "lack layers, or have other shapes"


def _recognised(shapes: Shapes) -> LucidFacts:
    if lucidrains_karras.knows(shapes):
        found, inputs, outputs, classes = lucidrains_karras.recognise(shapes)
        return LucidFacts(found, inputs, outputs, classes, dropped=0.0, keys=lucidrains_karras.keys)
    first, inputs, *sides = shapes["init_conv.weight"]
    dimensions, channels = len(sides), shapes["time_mlp.3.weight"][0] // 4
    levels = next(
        n for n in range(MOST) if f"downs.{n}.3.weight" not in shapes and f"downs.{n}.3.1.weight" not in shapes
    )
    onward = [shapes.get(f"downs.{i}.3.weight") or shapes[f"downs.{i}.3.1.weight"] for i in range(levels)]
    prenorm = "downs.0.2.fn.norm.g" in shapes
    within = ".fn.fn" if prenorm else ""
    full = tuple(2**i for i in range(levels) if f"downs.{i}.2{within}.to_out.weight" in shapes)
    heads, width, memory, said = HEADS, HEAD_CHANNELS, 0, False
    if "mid_attn.mem_kv" in shapes:
        _, heads, memory, width = shapes["mid_attn.mem_kv"]
        said = True
    rows = {shapes[f"{at}{within}.to_qkv.weight"][0] for at in (*(f"downs.{i}.2" for i in range(levels)), "mid_attn")}
    if len(rows) > 1 or (said and rows != {3 * heads * width}):
        raise ForeignError(
            "this Unet of lucidrains has other attention heads in some levels, which no network here has"
        )
    if not said:
        width = rows.pop() // (3 * heads)
    grouped = "mid_block1.block1.norm.bias" in shapes
    if grouped and (dimensions == 1 or "classes_emb.weight" in shapes):
        raise ForeignError("lucidrains' Unet1D and class-conditional Unet of versions before 2.0 have no network here")
    learned = "time_mlp.0.weights" in shapes
    strided = levels > 1 and "downs.0.3.weight" in shapes
    old = grouped and prenorm
    network = LucidrainsUNet(
        channels, tuple(_multiple(shape[0], channels) for shape in onward), full, heads, width, memory,
        0 if first == channels else first, "learned" if learned else "sinusoids",
        2 * shapes["time_mlp.0.weights"][0] if learned else 16, norm="group" if grouped else "rms",
        convolutions="standardised" if old else "plain", shrink="strided" if strided else "unshuffled",
        dimensions=1 if dimensions == 1 else 2,
    )  # fmt: skip
    classes = shapes.get("classes_emb.weight", (0,))[0]
    return LucidFacts(network, inputs, shapes["final_conv.weight"][0], classes, said, old, learned)


def _multiple(width: int, channels: int) -> int:
    if width % channels:
        raise ValueError(f"a level is {width} channels wide, no multiple of {channels}")
    return width // channels


# ---------------------------------------------------------------- names


def keys(net: Any, images: int) -> Iterator[Key]:
    """The key map: their name of each of our parameters; `images` have so many channels."""
    rows: Any = slice(None)
    if net.conv_in.in_channels == 2 * images:  # their own prediction comes before x, ours after it
        rows = (rows, torch.arange(2 * images).roll(images))
    yield Key("init_conv.weight", "conv_in.weight", rows)
    yield Key("init_conv.bias", "conv_in.bias")
    if net.times.rates is not None:
        yield Key("time_mlp.0.weights", "times.rates")
    yield from same("time_mlp.1", "times.inner", net.times.inner)
    yield from same("time_mlp.3", "times.outer", net.times.outer)
    if net.label_embedding is not None:  # the null label has a parameter of its own
        null = net.label_embedding.num_embeddings - 1
        yield Key("classes_emb.weight", "label_embedding.weight", slice(null))
        yield Key("null_classes_emb", "label_embedding.weight", torch.tensor(null))
        yield from same("classes_mlp", "label_mlp", net.label_mlp)
    last = len(net.down) - 1
    for i, (path, level) in enumerate([("down", lv) for lv in net.down] + [("up", lv) for lv in net.up]):
        at = i if path == "down" else i - last - 1
        theirs = f"{path}s.{at if path == 'down' else last - at}"
        for j in (0, 1):
            yield from _block(f"{theirs}.{j}", f"{path}.{at}.block.{j}", level.block[j])
        yield from _attention(f"{theirs}.2", f"{path}.{at}.attention", level.attention, net.prenorm)
        yield from same(f"{theirs}.3", f"{path}.{at}.resample", level.resample)
    for j in (0, 1):
        yield from _block(f"mid_block{j + 1}", f"middle.block.{j}", net.middle.block[j])
    yield from _attention("mid_attn", "middle.attention", net.middle.attention, net.prenorm)
    yield from _block("final_res_block", "last", net.last)
    yield from same("final_conv", "conv_out", net.conv_out)


def _block(theirs: str, ours: str, block: Any) -> Iterator[Key]:
    yield from same(f"{theirs}.mlp.1", f"{ours}.emb", block.emb)
    for n in (1, 2):
        layer = getattr(block, f"layer{n}")
        yield from same(f"{theirs}.block{n}.proj", f"{ours}.layer{n}.conv", layer.conv)
        yield from _norm(f"{theirs}.block{n}.norm", f"{ours}.layer{n}.norm", layer.norm)
    yield from same(f"{theirs}.res_conv", f"{ours}.shortcut", block.shortcut)


def _norm(theirs: str, ours: str, norm: Any) -> Iterator[Key]:
    for name, _ in norm.named_parameters():
        yield Key(f"{theirs}.{'g' if name == 'gain' else name}", f"{ours}.{name}")


def _attention(theirs: str, ours: str, attention: Any, prenorm: bool) -> Iterator[Key]:
    yield from _norm(f"{theirs}.fn.norm" if prenorm else f"{theirs}.norm", f"{ours}.norm", attention.norm)
    theirs = f"{theirs}.fn.fn" if prenorm else theirs
    if attention.memory is not None:
        yield Key(f"{theirs}.mem_kv", f"{ours}.memory")
    yield from same(f"{theirs}.to_qkv", f"{ours}.qkv", attention.qkv)
    linear = attention.norm_out is not None
    yield from same(f"{theirs}.to_out.0" if linear else f"{theirs}.to_out", f"{ours}.out", attention.out)
    if linear:
        yield from _norm(f"{theirs}.to_out.1", f"{ours}.norm_out", attention.norm_out)
