"""The mean and the variance of many numbers, seen part by part, so that they need not lie in memory at once."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor


def mean_and_variance(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Mean and variance, (C,) float64 each, of the rows of parts (C, n), over all parts together."""
    total, squares, numbers = torch.zeros((), dtype=torch.float64), torch.zeros((), dtype=torch.float64), 0
    near: Tensor | None = None  # a number of each row, so that squares are small, and 0 where all numbers are one
    for part in parts:
        near = part[:, :1].double() if near is None else near
        values = part.double() - near
        total, squares = total + values.sum(1), squares + values.square().sum(1)
        numbers += values.shape[1]
    if near is None:
        raise ValueError("there is nothing to measure")
    mean = total / numbers
    return near[:, 0] + mean, (squares / numbers - mean.square()).clamp(min=0)
