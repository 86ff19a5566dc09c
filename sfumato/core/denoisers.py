"""Denoisers and parameterizations: what a network's output says of a noisy image, one `Prediction` in several forms.

The parameterizations are eps and previous mean (Ho et al. 2020, section 3.2), x0, v (Salimans & Ho 2022, appendix D),
score (Song & Ermon 2019), F (Karras et al. 2022) and u (Lipman et al. 2023); each is a function of a few lines from the
network's output to x0 and eps.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level, like


@dataclass(frozen=True)
class Prediction:
    """The prediction of clean data x0 and noise eps at a noisy x; kept apart, since guidance may change one alone.

    Attributes:
        x: (B, C, ...) the noisy images.
        level: where they are.
        eps, x0: (B, C, ...) the predicted noise and clean data.
        variance: (B, C, ...) the output of the variance head, where a network has one; `variances` interprets it.
    """

    x: Tensor
    level: Level
    eps: Tensor
    x0: Tensor
    variance: Tensor | None = None

    @property
    def score(self) -> Tensor:
        """The gradient of log q(x_t) in x: -eps / sigma (Song et al. 2021)."""
        return -self.eps / self.level.sigma

    @property
    def v(self) -> Tensor:
        """alpha eps - sigma x0."""
        return self.level.v(self.x0, self.eps)

    def velocity(self, rate: Level) -> Tensor:
        """dx/dt of the probability flow, x0 alpha' + eps sigma', with the derivatives of `Schedule.rate`.

        eps - x0 on the straight path of flow matching (Lipman et al. 2023). Finite where alpha is 0, too.
        """
        return rate.alpha * self.x0 + rate.sigma * self.eps

    def with_x0(self, x0: Tensor) -> Prediction:
        """The same prediction with another x0, and the eps that follows from it."""
        return replace(self, x0=x0, eps=self.level.eps(self.x, x0))

    def with_eps(self, eps: Tensor) -> Prediction:
        """The same prediction with another eps, and the x0 that follows from it."""
        return replace(self, eps=eps, x0=self.level.x0(self.x, eps))

    def beyond(self, weaker: Prediction, scale: float | Tensor) -> Prediction:
        """Guidance: weaker + scale * (this - weaker), of two predictions at the same x (Ho & Salimans 2022, eq. 6).

        Of eps and of x0, which belong together as they did before, so that it is finite without signal, too.
        """
        eps, x0 = (b + scale * (a - b) for a, b in ((self.eps, weaker.eps), (self.x0, weaker.x0)))
        return replace(self, eps=eps, x0=x0)

    def mean_detached(self) -> Prediction:
        """The same prediction; only the variance still has a gradient (Nichol & Dhariwal 2021, section 3.1)."""
        return replace(self, eps=self.eps.detach(), x0=self.x0.detach())


Denoise = Callable[[Tensor, Tensor], Prediction]
"""(x_t, t) -> Prediction. Guidance, clipping and inpainting wrap one of these into another."""

Parameterization = Callable[[Tensor, Tensor, Tensor, GaussianDiffusion], Prediction]
"""(output, x, t, process) -> Prediction: what a network's output means."""

Condition = Callable[[Tensor], Tensor]
"""t (B,) or () -> the number for the noise level that the network is given, of t's shape."""


