"""Inpainting and colourisation by replacement: what is known of an image is put back, so that the rest agrees with it.

Inpainting (Song & Ermon 2019, algorithm 2; Song et al. 2021, appendix I.2) and colourisation (appendix I.3), which is
inpainting in a basis of the colours whose first direction is grey.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Move, Past, Step

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
class Replacement:
    """Replacement-method inpainting: a move that puts what is known of an image, as noisy as the level, in its place.

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

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        alpha, sigma = (1.0, NO_NOISE) if self.exact else self.process.level(s, x)
        if self.basis is not None:
            x, x0 = turn(x, self.basis), turn(self.x0, self.basis)
        else:
            x0 = self.x0
        mean = torch.where(self.known, alpha * x0, x)
        inside = Gaussian(mean, NO_NOISE if self.exact else self.known.to(x.dtype) * sigma)
        return Step(inside if self.basis is None else Turned(inside, self.basis), None)


def greyness(x0: Tensor) -> Tensor:
    """What of colour images x0 (B, 3, H, W) is known in the basis `GREY` when they are to be coloured, (3, 1, 1)."""
    return torch.tensor([True, False, False], device=x0.device)[:, None, None]


At = Callable[[Tensor, Tensor], Tensor]
"""(t, s) of a move -> the level of noise that what is known gets after it."""


def noise_of_arrival(t: Tensor, s: Tensor) -> Tensor:
    """s, the level where a move ends."""
    return s


def noise_of_departure(t: Tensor, s: Tensor) -> Tensor:
    """t, the level where a move began, as in the official code."""
    return t


def with_replacement(moves: Iterable[Move], replacement: Replacement, at: At = noise_of_arrival) -> list[Move]:
    """The moves of a sampler with a replacement after each; the last puts in the clean images."""
    plan: list[Move] = []
    for kernel, t, s in moves:
        here = at(t, s)
        plan += [(kernel, t, s), (replacement, here, here)]
    if plan:
        _, t, s = plan[-1]
        plan[-1] = (replace(replacement, exact=True), t, s)
    return plan


def replaced(denoise: Denoise, x0: Tensor, known: Tensor) -> Denoise:
    """Inpainting inside the denoiser: the predicted x0 is the true one where `known`, and eps follows. Any sampler.

    The deterministic counterpart of `Replacement` for DDIM, Heun and the probability flow.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        return prediction.with_x0(torch.where(known, x0, prediction.x0))

    return inner
