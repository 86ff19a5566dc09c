"""Posterior sampling of 2015: a model multiplied with another distribution, p~(x_0) proportional to p(x_0) r(x_0).

Sohl-Dickstein et al. 2015, section 2.5 and appendix C: each reverse step is multiplied with r(x_s). Where r is a
Gaussian, a known value or a coin, the product is exact; where it is merely smooth, the mean moves along its slope.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.core.distributions import Gaussian
from sfumato.core.dpm2015.binomial import Bernoulli
from sfumato.core.sampling import Kernel, Past, Step
from sfumato.core.schedules import like

Factor = Callable[[Any, Tensor], Any]
"""(p(x_s | x_t), s) -> their product with r, normalised."""

Power = Callable[[Tensor], Tensor]
"""The level s -> how much of r counts there: r_s = r^power."""


def always(s: Tensor) -> Tensor:
    """r counts fully at every level (section 2.5.2)."""
    return torch.ones((), dtype=torch.float64)


def fading(T: float) -> Power:
    """r^((T - s) / T): nothing in pure noise, all of it at the data (section 2.5.2)."""
    return lambda s: 1 - s.double() / T


def fitting(x: Tensor, value: Tensor, what: str) -> None:
    """ValueError unless `value` broadcasts against x (B, ...) without making it larger."""
    try:
        fits = torch.broadcast_shapes(value.shape, x.shape) == x.shape
    except RuntimeError:
        fits = False
    if not fits:
        raise ValueError(f"{what} of shape {tuple(value.shape)} does not fit images {tuple(x.shape)}")


@dataclass(frozen=True)
class Multiplied:
    """A kernel whose every step is multiplied with a factor; for the sampling loop."""

    kernel: Kernel
    factor: Factor

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        to, prediction = self.kernel(x, t, s, past)
        return Step(self.factor(to, s), prediction)


@dataclass(frozen=True)
class Observed:
    """r(x) = N(x; y, std^2) in every pixel: denoising. The product of two Gaussians, exact.

    Attributes:
        y: what was observed, broadcasting against x_s.
        std: of the observation's noise, () or broadcasting; infinite where nothing was seen.
    """

    y: Tensor
    std: Tensor | float
    power: Power = always

    def __post_init__(self) -> None:
        if bool((torch.as_tensor(self.std) <= 0).any()):
            raise ValueError("the noise of an observation is above 0; what is known exactly is `Known`")

    def __call__(self, step: Gaussian, s: Tensor) -> Gaussian:
        fitting(step.mean, self.y, "an observation")
        weight = like(self.power(s), step.mean) / torch.as_tensor(self.std, dtype=torch.float64).to(step.mean) ** 2
        variance = step.std**2 / (1 + step.std**2 * weight)
        return Gaussian(step.mean + variance * weight * (self.y - step.mean), variance.sqrt())


@dataclass(frozen=True)
class Known:
    """r is a point mass where pixels are known: inpainting. Known pixels stay clean at every level (section 3.2).

    Attributes:
        x0: (B, ...) images of which a part is known.
        known: bool, True where it is, broadcasting against x0.
    """

    x0: Tensor
    known: Tensor

    def __post_init__(self) -> None:
        if self.known.dtype != torch.bool:
            raise ValueError(f"known is true or false at each pixel, not {self.known.dtype}")
        fitting(self.x0, self.known, "a mask")

    def __call__(self, step: Any, s: Tensor) -> Any:
        fitting(step.mean, self.x0, "an observation")
        if isinstance(step, Bernoulli):
            return Bernoulli(torch.where(self.known, self.x0, step.p))
        inside = torch.where(self.known, 0.0, step.std.to(step.mean))
        return Gaussian(torch.where(self.known, self.x0, step.mean), inside)


@dataclass(frozen=True)
class Climbing:
    """Any smooth r: the mean moves by the variance times the gradient of log r at the mean (appendix C, eq. 61).

    Attributes:
        log_r: x (B, ...) -> (B,), or a sum; it is differentiated.
    """

    log_r: Callable[[Tensor], Tensor]
    power: Power = always

    def __call__(self, step: Gaussian, s: Tensor) -> Gaussian:
        with torch.inference_mode(False), torch.enable_grad():
            mean = step.mean.detach().clone().requires_grad_()
            (slope,) = torch.autograd.grad(self.log_r(mean).sum(), mean)
        moved = step.mean + like(self.power(s), step.mean) * step.std**2 * slope
        return Gaussian(moved, step.std)


@dataclass(frozen=True)
class Tossed:
    """Bits: r(x = 1) = d, r(x = 0) = 1 - d in every bit, so b' = b d / (b d + (1 - b)(1 - d)) (appendix C, table 1)."""

    d: Tensor

    def __post_init__(self) -> None:
        if not bool(((self.d >= 0) & (self.d <= 1)).all()):
            raise ValueError("the probabilities of r lie between 0 and 1")

    def __call__(self, step: Bernoulli, s: Tensor) -> Bernoulli:
        fitting(step.p, self.d, "r")
        one, zero = step.p * self.d, (1 - step.p) * (1 - self.d)
        if bool((one + zero == 0).any()):
            raise ValueError("r rules out what the model is certain of")
        return Bernoulli(one / (one + zero))
