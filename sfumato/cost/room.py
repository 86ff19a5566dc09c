"""Whether a training fits into memory, said before anything of it is allocated.

Weights and what is kept beside them are exact; the rest is predicted where it could be much, since that takes seconds.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from sfumato.cost import memory
from sfumato.cost.inspection import size
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.opening import free_memory
from sfumato.runtime.precision import best_precision

KEPT = 40_000
"""Bytes that a U-Net keeps for the backward pass for each number of an image, about, or less."""


def check_training(
    recipe: Trainable, network: nn.Module, settings: TrainConfig, device: str, processes: int = 1, here: int = 1
) -> None:
    """Refuse a training that needs more memory than is free.

    Args:
        network: the recipe's, on the meta device.
        device: where it will be.
        processes: that share the batch, on all machines.
        here: of these on this machine, whose memory they share where the device is its CPU.

    Raises: ValueError, in one line with both figures and what needs less.
    """
    free = free_memory() // here if device == "cpu" else torch.cuda.mem_get_info()[0] if device == "cuda" else 1 << 62
    held = sum(p.numel() * p.element_size() for p in network.parameters()) * (4 + memory.averages_of(settings))
    held = held // processes if settings.shard else held
    if held > free:
        raise ValueError(
            f"weights, gradients, Adam and averages of this network take {size(held)}, and {size(free)} are free; "
            "choose fewer --recipe.network.channels, or a network with fewer levels or blocks"
        )
    batch = math.ceil(settings.batch / (processes * settings.accumulate))
    if held + KEPT * batch * math.prod(recipe.shape) < free // 2:
        return
    precision: Any = best_precision(device)[0] if settings.precision == "auto" else settings.precision
    try:
        found = memory.training(
            recipe, replace(settings, precision=precision), device=device, processes=processes, shard=settings.shard
        )
    except ValueError as error:
        if "cannot be predicted" not in str(error):
            raise
        return
    if found.peak > free:
        raise ValueError(
            f"a step with {batch} images at a time takes {size(found.peak)}, and {size(free)} are free; choose a "
            "smaller --train.batch, more --train.accumulate, --train.checkpoint-activations, or smaller images"
        )
