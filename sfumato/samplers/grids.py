"""Timesteps of samplers by name: even, quadratic, and the respacings of DDIM and Improved DDPM, quirks included.

Each is a function of T, the number of levels, to levels that descend and end at 0, clean data (`core.schedules.Grid`);
in continuous time the levels are thousandths.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sfumato.core.schedules import strided


def timesteps(T: int, n: int) -> Tensor:
    """n moves from T to 0, evenly spaced: (n + 1,) strictly descending levels. n = T takes every level."""
    return strided(T, n)


def _possible(T: int, n: int) -> None:
    if not 1 <= n <= T:
        raise ValueError(f"steps must lie between 1 and {T}, the number of levels of this model, not {n}")


def trailing_quadratic(T: int, n: int) -> Tensor:
    """n moves from T to 0, denser near clean data: (n + 1,) strictly descending levels."""
    _possible(T, n)
    levels = (T * (torch.arange(n + 1, dtype=torch.float64) / n) ** 2).round().long()
    return torch.maximum(levels, torch.arange(n + 1)).flip(0)


def _from_indices(indices: list[int]) -> Tensor:
    """Official 0-based timesteps, ascending -> our levels (index + 1), descending, with clean data at the end."""
    return torch.tensor([i + 1 for i in reversed(indices)] + [0])


def ddim_uniform(T: int, n: int) -> Tensor:
    """DDIM's `uniform` spacing as published: every (T // n)-th level.

    Two quirks: it may make more moves than asked (T = 1000, n = 30 makes 31), and it starts below T.
    """
    _possible(T, n)
    return _from_indices(list(range(0, T, T // n)))


def ddim_quadratic(T: int, n: int) -> Tensor:
    """DDIM's `quad` spacing as published: squares up to 0.8 T, so that noise enters at 0.8 T.

    With many steps the lowest level repeats; such a move stays where it is.
    """
    _possible(T, n)
    return _from_indices([int(r**2) for r in torch.linspace(0, math.sqrt(0.8 * T), n, dtype=torch.float64).tolist()])


def sections(T: int, counts: list[int]) -> Tensor:
    """Improved DDPM's respacing: [0, T) in equal sections, counts[i] levels spread over the i-th, ends included."""
    size, extra = divmod(T, len(counts))
    start, indices = 0, []
    for i, count in enumerate(counts):
        length = size + (i < extra)
        if not 1 <= count <= length:
            raise ValueError(f"cannot place {count} levels in section {i + 1}, which has {length}")
        stride = (length - 1) / (count - 1) if count > 1 else 1.0
        position = 0.0  # summed, not multiplied, and rounded half to even: as the official grid falls
        for _ in range(count):
            indices.append(start + round(position))
            position += stride
        start += length
    return _from_indices(sorted(set(indices)))


def ddim_stride(T: int, n: int) -> Tensor:
    """Improved DDPM's `ddimN`: the integer stride from index 0 that makes exactly n levels."""
    for stride in range(1, T):
        if len(range(0, T, stride)) == n:
            return _from_indices(list(range(0, T, stride)))
    raise ValueError(f"no integer stride visits exactly {n} of {T} levels")


def respace(T: int, text: str) -> Tensor:
    """Improved DDPM's respacing string: "250", "10,10,10" or "ddim50" -> levels, descending, ending at 0."""
    try:
        if text.startswith("ddim"):
            return ddim_stride(T, int(text[4:]))
        return sections(T, [int(part) for part in text.split(",")])
    except ValueError as error:
        raise ValueError(f"respacing {text!r}: {error}") from None
