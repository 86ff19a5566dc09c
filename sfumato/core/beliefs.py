"""What a model of 2015 believes of x_t: Gaussian or bits, the expected clean data and the step to any level below.

A `Prediction` has a noise and a score, which bits do not; a belief has neither, and both kinds walk the same loop. In
other units (a data set is standardised, bits are black and white) it is the same belief (Sohl-Dickstein et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.core.binomial import BinomialDiffusion
from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian, Rescaled
from sfumato.core.kernels import Std, reverse
from sfumato.core.processes import GaussianDiffusion


@dataclass(frozen=True)
class Belief:
    """The clean data that are expected, (B, ...), and p(x_s | x_t) for any level s below, as a function of s."""

    x0: Tensor
    to: Callable[[Tensor], Any]


Believe = Callable[[Tensor, Tensor], Belief]
"""(x_t, t) -> Belief."""


def of_gaussians(process: GaussianDiffusion, denoise: Denoise, std: Std) -> Believe:
    """Ancestral steps at a prediction."""

    def believe(x: Tensor, t: Tensor) -> Belief:
        prediction = denoise(x, t)
        return Belief(prediction.x0, partial(reverse, process, std, prediction, t))

    return believe


def of_bits(process: BinomialDiffusion, logits: Callable[[Tensor, Tensor], Tensor]) -> Believe:
    """Posteriors averaged over bits that are 1 with the probability of these logits; they see x_t and its evidence."""

    def believe(x: Tensor, t: Tensor) -> Belief:
        p = torch.sigmoid(logits(x, process.evidence(t)))
        return Belief(p, partial(process.reverse, x, p, t))

    return believe


def in_units(step: Any, scale: float, shift: float) -> Any:
    """A distribution of scale * x + shift: a Gaussian stays one, so that it can be multiplied with another."""
    if isinstance(step, Gaussian):
        return Gaussian(scale * step.mean + shift, scale * step.std)
    return Rescaled(step, scale, shift)


def rescaled(believe: Believe, scale: float, shift: float) -> Believe:
    """The same in units in which the data are scale * x + shift."""

    def inner(x: Tensor, t: Tensor) -> Belief:
        belief = believe((x - shift) / scale, t)
        return Belief(scale * belief.x0 + shift, lambda s: in_units(belief.to(s), scale, shift))

    return inner


@dataclass(frozen=True)
class Believed:
    """The kernel that takes the step of a belief."""

    believe: Believe
    order: ClassVar[int] = 1

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Any:
        return self.believe(x, t).to(s)


@dataclass(frozen=True)
class Stay:
    """The edge as it is sampled: the walk ends at level 1, and its state is the sample (authors' code)."""

    order: ClassVar[int] = 1

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        return Gaussian(x, torch.zeros((), dtype=torch.float64))
