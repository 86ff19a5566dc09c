"""Activation checkpointing (Chen et al. 2016, arXiv:1604.06174): blocks keep their inputs alone for the backward pass,
which computes the rest again.

It takes one forward pass more a step, and memory falls to the blocks' inputs and the inside of one block. Weights,
their names and what the network computes stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from sfumato.networks import beside, blocks, lucidrains_blocks, lucidrains_karras, magnitude, refinenet, tokens

BLOCKS = (
    blocks.ResBlock, blocks.Attention, beside.Draw, refinenet.ResidualBlock, refinenet.ConvUnit, tokens.Block,
    magnitude.MPBlock, lucidrains_blocks.ResBlock, lucidrains_blocks.LinearAttention,
    lucidrains_karras.KarrasBlock,
)  # fmt: skip
"""The modules that are computed again, each as a whole; none lies inside another."""


def recompute_blocks(network: nn.Module) -> int:
    """Make every block of a network forget its activations in training and compute them again in the backward pass.

    Gradients are the same to rounding, dropout included: its random numbers are drawn again from the same state. Where
    no gradient is asked for, as in sampling, nothing changes; copies of the network do the same with their own weights.
    A network that recomputes already stays as it is.

    Args:
        network: a U-Net, NCSN++, RefineNet or classifier; its names and its state dict do not change.

    Returns: the number of blocks.

    Raises: ValueError where the network has no block that is known here.
    """
    found = list(known_blocks(network))
    if not found:
        raise ValueError(
            f"{type(network).__name__} has no blocks that could be computed again in the backward pass: "
            "leave out --train.checkpoint-activations"
        )
    for block in found:
        if "forward" not in vars(block):
            # A partial of a bound method, so that a deep copy is bound to the copied block.
            vars(block)["forward"] = partial(_forgetful, block.forward)
    return len(found)


def recomputes(network: nn.Module) -> bool:
    """Whether a network's blocks are computed again in the backward pass."""
    return any("forward" in vars(block) for block in known_blocks(network))


def known_blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The blocks of a network that can be computed again."""
    return (module for module in network.modules() if isinstance(module, BLOCKS))


def _forgetful(forward: Callable[..., Any], *inputs: Any, **more: Any) -> Any:
    if not torch.is_grad_enabled():
        return forward(*inputs, **more)
    return checkpoint(forward, *inputs, use_reentrant=False, preserve_rng_state=True, **more)
