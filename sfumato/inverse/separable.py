"""Separable operators, alike on rows and columns: mean-pooling, bicubic shrinking and Gaussian blurring."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.inverse.operators import Number, Operator, divided


class Separable(Operator):
    """Base class of operators that act alike on rows and columns: A x = M x M^T, with M = `matrix(side)`."""

    factor: int = 1
    """How much smaller the result is."""

    def matrix(self, side: int) -> Tensor:
        """(side / factor, side), float64 on the host."""
        raise NotImplementedError

    def __call__(self, x: Tensor) -> Tensor:
        rows, columns = (self.matrix(side).to(x) for side in x.shape[-2:])
        return rows @ x @ columns.T

    def transpose(self, y: Tensor) -> Tensor:
        rows, columns = (self.matrix(side * self.factor).to(y) for side in y.shape[-2:])
        return rows.T @ y @ columns

    def solve(self, y: Tensor, noise: Number, gain: Number) -> Tensor:
        (of_rows, u), (of_columns, v) = (
            [part.to(y) for part in _spectrum(self, side * self.factor)] for side in y.shape[-2:]
        )
        by = noise + gain * of_rows[:, None] * of_columns
        return u @ divided(u.T @ y @ v, by) @ v.T

    def check(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) != 3 or any(side % self.factor or side < 2 * self.factor for side in shape[1:]):
            raise ValueError(f"{type(self).__name__} by {self.factor} does not fit pictures of {tuple(shape)}")
        return (shape[0], *(side // self.factor for side in shape[1:]))


@cache
def _spectrum(operator: Separable, side: int) -> tuple[Tensor, Tensor]:
    """Eigenvalues and eigenvectors of M M^T."""
    matrix = operator.matrix(side)
    values, vectors = torch.linalg.eigh(matrix @ matrix.T)
    return values.clamp(min=0), vectors


@dataclass(frozen=True)
class MeanPool(Separable):
    """Super-resolution: means over squares of pixels."""

    factor: int = 2

    def __post_init__(self) -> None:
        _whole(self.factor)

    def matrix(self, side: int) -> Tensor:
        each = torch.full((1, self.factor), 1 / self.factor, dtype=torch.float64)
        return torch.kron(torch.eye(side // self.factor, dtype=torch.float64), each)


@dataclass(frozen=True)
class Bicubic(Separable):
    """Super-resolution: bicubic shrinking with antialiasing, as image programs do."""

    factor: int = 2

    def __post_init__(self) -> None:
        _whole(self.factor)

    def matrix(self, side: int) -> Tensor:
        return _bicubic(side, self.factor)


@cache
def _bicubic(side: int, factor: int) -> Tensor:
    """What torch does to each unit vector: with the other axis constant, a column of the matrix."""
    units = torch.eye(side, dtype=torch.float64).reshape(side, 1, side, 1).expand(-1, 1, -1, side)
    small = F.interpolate(units, (side // factor, side // factor), mode="bicubic", antialias=True)
    return small[:, 0, :, 0].T.contiguous()


@dataclass(frozen=True)
class Blur(Separable):
    """Deblurring: a Gaussian blur of this deviation in pixels, around the edges (circular)."""

    std: float = 1.0
    stable: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not self.std > 0:
            raise ValueError(f"the deviation of a blur is above 0, not {self.std:g}")

    def matrix(self, side: int) -> Tensor:
        return _gaussian(side, self.std)


@cache
def _gaussian(side: int, std: float) -> Tensor:
    steps = torch.arange(side, dtype=torch.float64)
    apart = (steps[:, None] - steps).abs()
    weights = torch.exp(-0.5 * (torch.minimum(apart, side - apart) / std) ** 2)
    return weights / weights.sum(1, keepdim=True)


def _whole(factor: int) -> None:
    if factor < 2:
        raise ValueError(f"pictures are shrunk by a factor of 2 or more, not {factor}")
