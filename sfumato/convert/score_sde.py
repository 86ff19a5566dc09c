"""The checkpoints of yang-song/score_sde_pytorch: `ncsnpp`, `ddpm`, and `ncsnv2_64`, `_128` and `_256`.

The networks are NCSN++, DDPM++ and DDPM (Song et al. 2021, appendix H), and NCSNv2 (Song & Ermon 2020, appendix B).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import torch
from torch import nn

from sfumato.convert.keys import Key, same
from sfumato.convert.ncsn import ACTIVATION, NORM, falling
from sfumato.networks.beside import Draw, InputConcat, InputResidual, InputSkip, OutputResidual, OutputSkip
from sfumato.networks.blocks import Attention, Pointwise, ResBlock
from sfumato.networks.fir import convolved, pooled, residual
from sfumato.networks.ncsnpp import FourierFeatures, ScoreUNet
from sfumato.networks.refinenet import ScoreRefineNet

BLOCK = {"GroupNorm_0": "norm1", "Conv_0": "conv1", "Dense_0": "emb", "GroupNorm_1": "norm2", "Conv_1": "conv2"}
SKIP: dict[str, Any] = {"sum": InputSkip, "cat": InputConcat}
INPUT: dict[str, Any] = {"none": None, "residual": InputResidual}
OUTPUT: dict[str, Any] = {"none": None, "output_skip": OutputSkip, "residual": OutputResidual}


def ncsnpp(args: Mapping[str, Any]) -> ScoreUNet:
    """Our network for a configuration's sections `model` and `data` with the name "ncsnpp"."""
    config = args["model"]
    biggan, conv = config["resblock_type"].lower() == "biggan", config["resamp_with_conv"]
    fourier = {"fourier": True, "positional": False}[config["embedding_type"]]
    return _with_unused(
        ScoreUNet(
            **_common(args),
            resample=residual if biggan else convolved if conv else pooled,
            fir=tuple(config["fir_kernel"]) if config["fir"] else None,
            progressive_input=({**INPUT, "input_skip": SKIP[config["progressive_combine"]]})[
                config["progressive_input"]
            ],
            progressive_output=OUTPUT[config["progressive"]],
            skip_rescale=config["skip_rescale"],
            fourier_scale=config.get("fourier_scale", 16) if fourier else None,
            sigmas=sigmas(config) if config["scale_by_sigma"] and not fourier else None,
        ),
        args,
    )


def ddpm(args: Mapping[str, Any]) -> ScoreUNet:
    """Our network for a configuration's sections `model` and `data` with the name "ddpm"."""
    config = args["model"]
    return _with_unused(
        ScoreUNet(
            **_common(args),
            resample=convolved if config["resamp_with_conv"] else pooled,
            fir=None,
            progressive_input=None,
            skip_rescale=False,
            fourier_scale=None,
            channels_per_group=1,
            sigmas=sigmas(config) if config["scale_by_sigma"] else None,
        ),
        args,
    )


def ncsnv2(args: Mapping[str, Any], **options: Any) -> ScoreRefineNet:
    """Our network for the sections `model` and `data` of NCSNv2 in this repository; `options` are the network's."""
    config, data = args["model"], args["data"]
    if config["normalization"] not in NORM:
        raise ValueError(f"normalization is one of {', '.join(NORM)}, not {config['normalization']!r}")
    return ScoreRefineNet(
        in_channels=data["num_channels"],
        channels=config["nf"],
        norm=NORM[config["normalization"]],
        act=ACTIVATION[config["nonlinearity"]],
        unit_range=not data["centered"],
        sigmas=sigmas(config),
        **options,
    )


def sigmas(config: Mapping[str, Any]) -> list[float]:
    """The noise levels of a section `model`."""
    return falling(config["sigma_max"], config["sigma_min"], config["num_scales"])


