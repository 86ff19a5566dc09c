"""The Karras U-Nets of denoising-diffusion-pytorch: what names and shapes say of them, and their names of our weights.

`KarrasUnet` and `KarrasUnet1D` of 2.x; `KarrasUnet3D`, of videos, has no shape here. Their balances of sums are taken
to be the package's defaults, since no tensor has them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from sfumato.convert.facts import MOST
from sfumato.convert.keys import Key
from sfumato.convert.state import ForeignError, Shapes
from sfumato.networks.lucidrains_karras import LucidrainsKarras


def knows(names: Any) -> bool:
    """Whether a state dict has the names of these networks."""
    return "input_block.weight" in names and "to_time_emb.0.weights" in names


def recognise(shapes: Shapes) -> tuple[LucidrainsKarras, int, int, int]:
    """(the network without dropout, channels in and out, classes). ForeignError for one that no network here is."""
    first, inputs, *sides = shapes["input_block.weight"]
    if len(sides) == 3:
        raise ForeignError("lucidrains' KarrasUnet3D is of videos, which no network here takes")
    downs = next(n for n in range(MOST) if f"downs.{n}.block1.1.weight" not in shapes)
    shrinks = [n for n in range(downs) if f"downs.{n}.downsample_conv.weight" in shapes]
    levels, blocks = len(shrinks) + 1, shrinks[0] if shrinks else downs
    attends = [f"downs.{n}.attn.mem_kv" in shapes for n in shrinks]
    attention = [2 ** (i + 1) for i, full in enumerate(attends) if full]
    last_up = next((n for n in range(MOST) if f"ups.{n}.block1.1.weight" not in shapes), 0) - 1
    back = last_up - blocks - 1  # the block that comes back to the image's own size
    attention += [1] if (f"ups.{back}.attn.mem_kv" if shrinks else "mids.0.attn.mem_kv") in shapes else []
    kept = next((shape for name, shape in shapes.items() if name.endswith("attn.mem_kv")), (2, 2, 4, 64))
    widths = [shapes[f"downs.{n}.block1.1.weight"][0] for n in shrinks]
    network = LucidrainsKarras(
        first, max(widths, default=first), levels, blocks, tuple(sorted(attention)), kept[3], kept[2],
        2 * shapes["to_time_emb.0.weights"][0], 0.0, 1 if len(sides) == 1 else 2,
    )  # fmt: skip
    classes = shapes.get("to_class_emb.weight", (0, 0))[1]
    return network, inputs - 1, shapes["output_block.0.weight"][0], classes


def keys(net: Any, images: int) -> Iterator[Key]:
    """The key map: their name of each of our parameters; `images` have so many channels."""
    rows: Any = slice(None)
    if net.channels == 2 * images:  # their own prediction comes before x, ours after it; a constant is before both
        rows = (rows, torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.arange(2 * images).roll(images)]))
    yield Key("input_block.weight", "conv_in.weight", rows)
    yield Key("to_time_emb.0.weights", "rates")
    yield Key("to_time_emb.1.weight", "emb_noise.weight")
    if net.emb_label is not None:
        yield Key("to_class_emb.weight", "emb_label.weight")
    for theirs, ours in (("downs", "down"), ("mids", "middle"), ("ups", "up")):
        for i, block in enumerate(getattr(net, ours)):
            yield from _block(f"{theirs}.{i}", f"{ours}.{i}", block)
    yield Key("output_block.0.weight", "conv_out.weight")
    yield Key("output_block.1.gain", "out_gain", ())


def _block(theirs: str, ours: str, block: Any) -> Iterator[Key]:
    if block.skip is not None:
        name = "downsample_conv" if block.resample == "down" else "res_conv"
        yield Key(f"{theirs}.{name}.weight", f"{ours}.skip.weight")
    yield Key(f"{theirs}.to_emb.0.weight", f"{ours}.emb.weight")
    yield Key(f"{theirs}.to_emb.1.gain", f"{ours}.emb_gain", ())
    yield Key(f"{theirs}.block1.1.weight", f"{ours}.conv1.weight")
    yield Key(f"{theirs}.block2.2.weight", f"{ours}.conv2.weight")
    if block.attention is not None:
        yield Key(f"{theirs}.attn.mem_kv", f"{ours}.attention.memory")
        yield Key(f"{theirs}.attn.to_qkv.weight", f"{ours}.attention.qkv.weight")
        yield Key(f"{theirs}.attn.to_out.weight", f"{ours}.attention.out.weight")
