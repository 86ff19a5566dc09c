"""Which device, arithmetic and memory layout suit this machine, with the reason in words.

bf16 means autocast: in training, weights, losses and averages stay float32.
"""

from __future__ import annotations

import contextlib
import copy

import torch
from torch import nn

from sfumato.networks import fused
from sfumato.runtime.sharding import is_sharded


def best_device() -> str:
    """cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def usable_device(word: str) -> str:
    """The device of a word that the machine has: cpu, cuda, cuda:1, mps; "auto" takes a GPU where there is one.

    Raises: ValueError, in one line, for any other.
    """
    if word == "auto":
        return best_device()
    kind, mark, index = word.partition(":")
    known = {
        "cpu": 1,
        "cuda": torch.cuda.device_count() if torch.cuda.is_available() else 0,
        "mps": int(torch.backends.mps.is_available()),
    }
    here = ", ".join(name for name, count in known.items() if count)
    if kind not in known or (mark and not (index.isascii() and index.isdecimal() and len(index) < 5)):
        raise ValueError(f"unknown device {word!r}; this machine has {here} (auto takes the fastest)")
    if not known[kind]:
        raise ValueError(f"there is no {kind} device here; this machine has {here}")
    if mark and int(index) >= known[kind]:
        raise ValueError(f"there is no {word} here: {kind} has {known[kind]} device{'s' * (known[kind] > 1)}, from 0")
    return word


def best_precision(device: torch.device | str) -> tuple[str, str]:
    """("bf16" or "float32", why)."""
    kind = torch.device(device).type
    if kind == "cuda":
        fast = torch.cuda.is_bf16_supported(including_emulation=False)
        return ("bf16", "the GPU has it") if fast else ("float32", "the GPU has no bf16")
    if kind == "cpu":
        if _cpu_has("amx_tile"):
            return "bf16", "the CPU has AMX"
        if _cpu_has("avx512_bf16"):
            return "bf16", "the CPU has AVX512-bf16"
        return "float32", "the CPU has no fast bf16"
    return "float32", f"bf16 on {kind} is untested"


def _cpu_has(feature: str) -> bool:
    supported = getattr(torch.cpu, f"_is_{feature}_supported", None)
    return bool(supported and supported())


def autocast(device: torch.device | str, precision: str) -> contextlib.AbstractContextManager[object]:
    """The context in which a network runs in that precision."""
    if precision not in ("bf16", "float32"):
        raise ValueError(f"precision is bf16 or float32, not {precision!r}")
    if precision == "float32":
        return contextlib.nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16)


def best_layout(device: torch.device | str) -> tuple[torch.memory_format, str]:
    """(memory format of images and weights, why). Channels last pays on a CPU with the fused kernel alone."""
    if torch.device(device).type == "cpu" and fused.load():
        return torch.channels_last, "fused kernel"
    return torch.contiguous_format, "torch's own operations"


def for_sampling(network: nn.Module, device: torch.device | str, precision: str) -> nn.Module:
    """A copy of the network that computes the same as fast as the machine can.

    Its weights are cast once, where autocast alone would cast them at every call, and lie in the best layout; what
    needs neither is shared. A network that is sharded among processes is taken as it is.
    """
    if any(is_sharded(parameter) for parameter in network.parameters()):
        return network
    layout = best_layout(device)[0]
    ready: dict[int, nn.Parameter] = {}
    for module in network.modules():
        cast = precision == "bf16" and isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d | nn.Linear)
        for parameter in module.parameters(recurse=False):
            value = parameter.detach().to(torch.bfloat16 if cast else parameter.dtype)
            value = value.contiguous(memory_format=layout) if value.ndim == 4 else value
            ready[id(parameter)] = nn.Parameter(value, requires_grad=False)
    return copy.deepcopy(network, ready)