def _common(args: Mapping[str, Any]) -> dict[str, Any]:
    config, data = args["model"], args["data"]
    levels = range(len(config["ch_mult"]))
    return {
        "in_channels": data["num_channels"],
        "channels": config["nf"],
        "multipliers": tuple(config["ch_mult"]),
        "blocks_per_level": config["num_res_blocks"],
        "attention_factors": tuple(2**i for i in levels if data["image_size"] // 2**i in config["attn_resolutions"]),
        "dropout": config["dropout"],
        "conditional": config["conditional"],
        "act": ACTIVATION[config["nonlinearity"]],
        "unit_range": not data["centered"],
        "scale_by_sigma": config["scale_by_sigma"],
    }


def _with_unused(net: ScoreUNet, args: Mapping[str, Any]) -> ScoreUNet:
    """The network, with what the official class carries and its forward never reads."""
    config = args["model"]
    if net.sigmas is None:
        net.register_buffer("unused_sigmas", torch.tensor(sigmas(config)))
    if not config["conditional"]:
        if config.get("embedding_type") == "fourier":
            net.fourier = FourierFeatures(config["nf"], config.get("fourier_scale", 16))
        for block in net.modules():
            if isinstance(block, ResBlock):
                block.emb = nn.Linear(4 * config["nf"], block.conv1.out_channels)
    return net


def keys(net: ScoreUNet, args: Mapping[str, Any]) -> Iterator[Key]:
    """The key map, in the official order: but for the noise levels, one list of all layers."""
    numbers = count()

    def here() -> str:
        return f"all_modules.{next(numbers)}"

    def level(ours: str) -> Iterator[Key]:
        layers: Any = net.get_submodule(ours)
        for j, (_, attention) in enumerate(layers):
            yield from _block(here(), f"{ours}.block.{j}", net)
            if isinstance(attention, Attention):
                yield from _attention(here(), f"{ours}.attention.{j}", attention)

    def resample(ours: str) -> Iterator[Key]:
        layer = net.get_submodule(ours)
        yield from (_block if isinstance(layer, ResBlock) else _resample)(here(), ours, net)

    def draw(ours: str) -> Iterator[Key]:
        for part in ("norm", "conv"):
            yield from same(here(), f"{ours}.{part}", net.get_submodule(f"{ours}.{part}"))

    yield Key("sigmas", "unused_sigmas" if net.sigmas is None else "sigmas")
    if net.fourier is not None:
        yield Key(f"{here()}.W", "fourier.rates")
    for i, dense in enumerate(net.time_mlp):
        yield from same(here(), f"time_mlp.{i}", dense)
    yield from same(here(), "conv_in", net.conv_in)

    for i, down in enumerate(net.down):
        yield from level(f"down.{i}")
        if down.resample is not None:
            yield from resample(f"down.{i}.resample")
        if i < len(net.beside_down):
            beside = net.beside_down[i]
            if isinstance(beside, InputSkip):
                yield from same(f"{here()}.Conv_0", f"beside_down.{i}.mix", beside.mix, ones=2)
            else:
                yield from _resample(here(), f"beside_down.{i}.down", net)

    yield from level("middle")

    for i in reversed(range(len(net.up))):
        yield from level(f"up.{i}")
        if net.beside_up:
            ours = f"beside_up.{i}.{'draw' if isinstance(net.beside_up[i], OutputSkip) else 'layer'}"
            drawn = isinstance(net.get_submodule(ours), Draw)
            yield from draw(ours) if drawn else _resample(here(), ours, net)
        if net.up[i].resample is not None:
            yield from resample(f"up.{i}.resample")
    if net.out is not None:
        yield from draw("out")


def _block(official: str, ours: str, net: ScoreUNet) -> Iterator[Key]:
    """`Conv_2` is where BigGAN's block has its 1x1 convolution, `NIN_0` where DDPM's has it, as (in, out)."""
    block: Any = net.get_submodule(ours)
    for theirs, name in BLOCK.items():
        yield from same(f"{official}.{theirs}", f"{ours}.{name}", block.get_submodule(name))
    if isinstance(block.shortcut, Pointwise):
        if net.resample is residual:
            yield from same(f"{official}.Conv_2", f"{ours}.shortcut", block.shortcut, ones=2)
        else:
            yield from _dense(f"{official}.NIN_0", f"{ours}.shortcut")


def _attention(official: str, ours: str, attention: Attention) -> Iterator[Key]:
    yield from same(f"{official}.GroupNorm_0", f"{ours}.norm", attention.norm)
    width = attention.out.in_features
    for i in range(3):
        yield from _dense(f"{official}.NIN_{i}", f"{ours}.qkv", slice(i * width, (i + 1) * width))
    yield from _dense(f"{official}.NIN_3", f"{ours}.out")


def _dense(official: str, ours: str, rows: slice = slice(None)) -> Iterator[Key]:
    """A dense layer over channels has its weight as (in, out) there."""
    yield Key(f"{official}.W", f"{ours}.weight", rows, transposed=True)
    yield Key(f"{official}.b", f"{ours}.bias", rows)


def _resample(official: str, ours: str, net: ScoreUNet) -> Iterator[Key]:
    layer: Any = net.get_submodule(ours)
    if layer.conv is not None:
        yield from same(f"{official}.{'Conv_0' if layer.fir is None else 'Conv2d_0'}", f"{ours}.conv", layer.conv)
