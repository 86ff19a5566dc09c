"""Which device and which arithmetic suit this machine, with the reason in words.

bf16 means autocast: weights, losses and averages stay float32.
"""

from __future__ import annotations

import contextlib

import torch


def best_device() -> str:
    """cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


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
