"""Posterior sampling: what every method has in common, and derivatives of a denoiser.

A method turns a denoiser, a sampler and a measurement into the moves of a plan; most only wrap the denoiser, so that
any sampler and any guidance goes with them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Move, Past, Sampler, Step
from sfumato.core.schedules import Steps
from sfumato.inverse.operators import Operator

Wrap = Callable[[Denoise], Denoise]
"""A wrapper of denoisers, such as clipping."""


def as_it_is(denoise: Denoise) -> Denoise:
    """The denoiser itself."""
    return denoise


@dataclass(frozen=True)
class Measurement:
    """What was seen, y = A x + noise.

    Attributes:
        operator: A.
        y: (B, ...) what was seen.
        noise: its standard deviation.
    """

    operator: Operator
    y: Tensor
    noise: float = 0.0

    def residual(self, x: Tensor) -> Tensor:
        """y - A x."""
        return self.y - self.operator(x)


class Posterior:
    """Base class of methods, frozen dataclasses of plain options. By itself it looks at no measurement.

    Attributes:
        backward: passes back through the network an evaluation.
        any_function: whether the operator need not be linear.
        closed: whether it needs the operator's closed inverse.
    """

    backward: ClassVar[int] = 0
    any_function: ClassVar[bool] = False
    closed: ClassVar[bool] = True

    @property
    def agrees(self) -> bool:
        """Whether a result is meant to agree with what was seen as exactly as can be."""
        return True

    def check(self, operator: Operator) -> None:
        """ValueError where the operator is not one for this method."""
        name = type(operator).__name__
        if not (operator.linear or self.any_function):
            raise ValueError(f"{type(self).__name__} needs a linear operator, and {name} is none; take dps")
        if self.closed and type(operator).solve is Operator.solve:
            raise ValueError(f"{type(self).__name__} needs an operator with a closed inverse; take mmps for {name}")

    def denoiser(self, denoise: Denoise, measurement: Measurement) -> Denoise:
        """The denoiser that also knows the measurement."""
        return denoise

    def plan(
        self,
        process: GaussianDiffusion,
        denoise: Denoise,
        measurement: Measurement,
        sampler: Sampler,
        steps: Steps = None,
        clip: Wrap = as_it_is,
    ) -> list[Move]:
        """The moves of a sampler that draw from the posterior, from noise to pictures.

        Args:
            denoise: not clipped, since gradients through clipping are useless.
            clip: what is done to the result.
        """
        self.check(measurement.operator)
        moves = sampler.plan(process, clip(self.denoiser(denoise, measurement)), steps)
        return self.arranged(moves, process, measurement, sampler)

    def arranged(
        self, moves: list[Move], process: GaussianDiffusion, measurement: Measurement, sampler: Sampler
    ) -> list[Move]:
        """The sampler's moves with what the method adds between them."""
        return moves


def with_gradient(denoise: Denoise, x: Tensor, t: Tensor) -> tuple[Prediction, Tensor, Tensor]:
    """A prediction without a graph; its x0 and x with one, for derivatives. Works under inference mode, too."""
    with torch.inference_mode(False), torch.enable_grad():
        inputs = x.detach().clone().requires_grad_()
        prediction = denoise(inputs, t.clone())
    variance = None if prediction.variance is None else prediction.variance.detach()
    plain = replace(prediction, x=x, eps=prediction.eps.detach(), x0=prediction.x0.detach(), variance=variance)
    return plain, prediction.x0, inputs


@dataclass(frozen=True)
class Consistent:
    """A move that makes x agree with what was seen, as noisy as the level: x + A^+ (alpha y + sigma A z - A x).

    The replacement of Song et al. 2021 (appendix I) for a mask, and ILVR's for small pictures (Choi et al. 2021).

    Attributes:
        exact: to what was seen itself, without noise.
    """

    process: GaussianDiffusion
    measurement: Measurement
    exact: bool = False

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        operator, y = self.measurement.operator, self.measurement.y
        if self.exact:
            return Step(Gaussian(x + operator.pinv(y - operator(x)), NO_NOISE), None)
        alpha, sigma = self.process.level(s, x)
        return Step(Inside(x + operator.pinv(alpha * y - operator(x)), sigma, operator), None)


@dataclass(frozen=True)
class Inside(Gaussian):
    """A Gaussian whose noise lies in the directions that an operator sees."""

    operator: Operator

    def sample(self, noise: Callable[[Tensor], Tensor] = torch.randn_like) -> Tensor:
        return self.mean + self.std * self.operator.pinv(self.operator(noise(self.mean)))
