"""The weights of a foreign file, by name, and the error for files that cannot be used."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sfumato.runtime.printable import printable

State = dict[str, Tensor]
Shapes = Mapping[str, tuple[int, ...]]

TENSORS = 100_000
"""Of one state, at most; the largest published network has 1,200."""


class ForeignError(ValueError):
    """A foreign file that cannot be used, in one clear line, in which nothing acts on a terminal."""

    def __init__(self, text: str) -> None:
        super().__init__(printable(text if len(text) < 2000 else f"{text[:2000]} ...", "\n\t"))


def check_honest(state: State, size: int) -> None:
    """ValueError unless tensors hold what their shapes say: numbers of their own, all of which lie in the file.

    Args:
        size: bytes of the file.
    """
    if len(state) > TENSORS:
        raise ValueError(f"holds {len(state):,} tensors, which no network has")
    total = 0
    for name, value in state.items():
        if value.layout != torch.strided or value.is_meta or value.is_quantized or value.is_complex():
            raise ValueError(f"holds {name[:100]}, which is no plain tensor")
        total += value.numel() * value.element_size()
        if _repeats(value) or total > size:
            shape = tuple(value.shape)
            raise ValueError(f"claims more than it holds: {name[:100]} {shape} shares its numbers with others")


def _repeats(value: Tensor) -> bool:
    """Whether two of a tensor's places are one number."""
    steps = sorted((step, length) for step, length in zip(value.stride(), value.shape, strict=True) if length > 1)
    reach = 0
    for step, length in steps if value.numel() else ():
        if step <= reach:
            return True
        reach += step * (length - 1)
    return False
