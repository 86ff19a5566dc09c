"""The checkpoints of ermongroup/ddim, which are also Ho et al.'s as ported from TensorFlow: class `Model`.

The network is `sfumato.networks.unet.HoUNet`'s (Ho et al. 2020, appendix B).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from sfumato.convert.keys import Key, same
from sfumato.networks.blocks import Attention, sin_cos
from sfumato.networks.fir import convolved, pooled
from sfumato.networks.unet import UNet

BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "temb_proj": "emb",
    "norm2": "norm2",
    "conv2": "conv2",
    "nin_shortcut": "shortcut",
}


def model(args: Mapping[str, Any]) -> UNet:
    """Our network for a configuration's sections `model` and `data`, and `diffusion` where the type is "bayesian"."""
    config, size = args["model"], args["data"]["image_size"]
    levels = range(len(config["ch_mult"]))
    net = UNet(
        in_channels=config["in_channels"],
        out_channels=config["out_ch"],
        channels=config["ch"],
        multipliers=tuple(config["ch_mult"]),
        blocks_per_level=config["num_res_blocks"],
        attention_factors=tuple(2**i for i in levels if size // 2**i in config["attn_resolutions"]),
        dropout=config["dropout"],
        resample=convolved if config["resamp_with_conv"] else pooled,
        asymmetric=True,
        embedding=sin_cos,
        norm_eps=1e-6,
        stem=config["ch"],
    )
    if config["type"] == "bayesian":  # carries a variance for every step that its forward never reads
        net.logvar = nn.Parameter(torch.zeros(args["diffusion"]["num_diffusion_timesteps"]))
    return net


def keys(net: UNet, args: Mapping[str, Any]) -> Iterator[Key]:
    """The key map, in the official order."""
    if args["model"]["type"] == "bayesian":
        yield Key("logvar", "logvar")
    yield from same("temb.dense.0", "time_mlp.0", net.time_mlp[0])
    yield from same("temb.dense.1", "time_mlp.2", net.time_mlp[2])
    yield from same("conv_in", "conv_in", net.conv_in)
    for path, levels in {"down": net.down, "up": net.up}.items():
        if path == "up":
            yield from _block("mid.block_1", "middle.block.0", net.middle.block[0])
            yield from _attention("mid.attn_1", "middle.attention.0", net.middle.attention[0])
            yield from _block("mid.block_2", "middle.block.1", net.middle.block[1])
        for i, level in enumerate(levels):
            for j, block in enumerate(level.block):
                yield from _block(f"{path}.{i}.block.{j}", f"{path}.{i}.block.{j}", block)
            for j, attention in enumerate(level.attention):
                yield from _attention(f"{path}.{i}.attn.{j}", f"{path}.{i}.attention.{j}", attention)
            if level.resample is not None:
                yield from same(f"{path}.{i}.{path}sample", f"{path}.{i}.resample", level.resample)
    yield from same("norm_out", "norm_out", net.norm_out)
    yield from same("conv_out", "conv_out", net.conv_out)


def _block(official: str, ours: str, block: nn.Module) -> Iterator[Key]:
    for theirs, name in BLOCK.items():
        yield from same(f"{official}.{theirs}", f"{ours}.{name}", block.get_submodule(name))


def _attention(official: str, ours: str, attention: nn.Module) -> Iterator[Key]:
    """q, k and v are three 1x1 convolutions there, and one dense layer here."""
    if not isinstance(attention, Attention):
        return
    yield from same(f"{official}.norm", f"{ours}.norm", attention.norm)
    width = attention.out.in_features
    for i, name in enumerate("qkv"):
        rows = slice(i * width, (i + 1) * width)
        yield Key(f"{official}.{name}.weight", f"{ours}.qkv.weight", rows, ones=2)
        yield Key(f"{official}.{name}.bias", f"{ours}.qkv.bias", rows)
    yield from same(f"{official}.proj_out", f"{ours}.out", attention.out, ones=2)
