"""What is known of an image: moves and beliefs that put it back, so that the rest is filled in or coloured.

Inpainting (Song & Ermon 2019, algorithm 2; Song et al. 2021, appendix I.2) and colourisation (appendix I.3), which is
inpainting in a basis of the colours whose first direction is grey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Distribution, Gaussian, Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move
from sfumato.core.sde import NONE

GREY = torch.tensor(
    [[3**-0.5, (2 / 3) ** 0.5, 0.0], [3**-0.5, -(6**-0.5), 2**-0.5], [3**-0.5, -(6**-0.5), -(2**-0.5)]],
    dtype=torch.float64,
)
"""An orthonormal basis of the colours, in columns, whose first is grey (Song et al. 2021, appendix I.3)."""


def turn(x: Tensor, basis: Tensor) -> Tensor:
    """Coordinates of each pixel's colour in an orthonormal basis (C, C) of columns; its transpose turns back."""
    return torch.einsum("bc...,cd->bd...", x, basis.to(x))


@dataclass(frozen=True)
class Turned:
    """A Gaussian in the coordinates of a basis, as a distribution of images."""

    gaussian: Gaussian
    basis: Tensor

    @property
    def mean(self) -> Tensor:
        return turn(self.gaussian.mean, self.basis.T)

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        return turn(self.gaussian.sample(noise), self.basis.T)

    def kl(self, other: Gaussian) -> Tensor:
        raise ValueError("what is known is exact, so its divergence is infinite")


@dataclass(frozen=True)
class Projection:
    """A move that stays, and puts what is known of an image, as noisy as the level is, in the place of what is there.

    Inpainting (Song et al. 2021, appendix I.2; Song & Ermon 2019, algorithm 2) and, with `GREY` as the basis and the
    first coordinate known, colourisation (appendix I.3).

    Attributes:
        x0: (B, C, H, W) images of which a part is known.
        known: True where it is, broadcasting against x0.
        basis: of the colours, (C, C) orthonormal columns, in which `known` is meant; None for the pixels themselves.
        exact: put in the clean x0 itself, at the end.
    """

    process: GaussianDiffusion
    x0: Tensor
    known: Tensor
    basis: Tensor | None = None
    exact: bool = False

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Distribution:
        alpha, sigma = (1.0, NONE) if self.exact else self.process.level(s, x)
        if self.basis is not None:
            x, x0 = turn(x, self.basis), turn(self.x0, self.basis)
        else:
            x0 = self.x0
        mean = torch.where(self.known, alpha * x0, x)
        inside = Gaussian(mean, NONE if self.exact else self.known.to(x.dtype) * sigma)
        return inside if self.basis is None else Turned(inside, self.basis)


def greyness(x0: Tensor) -> Tensor:
    """What of colour images x0 (B, 3, H, W) is known in the basis `GREY` when they are to be coloured, (3, 1, 1)."""
    return torch.tensor([True, False, False], device=x0.device)[:, None, None]


def arriving(t: Tensor, s: Tensor) -> Tensor:
    """s: what is known gets the noise of the level where a move ends."""
    return s


def departing(t: Tensor, s: Tensor) -> Tensor:
    """t: what is known gets the noise of the level where a move began, as in the official code."""
    return t


def projected(
    moves: Iterable[Move], projection: Projection, at: Callable[[Tensor, Tensor], Tensor] = arriving
) -> list[Move]:
    """The same moves, a projection after each; the last puts in the clean images."""
    plan: list[Move] = []
    for kernel, t, s in moves:
        here = at(t, s)
        plan += [(kernel, t, s), (projection, here, here)]
    if plan:
        _, t, s = plan[-1]
        plan[-1] = (replace(projection, exact=True), t, s)
    return plan


def imputed(denoise: Denoise, x0: Tensor, known: Tensor) -> Denoise:
    """Believe what is known: the predicted x0 is the true one where `known`, and eps follows. For any kernel.

    The deterministic counterpart of `Projection` for DDIM, Heun and the probability flow.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        return prediction.with_x0(torch.where(known, x0, prediction.x0))

    return inner
