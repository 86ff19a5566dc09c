"""Sharded networks that do not fit in one process: weights, gradients, averages and moments in parts (FSDP2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn


def shard_network(network: nn.Module, device: torch.device) -> None:
    """Shard a network, the same in all processes, among them: block by block, and the rest as one; each takes its part
    to the device.

    ValueError where this torch cannot (on CPUs it needs one newer than 2.6).
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if device.type == "cpu" and not hasattr(torch.cpu.current_stream(), "record_event"):
        raise ValueError(
            f"torch {torch.__version__} shards networks on GPUs only; update it, or leave out --train.shard"
        )
    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks(network):
        fully_shard(block, mesh=mesh)
    # whole weights must not outlive a pass, not even the last block's: the average may take their place (`ema`)
    fully_shard(network, mesh=mesh, reshard_after_forward=True)


def blocks(network: nn.Module) -> Iterator[nn.Module]:
    """The members of lists of modules, the outermost ones, that have parts and are called themselves."""
    for child in network.children():
        called = type(child).forward is not nn.Module.forward
        if isinstance(network, nn.ModuleList) and called and any(True for _ in child.children()):
            yield child
        else:
            yield from blocks(child)


def is_sharded(value: Tensor) -> bool:
    """Whether this process holds a part of the tensor only."""
    return hasattr(value, "full_tensor")  # a DTensor, whose module takes long to import for those who need none


def whole(value: Tensor) -> Tensor:
    """The tensor with all its parts; where it is sharded, all processes must ask."""
    held: Any = value
    return held.full_tensor() if is_sharded(value) else value


def shard_like(pattern: Tensor, value: Tensor) -> Tensor:
    """A whole tensor, the same in all processes, sharded as the pattern is, or as it is where that is whole."""
    if not is_sharded(pattern):
        return value
    from torch.distributed.tensor import distribute_tensor

    held: Any = pattern
    return distribute_tensor(value.to(pattern.device), held.device_mesh, held.placements)
