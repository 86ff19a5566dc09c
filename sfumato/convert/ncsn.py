"""The checkpoints of ermongroup/ncsn and ermongroup/ncsnv2: NCSN's conditional RefineNets, and NCSNv2's.

The networks are `sfumato.networks.refinenet`'s (Song & Ermon 2019, appendix A; Song & Ermon 2020, appendix B).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from sfumato.convert.keys import Key, same
from sfumato.networks.blocks import Act
from sfumato.networks.instance_norm import InstanceNorm, InstanceNormPlus, NoNorm, VarianceNorm
from sfumato.networks.refinenet import ScoreRefineNet, mean_pool

ACTIVATION: dict[str, Act] = {
    "elu": F.elu,
    "relu": F.relu,
    "lrelu": partial(F.leaky_relu, negative_slope=0.2),
    "swish": F.silu,
}
NORM: dict[str, type[InstanceNorm] | type[NoNorm]] = {
    "InstanceNorm++": InstanceNormPlus,
    "VarianceNorm": VarianceNorm,
    "NoneNorm": NoNorm,
}


def ncsn(args: Mapping[str, Any], **options: Any) -> ScoreRefineNet:
    """Our network for a configuration's sections `model` and `data` of NCSN; `options` are `ScoreRefineNet`'s."""
    config, data = args["model"], args["data"]
    if config.get("batch_norm"):
        raise ValueError("only the normalisation of the paper is supported, not batch_norm")
    if config.get("nonlinearity", "elu") != "elu":
        raise ValueError(f"only the nonlinearity elu is supported, not {config['nonlinearity']!r}")
    norm = options.pop("norm", InstanceNormPlus)
    options = {"levels": config["num_classes"], "norm": norm, "refine_norm": norm, "pool": mean_pool, **options}
    return _net(config, data, **options)


def ncsnv2(args: Mapping[str, Any], **options: Any) -> ScoreRefineNet:
    """Our network for a configuration's sections `model` and `data` of NCSNv2; `options` are `ScoreRefineNet`'s."""
    config, data = args["model"], args["data"]
    if config.get("spec_norm"):
        raise ValueError("spectral normalisation (spec_norm) is not supported")
    if config["normalization"] not in NORM:
        raise ValueError(f"normalization is one of {', '.join(NORM)}, not {config['normalization']!r}")
    options = {"norm": NORM[config["normalization"]], "sigmas": sigmas(config), **options}
    return _net(config, data, act=ACTIVATION[config["nonlinearity"]], **options)


def sigmas(config: Mapping[str, Any]) -> list[float]:
    """The noise levels of a section `model`, which fall geometrically or uniformly."""
    return falling(config["sigma_begin"], config["sigma_end"], config["num_classes"], config["sigma_dist"])


def falling(first: float, last: float, number: int, spacing: str = "geometric") -> list[float]:
    """So many noise levels from the first to the last, evenly spaced in themselves or in their logarithms."""
    if spacing not in ("geometric", "uniform"):
        raise ValueError(f"sigma_dist is one of geometric, uniform, not {spacing!r}")
    ends = torch.tensor([first, last], dtype=torch.float64, device="cpu")
    ends = ends.log() if spacing == "geometric" else ends
    levels = torch.lerp(ends[0], ends[1], torch.linspace(0, 1, number, dtype=torch.float64, device="cpu"))
    return (levels.exp() if spacing == "geometric" else levels).tolist()


def _net(config: Mapping[str, Any], data: Mapping[str, Any], **options: Any) -> ScoreRefineNet:
    return ScoreRefineNet(
        in_channels=data["channels"],
        channels=config["ngf"],
        unit_range=not (data["logit_transform"] or data.get("rescaled", False)),
        **options,
    )


def keys(net: ScoreRefineNet, args: Mapping[str, Any]) -> Iterator[Key]:
    """The key map, in the official order."""
    if net.sigmas is not None:
        yield Key("sigmas", "sigmas")
    yield from same("begin_conv", "conv_in", net.conv_in)
    yield from _norm("normalizer", "norm_out", net)
    yield from same("end_conv", "conv_out", net.conv_out)
    stages, refinements = _numbers(len(net.stages))
    for i, number in enumerate(stages):
        for j in range(2):
            yield from _block(f"res{number}.{j}", f"stages.{i}.{j}", net)
    for number in stages:
        yield from _refine(f"refine{number}", f"refine.{refinements.index(number)}", net)


def _numbers(stages: int) -> tuple[list[str], list[str]]:
    """The official number of each stage, and of the refinement that takes its output, which count backwards."""
    if stages == 6:  # the deepest network has one stage more than its numbers had room for
        return ["1", "2", "3", "31", "4", "5"], ["5", "4", "3", "31", "2", "1"]
    numbers = [str(i + 1) for i in range(stages)]
    return numbers, numbers[::-1]


def _norm(official: str, ours: str, net: nn.Module) -> Iterator[Key]:
    """Where the noise level is known it is a table; otherwise each kind of number is a vector, and in another order."""
    norm = net.get_submodule(ours)
    if not isinstance(norm, InstanceNorm):
        return
    if norm.weight.ndim > 1:
        yield Key(f"{official}.embed.weight", f"{ours}.weight")
        return
    kinds = {"alpha": 0} if isinstance(norm, VarianceNorm) else {"alpha": 1, "gamma": 0, "beta": 2}
    width = len(norm.weight) // len(kinds)
    for name, i in kinds.items():
        yield Key(f"{official}.{name}", f"{ours}.weight", slice(i * width, (i + 1) * width))


def _block(official: str, ours: str, net: nn.Module) -> Iterator[Key]:
    """What is followed by a mean of 2x2 pixels lies one name deeper."""
    block: Any = net.get_submodule(ours)
    deeper = ".conv" if block.pool else ""
    yield from same(f"{official}.conv1", f"{ours}.conv1", block.conv1)
    yield from _norm(f"{official}.normalize2", f"{ours}.norm2", net)
    yield from same(f"{official}.conv2{deeper}", f"{ours}.conv2", block.conv2)
    yield from same(f"{official}.shortcut{deeper}", f"{ours}.shortcut", block.shortcut)
    yield from _norm(f"{official}.normalize1", f"{ours}.norm1", net)


def _refine(official: str, ours: str, net: nn.Module) -> Iterator[Key]:
    block: Any = net.get_submodule(ours)
    for i in range(len(block.adapt)):
        yield from _units(f"{official}.adapt_convs.{i}", f"{ours}.adapt.{i}", net)
    yield from _units(f"{official}.output_convs", f"{ours}.out", net)
    for theirs, name in {"msf": "fuse", "crp": "pool"}.items():
        convs: Any = block.get_submodule(f"{name}_convs")
        for i, conv in enumerate(convs):
            yield from same(f"{official}.{theirs}.convs.{i}", f"{ours}.{name}_convs.{i}", conv)
        for i in range(len(convs)):
            yield from _norm(f"{official}.{theirs}.norms.{i}", f"{ours}.{name}_norms.{i}", net)


def _units(official: str, ours: str, net: nn.Module) -> Iterator[Key]:
    units: Any = net.get_submodule(ours)
    for i, unit in enumerate(units):
        for j in range(2):
            yield from _norm(f"{official}.{i + 1}_{j + 1}_norm", f"{ours}.{i}.norms.{j}", net)
            yield from same(f"{official}.{i + 1}_{j + 1}_conv", f"{ours}.{i}.convs.{j}", unit.convs[j])
