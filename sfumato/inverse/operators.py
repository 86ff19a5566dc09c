"""Measurement operators: what of a picture was seen, y = A x + noise, as small frozen values.

Each knows A, its transpose and, where that is cheap, how to invert noise + gain A A^T: masks and grey by hand, those of
`separable` (mean-pooling, bicubic shrinking, blurring) by the singular values of one matrix an axis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.core.distributions import Noise

Number = Tensor | float
"""A number for the whole batch, or (B, 1, ...) for each picture."""


class Operator:
    """Base class of operators on pictures (B, C, H, W); linear unless said otherwise.

    Attributes:
        linear: whether it is; most methods need it.
        stable: whether its pseudo-inverse magnifies no noise, so that a result can be made to agree exactly.
        hides: whether some pixels of each picture are missing, others in each.
    """

    linear: ClassVar[bool] = True
    stable: ClassVar[bool] = True
    hides: ClassVar[bool] = False

    def __call__(self, x: Tensor) -> Tensor:
        """A x, without noise."""
        raise NotImplementedError

    def transpose(self, y: Tensor) -> Tensor:
        """A^T y, so that <A x, y> = <x, A^T y>."""
        raise NotImplementedError

    def solve(self, y: Tensor, noise: Number, gain: Number) -> Tensor:
        """(noise + gain A A^T)^-1 y, both not negative; 0 in directions in which nothing is left to divide by."""
        raise NotImplementedError(f"{type(self).__name__} has no closed inverse")

    def pinv(self, y: Tensor) -> Tensor:
        """The pseudo-inverse, A^T (A A^T)^+ y: the smallest picture that was seen like that."""
        return self.transpose(self.solve(y, 0.0, 1.0))

    def seen(self, y: Tensor) -> Tensor:
        """y with 0 where nothing was seen; whatever a picture that was given as y has there."""
        return y

    def check(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what is seen of a picture of this one, (C, H, W). ValueError where the operator does not fit."""
        return shape

    def part(self, keys: Sequence[int], n: int) -> Operator:
        """The operator of these of n pictures."""
        return self

    def to(self, device: torch.device | str) -> Operator:
        """The same on a device."""
        return self

    def drawn(self, x: Tensor, noise: Noise) -> Operator:
        """The operator of a batch of pictures (B, C, H, W); a random one is drawn by the noise of each picture."""
        return self


def divided(y: Tensor, by: Number) -> Tensor:
    """y / by, 0 where `by` is next to nothing."""
    by = by.to(y) if isinstance(by, Tensor) else y.new_tensor(by)
    small = by <= 1e-9 * by.max().clamp(min=1e-30)
    return torch.where(small, 0.0, y / torch.where(small, 1.0, by))


# ---------------------------------------------------------------- pixels, channels and colours


@dataclass(frozen=True, eq=False)
class Mask(Operator):
    """Inpainting: the pixels that are known; the others are seen as 0.

    known: true where a picture is known, broadcasting against pictures: (H, W), (C, H, W) or (B, C, H, W).
    """

    known: Tensor

    def __post_init__(self) -> None:
        if self.known.dtype != torch.bool:
            raise ValueError(f"a mask is true or false at each pixel, not {self.known.dtype}")

    def __call__(self, x: Tensor) -> Tensor:
        return torch.where(self.known, x, 0.0)

    def transpose(self, y: Tensor) -> Tensor:
        return torch.where(self.known, y, 0.0)

    def solve(self, y: Tensor, noise: Number, gain: Number) -> Tensor:
        return self(divided(y, noise + gain))

    def seen(self, y: Tensor) -> Tensor:
        return self(y)

    def check(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        of_one = self.known.shape[1:] if self.known.ndim > len(shape) else self.known.shape
        try:
            fits = torch.broadcast_shapes(of_one, shape) == torch.Size(shape)
        except RuntimeError:
            fits = False
        if not fits or self.known.ndim > len(shape) + 1:
            raise ValueError(f"a mask of {tuple(self.known.shape)} does not fit pictures of {tuple(shape)}")
        return shape

    def part(self, keys: Sequence[int], n: int) -> Operator:
        if self.known.ndim < 4 or len(self.known) == 1:
            return self
        if len(self.known) != n:
            raise ValueError(f"{len(self.known)} masks do not fit {n} pictures")
        return Mask(self.known[list(keys)])

    def to(self, device: torch.device | str) -> Operator:
        return Mask(self.known.to(device))


@dataclass(frozen=True)
class Channels(Operator):
    """Inpainting of channels: those that are known; the others are seen as 0."""

    known: tuple[int, ...] = (0,)
    """Their numbers, from 0."""

    def __call__(self, x: Tensor) -> Tensor:
        inside = torch.zeros(x.shape[1], dtype=torch.bool, device=x.device)
        inside[list(self.known)] = True
        return torch.where(inside.reshape(-1, *(1,) * (x.ndim - 2)), x, 0.0)

    def transpose(self, y: Tensor) -> Tensor:
        return self(y)

    def solve(self, y: Tensor, noise: Number, gain: Number) -> Tensor:
        return self(divided(y, noise + gain))

    def seen(self, y: Tensor) -> Tensor:
        return self(y)

    def check(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if not self.known or not all(0 <= i < shape[0] for i in self.known):
            raise ValueError(f"channels {self.known} do not fit pictures of {shape[0]} channels, 0 to {shape[0] - 1}")
        return shape


@dataclass(frozen=True)
class Grey(Operator):
    """Colourisation: the mean of the channels, (B, 1, H, W)."""

    channels: int = 3

    def __call__(self, x: Tensor) -> Tensor:
        return x.mean(1, keepdim=True)

    def transpose(self, y: Tensor) -> Tensor:
        return (y / self.channels).expand(-1, self.channels, *y.shape[2:])

    def solve(self, y: Tensor, noise: Number, gain: Number) -> Tensor:
        return divided(y, noise + gain / self.channels)

    def check(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if shape[0] != self.channels or self.channels < 2:
            raise ValueError(f"grey of {self.channels} channels does not fit pictures of {shape[0]}")
        return (1, *shape[1:])


# ---------------------------------------------------------------- any function


@dataclass(frozen=True)
class Function(Operator):
    """Any differentiable function of pictures (B, C, H, W), linear or not; for DPS, which needs no inverse."""

    function: Callable[[Tensor], Tensor]
    linear: ClassVar[bool] = False
    stable: ClassVar[bool] = False

    def __call__(self, x: Tensor) -> Tensor:
        return self.function(x)

    def check(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        try:
            return tuple(self.function(torch.zeros(1, *shape)).shape[1:])
        except (RuntimeError, IndexError) as error:
            raise ValueError(f"this function does not fit pictures of {tuple(shape)}: {error}") from None


@dataclass(frozen=True)
class Linear(Function):
    """Any linear function of pictures; its transpose is found by differentiation."""

    shape: tuple[int, ...] = ()
    """Of a picture, (C, H, W)."""
    linear: ClassVar[bool] = True

    def transpose(self, y: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.zeros(len(y), *self.shape, dtype=y.dtype, device=y.device, requires_grad=True)
            return torch.autograd.grad(self.function(x), x, y.clone())[0]
