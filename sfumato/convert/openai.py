"""The checkpoints of openai/improved-diffusion and openai/guided-diffusion: UNetModel, SuperResModel, EncoderUNetModel.

The networks are Improved DDPM's (Nichol & Dhariwal 2021) and ADM's (Dhariwal & Nichol 2021).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from sfumato.convert.keys import Key, same
from sfumato.networks.blocks import Attention, ResBlock
from sfumato.networks.classifier import POOLS, AttentionPool, EncoderUNet
from sfumato.networks.fir import Resample, convolved, pooled, residual
from sfumato.networks.recompute import recompute_blocks
from sfumato.networks.unet import UNet

BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1",
    "emb_layers.1": "emb",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2",
    "skip_connection": "shortcut",
}


def unet(
    *,
    in_channels: int,
    model_channels: int,
    out_channels: int,
    num_res_blocks: int,
    attention_resolutions: Sequence[int],
    dropout: float = 0.0,
    channel_mult: Sequence[float] = (1, 2, 4, 8),
    conv_resample: bool = True,
    dims: int = 2,
    num_classes: int | None = None,
    use_checkpoint: bool = False,
    num_heads: int = 1,
    num_heads_upsample: int = -1,
    num_head_channels: int = -1,
    use_scale_shift_norm: bool = False,
    resblock_updown: bool = False,
    low_res_channels: int = 0,
    image_size: int | None = None,
    use_fp16: bool = False,
    use_new_attention_order: bool = False,
) -> UNet:
    """Our network for UNetModel's arguments. The last three change nothing here: the size is the input's, the precision
    the caller's, and the attention order is dealt with in the key map."""
    if dims != 2:
        raise ValueError(f"only images (dims=2) are supported, not dims={dims}")
    network = UNet(
        in_channels=in_channels,
        out_channels=out_channels,
        channels=model_channels,
        multipliers=tuple(channel_mult),
        blocks_per_level=num_res_blocks,
        attention_factors=_levels(attention_resolutions, channel_mult),
        heads=num_heads,
        heads_up=None if num_heads_upsample == -1 else num_heads_upsample,
        head_channels=None if num_head_channels == -1 else num_head_channels,
        dropout=dropout,
        num_classes=num_classes,
        low_res_channels=low_res_channels,
        scale_shift=use_scale_shift_norm,
        resample=_resample(resblock_updown, conv_resample),
    )
    if use_checkpoint:
        recompute_blocks(network)
    return network


def super_res(*, in_channels: int, **args: Any) -> UNet:
    """Our network for SuperResModel's arguments: UNetModel's, with a small image of as many channels."""
    return unet(in_channels=in_channels, low_res_channels=in_channels, **args)


def encoder(
    *,
    image_size: int,
    in_channels: int,
    model_channels: int,
    out_channels: int,
    num_res_blocks: int,
    attention_resolutions: Sequence[int],
    dropout: float = 0.0,
    channel_mult: Sequence[float] = (1, 2, 4, 8),
    conv_resample: bool = True,
    dims: int = 2,
    num_heads: int = 1,
    num_head_channels: int = -1,
    use_scale_shift_norm: bool = False,
    resblock_updown: bool = False,
    pool: str = "adaptive",
    num_heads_upsample: int = -1,
    use_checkpoint: bool = False,
    use_fp16: bool = False,
    use_new_attention_order: bool = False,
) -> EncoderUNet:
    """Our network for EncoderUNetModel's arguments, of which the last four change nothing here."""
    if dims != 2:
        raise ValueError(f"only images (dims=2) are supported, not dims={dims}")
    return EncoderUNet(
        in_channels=in_channels,
        num_classes=out_channels,
        channels=model_channels,
        multipliers=tuple(channel_mult),
        blocks_per_level=num_res_blocks,
        attention_factors=_levels(attention_resolutions, channel_mult),
        heads=num_heads,
        head_channels=None if num_head_channels == -1 else num_head_channels,
        dropout=dropout,
        scale_shift=use_scale_shift_norm,
        resample=_resample(resblock_updown, conv_resample),
        pool=POOLS[pool],
        image_size=image_size,
    )


def _resample(resblock_updown: bool, conv_resample: bool) -> Resample:
    return residual if resblock_updown else convolved if conv_resample else pooled


