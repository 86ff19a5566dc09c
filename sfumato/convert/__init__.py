"""Foreign checkpoints: our network for the official constructor's arguments, with the official weights in it, and back.

One file a format, which says how to build the network and which official key is which of our parameters; no paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.convert import ddim, ncsn, openai, score_sde
from sfumato.convert.keys import Key, check_fits, load
from sfumato.networks.instance_norm import InstanceNorm
from sfumato.networks.refinenet import DEEPER, DEEPEST


class Layout(NamedTuple):
    """A class of an official repository: args -> our network, and (our network, args) -> key map."""

    model: Callable[[Mapping[str, Any]], nn.Module]
    keys: Callable[[Any, Mapping[str, Any]], Iterable[Key]]


def _legacy(net: Any, args: Mapping[str, Any]) -> Iterable[Key]:
    return openai.keys(net, legacy_order=True)


def _either(net: Any, args: Mapping[str, Any]) -> Iterable[Key]:
    return openai.keys(net, legacy_order=not args.get("use_new_attention_order", False))


LAYOUTS = {
    "ddim/Model": Layout(ddim.model, ddim.keys),
    "improved/UNetModel": Layout(lambda args: openai.unet(**args), _legacy),
    "improved/SuperResModel": Layout(lambda args: openai.super_res(**args), _legacy),
    "guided/UNetModel": Layout(lambda args: openai.unet(**args), _either),
    "guided/SuperResModel": Layout(lambda args: openai.super_res(**args), _either),
    "guided/EncoderUNetModel": Layout(lambda args: openai.encoder(**args), _either),
    "ncsn/CondRefineNetDilated": Layout(ncsn.ncsn, ncsn.keys),
    "ncsn/CondRefineNetDeeperDilated": Layout(lambda args: ncsn.ncsn(args, norm=InstanceNorm, **DEEPER), ncsn.keys),
    "ncsn/RefineNetDilated": Layout(lambda args: ncsn.ncsn(args, levels=None), ncsn.keys),
    "ncsnv2/NCSN": Layout(ncsn.ncsn, ncsn.keys),
    "ncsnv2/NCSNdeeper": Layout(lambda args: ncsn.ncsn(args, **DEEPER), ncsn.keys),
    "ncsnv2/NCSNv2": Layout(ncsn.ncsnv2, ncsn.keys),
    "ncsnv2/NCSNv2Deeper": Layout(lambda args: ncsn.ncsnv2(args, **DEEPER), ncsn.keys),
    "ncsnv2/NCSNv2Deepest": Layout(lambda args: ncsn.ncsnv2(args, **DEEPEST), ncsn.keys),
    "score_sde/ncsnpp": Layout(score_sde.ncsnpp, score_sde.keys),
    "score_sde/ddpm": Layout(score_sde.ddpm, score_sde.keys),
    "score_sde/ncsnv2_64": Layout(score_sde.ncsnv2, ncsn.keys),
    "score_sde/ncsnv2_128": Layout(lambda args: score_sde.ncsnv2(args, **DEEPER), ncsn.keys),
    "score_sde/ncsnv2_256": Layout(lambda args: score_sde.ncsnv2(args, **DEEPEST), ncsn.keys),
}


def from_official(layout: str, state_dict: Mapping[str, Tensor], args: Mapping[str, Any]) -> nn.Module:
    """Our network with the official weights, in eval mode, in float32 and on their device (which may be "meta").

    Args:
        layout: REPOSITORY/CLASS, one of `LAYOUTS`.
        state_dict: the official parameters, all of them; the prefix "module." of DataParallel may stand before each.
        args: the official constructor's arguments by name; for ddim the configuration, {"model": ..., "data": ...}.

    Returns: a module called as the official one is: (x, timesteps), with y= or low_res= where that has them.

    Raises: ValueError for an unknown layout, for arguments that the layout does not have, and, with the first five
    differences, if any key is missing or left over or any shape differs, and for NaN and infinite values.
    """
    net, keys = _build(layout, args)
    if state_dict and all(name.startswith("module.") for name in state_dict):
        state_dict = {name.removeprefix("module."): tensor for name, tensor in state_dict.items()}
    check_fits(net, keys, state_dict)
    net.to_empty(device=next((tensor.device for tensor in state_dict.values()), "cpu"))
    load(net, keys, state_dict)
    return net.eval()


def to_official(layout: str, ours: nn.Module | Mapping[str, Tensor], args: Mapping[str, Any]) -> dict[str, Tensor]:
    """The inverse: copies of our tensors under the official keys, in the official order.

    Args:
        layout, args: as for `from_official`.
        ours: our network, or one tensor for each of its parameters by our name: gradients map just like weights.
            Buffers, such as a table of noise levels, may be missing among these.

    Raises: ValueError as `from_official` does for layout and args; KeyError if a parameter has no tensor.
    """
    net, keys = _build(layout, args)
    tensors = ours.state_dict() if isinstance(ours, nn.Module) else ours
    optional = {name for name, _ in net.named_buffers()} - set(tensors)
    return {key.official: key.read(tensors[key.ours]).clone().contiguous() for key in keys if key.ours not in optional}


def official_shapes(layout: str, args: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """What a checkpoint of this layout holds: official key -> shape, in the official order. Allocates nothing."""
    net, _ = _build(layout, args)
    return {name: tuple(tensor.shape) for name, tensor in to_official(layout, net, args).items()}


def _build(layout: str, args: Mapping[str, Any]) -> tuple[nn.Module, list[Key]]:
    """Our network on the "meta" device, and its key map."""
    if layout not in LAYOUTS:
        raise ValueError(f"no layout is called {layout!r}; known are {', '.join(LAYOUTS)}")
    try:
        with torch.device("meta"):
            net = LAYOUTS[layout].model(args)
    except (TypeError, KeyError) as error:
        raise ValueError(f"these are not the arguments of {layout}: {error}") from error
    return net, list(LAYOUTS[layout].keys(net, args))
