"""Posterior sampling by derivatives of the denoiser: MMPS, PiGDM and DPS.

The posterior mean of clean data given x_t and y = A x_0 + noise is, for Gaussian data,
D + V A^T (Sigma_y + A V A^T)^-1 (y - A D), with V the covariance of x_0 given x_t, (sigma^2 / alpha) dD/dx_t (Tweedie).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Move, Past, Sampler, Step
from sfumato.inverse.posterior import Measurement, Posterior, with_gradient


@dataclass(frozen=True)
class MMPS(Posterior):
    """Moment matching with Tweedie's covariance; exact for Gaussian data at every level (Rozet et al. 2024)."""

    iterations: int = 1
    """Of the linear solver (conjugate gradients), one backward pass each."""
    closed: ClassVar[bool] = False
    backward = 1

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise ValueError(f"mmps takes 1 iteration or more, not {self.iterations}")

    def denoiser(self, denoise: Denoise, measurement: Measurement) -> Denoise:
        operator, noise = measurement.operator, measurement.noise**2

        def inner(x: Tensor, t: Tensor) -> Prediction:
            prediction, x0, inputs = with_gradient(denoise, x, t)
            factor = prediction.level.tweedie  # makes a covariance of the Jacobian

            def covariance(v: Tensor) -> Tensor:
                """V A^T v."""
                with torch.inference_mode(False):
                    back = torch.autograd.grad(x0, inputs, operator.transpose(v).clone(), retain_graph=True)[0]
                return factor * back

            def apply(v: Tensor) -> tuple[Tensor, Tensor]:
                """(Sigma_y + A V A^T) v, and V A^T v."""
                spread = covariance(v)
                return noise * v + operator(spread), spread

            shift = solved(apply, measurement.residual(prediction.x0), self.iterations)
            return prediction.with_x0(prediction.x0 + shift)

        return inner


def solved(apply: Callable[[Tensor], tuple[Tensor, Tensor]], b: Tensor, iterations: int) -> Tensor:
    """N M^-1 b by conjugate gradients for each picture of a batch; `apply` is v -> (M v, N v).

    N of the solution is summed up on the way, so it costs no further pass. A picture in whose direction M is not
    positive, which the Jacobian of a network may be, stays where it is.
    """

    def dot(u: Tensor, v: Tensor) -> Tensor:
        return (u * v).flatten(1).sum(1).reshape(-1, *(1,) * (u.ndim - 1))

    def over(a: Tensor, b: Tensor) -> Tensor:
        usable = b > 1e-30
        return torch.where(usable, a / torch.where(usable, b, 1.0), 0.0)

    rest = direction = b
    size, total = dot(b, b), None
    for _ in range(iterations):
        seen, image = apply(direction)
        step = over(size, dot(direction, seen))
        total = step * image if total is None else total + step * image
        rest = rest - step * seen
        before, size = size, dot(rest, rest)
        direction = rest + over(size, before) * direction
    assert total is not None
    return total


@dataclass(frozen=True)
class PiGDM(Posterior):
    """Pseudo-inverse guidance: the covariance is as for uncorrelated data of unit variance (Song et al. 2023)."""

    backward = 1

    def denoiser(self, denoise: Denoise, measurement: Measurement) -> Denoise:
        operator, noise = measurement.operator, measurement.noise**2

        def inner(x: Tensor, t: Tensor) -> Prediction:
            prediction, x0, inputs = with_gradient(denoise, x, t)
            alpha, sigma = prediction.level
            v = operator.solve(measurement.residual(prediction.x0), noise, sigma**2 / (sigma**2 + alpha**2))
            with torch.inference_mode(False):
                back = torch.autograd.grad(x0, inputs, operator.transpose(v).clone())[0]
            return prediction.with_x0(prediction.x0 + prediction.level.tweedie * back)

        return inner


@dataclass(frozen=True)
class Towards(Prediction):
    """A prediction with the gradient in x of how far it is from what was seen, picture by picture."""

    gradient: Tensor = field(default_factory=lambda: torch.zeros(()))


@dataclass(frozen=True)
class DPSStep:
    """The step of another kernel, then x_s - scale * gradient at x_t (Chung et al. 2023, algorithm 1)."""

    kernel: Kernel
    scale: float

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        to, prediction = self.kernel(x, t, s, past)
        if not isinstance(prediction, Towards):
            return Step(to, prediction)
        shifted: Any = to
        return Step(replace(shifted, mean=to.mean - self.scale * prediction.gradient), prediction)


@dataclass(frozen=True)
class DPS(Posterior):
    """Diffusion posterior sampling: after each step, down the gradient of |y - A(D)| (Chung et al. 2023).

    For any differentiable operator. Nothing about it is exact: the scale is tuned, for 1000 ancestral steps.
    """

    scale: float = 0.5
    """Theirs: 0.3 for super-resolution and deblurring, 0.5 for inpainting, 1 for phase retrieval."""
    any_function: ClassVar[bool] = True
    closed: ClassVar[bool] = False
    backward = 1

    def denoiser(self, denoise: Denoise, measurement: Measurement) -> Denoise:
        def inner(x: Tensor, t: Tensor) -> Prediction:
            prediction, x0, inputs = with_gradient(denoise, x, t)
            with torch.inference_mode(False), torch.enable_grad():
                rest = measurement.y.clone() - measurement.operator(x0)
                size = (rest.flatten(1).square().sum(1) + 1e-20).sqrt()  # of each picture, as the batch is no vector
                gradient = torch.autograd.grad(size.sum(), inputs)[0]
            values = {f.name: getattr(prediction, f.name) for f in fields(Prediction)}
            return Towards(**values, gradient=gradient)

        return inner

    def arranged(
        self, moves: list[Move], process: GaussianDiffusion, measurement: Measurement, sampler: Sampler
    ) -> list[Move]:
        return [(DPSStep(kernel, self.scale), t, s) for kernel, t, s in moves]