def _levels(attention_resolutions: Sequence[int], channel_mult: Sequence[float]) -> tuple[int, ...]:
    """The attention factors that name a level; the official constructors overlook the others."""
    return tuple(2**i for i in range(len(channel_mult)) if 2**i in attention_resolutions)


def keys(net: UNet | EncoderUNet, legacy_order: bool) -> Iterator[Key]:
    """The key map, in the official order. `legacy_order`: heads split before q, k and v, instead of after."""

    def block(official: str, ours: str) -> Iterator[Key]:
        for theirs, name in BLOCK.items():
            yield from same(f"{official}.{theirs}", f"{ours}.{name}", net.get_submodule(f"{ours}.{name}"))

    def attention(official: str, ours: str) -> Iterator[Key]:
        layer = net.get_submodule(ours)
        if isinstance(layer, Attention):
            rows = _legacy_rows(layer) if legacy_order else slice(None)
            yield from same(f"{official}.norm", f"{ours}.norm", layer.norm)
            yield Key(f"{official}.qkv.weight", f"{ours}.qkv.weight", rows, ones=1)
            yield Key(f"{official}.qkv.bias", f"{ours}.qkv.bias", rows)
            yield from same(f"{official}.proj_out", f"{ours}.out", layer.out, ones=1)

    def resample(official: str, ours: str, convolution: str) -> Iterator[Key]:
        layer: Any = net.get_submodule(ours)
        if isinstance(layer, ResBlock):
            yield from block(official, ours)
        elif layer.conv is not None:
            yield from same(f"{official}.{convolution}", f"{ours}.conv", layer.conv)

    yield from same("time_embed.0", "time_mlp.0", net.time_mlp[0])
    yield from same("time_embed.2", "time_mlp.2", net.time_mlp[2])
    if net.label_embedding is not None:
        yield Key("label_emb.weight", "label_embedding.weight")

    yield from same("input_blocks.0.0", "conv_in", net.conv_in)
    n = 1  # the official blocks are numbered through
    for i, level in enumerate(net.down):
        for j in range(len(level.block)):
            yield from block(f"input_blocks.{n}.0", f"down.{i}.block.{j}")
            yield from attention(f"input_blocks.{n}.1", f"down.{i}.attention.{j}")
            n += 1
        if level.resample is not None:
            yield from resample(f"input_blocks.{n}.0", f"down.{i}.resample", "op")
            n += 1

    yield from block("middle_block.0", "middle.block.0")
    yield from attention("middle_block.1", "middle.attention.0")
    yield from block("middle_block.2", "middle.block.1")
    if isinstance(net, EncoderUNet):
        yield from _pool(net)
        return

    n = 0
    for i, level in reversed(list(enumerate(net.up))):
        last = len(level.block) - 1
        for j, layer in enumerate(level.attention):
            yield from block(f"output_blocks.{n}.0", f"up.{i}.block.{j}")
            yield from attention(f"output_blocks.{n}.1", f"up.{i}.attention.{j}")
            if j == last and level.resample is not None:
                place = 2 if isinstance(layer, Attention) else 1
                yield from resample(f"output_blocks.{n}.{place}", f"up.{i}.resample", "conv")
            n += 1
    yield from same("out.0", "norm_out", net.norm_out)
    yield from same("out.2", "conv_out", net.conv_out)


def _legacy_rows(attention: Attention) -> torch.Tensor:
    """For each official row, counted over (head, q k v, channel), our row, counted over (q k v, head, channel)."""
    rows = torch.arange(attention.qkv.out_features, device="cpu")
    return rows.view(3, attention.heads, -1).transpose(0, 1).flatten()


def _pool(net: EncoderUNet) -> Iterator[Key]:
    """The classifier's last layers; attention pooling is always in the new order."""
    for i, layer in enumerate(net.out):
        if isinstance(layer, AttentionPool):
            yield Key(f"out.{i}.positional_embedding", f"out.{i}.position", transposed=True)
            yield from same(f"out.{i}.qkv_proj", f"out.{i}.qkv", layer.qkv, ones=1)
            yield from same(f"out.{i}.c_proj", f"out.{i}.out", layer.out, ones=1)
        else:
            yield from same(f"out.{i}", f"out.{i}", layer)
