"""The predictions of a model of 2015, Gaussian or of bits: the expected clean data and the step to any level below.

A `Prediction` has a noise and a score, which bits do not; a `Belief` has neither, and both kinds go through the same
sampling loop (Sohl-Dickstein et al. 2015).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.dpm2015.binomial import BinomialDiffusion
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Past, Step
from sfumato.core.variances import ReverseVariance, reverse


@dataclass(frozen=True)
class Belief:
    """The clean data that are expected, (B, ...), and p(x_s | x_t) for any level s below, as a function of s."""

    x0: Tensor
    to: Callable[[Tensor], Any]


Believe = Callable[[Tensor, Tensor], Belief]
"""(x_t, t) -> Belief."""


def of_gaussians(process: GaussianDiffusion, denoise: Denoise, variance: ReverseVariance) -> Believe:
    """Ancestral steps at a prediction."""

    def believe(x: Tensor, t: Tensor) -> Belief:
        prediction = denoise(x, t)
        return Belief(prediction.x0, partial(reverse, process, variance, prediction, t))

    return believe


def of_bits(process: BinomialDiffusion, logits: Callable[[Tensor, Tensor], Tensor]) -> Believe:
    """Posteriors averaged over bits that are 1 with the probability of these logits; they see x_t and its evidence."""

    def believe(x: Tensor, t: Tensor) -> Belief:
        p = torch.sigmoid(logits(x, process.evidence(t)))
        return Belief(p, partial(process.reverse, x, p, t))

    return believe


@dataclass(frozen=True)
class BelievedStep:
    """The kernel that takes the step of a belief."""

    believe: Believe

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        belief = self.believe(x, t)
        return Step(belief.to(s), belief)


@dataclass(frozen=True)
class Stay:
    """The edge as it is sampled: the chain ends at level 1, and its state is the sample (authors' code)."""

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        return Step(Gaussian(x, NO_NOISE), None)