def predict_eps(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network returns the noise (Ho et al. 2020, eq. 11)."""
    level = process.level(t, x)
    return Prediction(x, level, output, level.x0(x, output))


def predict_x0(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network returns the clean data."""
    level = process.level(t, x)
    return Prediction(x, level, level.eps(x, output), output)


def predict_v(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network returns v = alpha eps - sigma x0; both are read off without dividing by a small number."""
    level = process.level(t, x)
    norm = level.alpha**2 + level.sigma**2
    x0 = (level.alpha * x - level.sigma * output) / norm
    return Prediction(x, level, (level.sigma * x + level.alpha * output) / norm, x0)


def predict_score(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network returns the score, -eps / sigma (Song & Ermon 2019)."""
    return predict_eps(-process.level(t, x).sigma * output, x, t, process)


def predict_u(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network returns u = eps - x0, the velocity of the straight path (Lipman et al. 2023), on any schedule."""
    level = process.level(t, x)
    both = level.alpha + level.sigma
    return Prediction(x, level, (x + level.alpha * output) / both, (x - level.sigma * output) / both)


def predict_f(sigma_data: float) -> Parameterization:
    """The network returns EDM's F: D = c_skip x + c_out F (Karras et al. 2022, eq. 7), on any schedule.

    For data of deviation sigma_data F's target has variance 1 at every level. For 1 and variance-preserving levels it
    is minus v. x and sigma are those of the paper divided by alpha, and nothing is divided by alpha here.
    """

    def reading(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
        level = process.level(t, x)
        variance = level.sigma**2 + (level.alpha * sigma_data) ** 2  # of x
        unit = sigma_data / variance.sqrt() * output
        x0 = sigma_data**2 * level.alpha / variance * x + level.sigma * unit
        return Prediction(x, level, level.sigma / variance * x - level.alpha * unit, x0)

    return reading


def unit_variance(sigma_data: float) -> Callable[[Level], Tensor]:
    """What makes noisy data of deviation sigma_data 1 wide: c_in of Karras et al. 2022, table 1."""

    def scale(level: Level) -> Tensor:
        return (level.sigma**2 + (level.alpha * sigma_data) ** 2).rsqrt()

    return scale


def predict_previous_mean(
    output: Tensor,
    x: Tensor,
    t: Tensor,
    process: GaussianDiffusion,
    previous: Callable[[Tensor], Tensor] = lambda t: t - 1,
) -> Prediction:
    """The network returns the mean of q(x_s | x_t, x_0) at s = previous(t) (Ho et al. 2020, eq. 8)."""
    of_x, of_x0, _ = (like(c, x) for c in process.posterior_coefficients(t, previous(t)))
    return predict_x0((output - of_x * x) / of_x0, x, t, process)


def with_variance(parameterization: Parameterization) -> Parameterization:
    """The second half of the channels is the variance head; the rest sees the first half (Nichol & Dhariwal 2021)."""

    def both(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
        if output.shape[1] != 2 * x.shape[1]:
            raise ValueError(f"a variance head doubles the channels: {x.shape[1]} in, {output.shape[1]} out")
        mean, variance = output.chunk(2, dim=1)
        return replace(parameterization(mean, x, t, process), variance=variance)

    return both


def negated(parameterization: Parameterization) -> Parameterization:
    """The network returns minus that, as the networks of NCSNv2 and NCSN++ do (their output over sigma is a score)."""

    def negative(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
        return parameterization(-output, x, t, process)

    return negative


def same_time(t: Tensor) -> Tensor:
    """t itself."""
    return t


@dataclass(frozen=True)
class Denoiser:
    """A denoiser (x_t, t) -> Prediction, made of a network, its process and what stands between them.

    Attributes:
        network: (x, condition, **inputs) -> output.
        process: the forward process it was trained on.
        parameterization: what its output means.
        condition: what it is given of t, for example t - 1, 999 t or sigma.
        scale_in: the level -> what x is multiplied with before the network sees it (c_in of Karras et al. 2022);
            nothing where None.
        inputs: what the network is given besides, such as y (B,) or low_res (B, C, h, w). `previous`, like x or (),
            is what it sees beside x in further channels: an x0 predicted before, or zeros (`feedback`).
    """

    network: nn.Module
    process: GaussianDiffusion
    parameterization: Parameterization = predict_eps
    condition: Condition = same_time
    scale_in: Callable[[Level], Tensor | float] | None = None
    inputs: Mapping[str, Tensor] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        condition = self.condition(t).to(x.device, torch.float32, non_blocking=True).expand(x.shape[0])
        scaled = x if self.scale_in is None else self.scale_in(self.process.level(t, x)) * x
        given = dict(self.inputs)
        previous = given.pop("previous", None)
        if previous is not None:
            scaled = torch.cat([scaled, previous.to(scaled).expand_as(scaled)], dim=1)
        output = self.network(scaled, condition, **given)
        return self.parameterization(output.to(x.dtype), x, t, self.process)
