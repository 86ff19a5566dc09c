"""What a network believes about a noisy image: one `Prediction` with several readings, and the denoiser behind it.

The parameterisations are eps and previous mean (Ho et al. 2020, section 3.2), x0, v (Salimans & Ho 2022, appendix D)
and score (Song & Ermon 2019); each is a function of a few lines from the network's output to x0 and eps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level, like


@dataclass(frozen=True)
class Prediction:
    """One belief about x at a level. x0 and eps are kept apart, since guidance may change one and not the other.

    Attributes:
        x: (B, C, ...) the noisy images.
        level: where they are.
        eps, x0: (B, C, ...) the noise and the clean data that the network believes in.
        variance: (B, C, ...) what a network with a variance head said besides; `kernels` reads it.
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

    def with_x0(self, x0: Tensor) -> Prediction:
        """The same belief with another x0, and the eps that follows from it."""
        return replace(self, x0=x0, eps=self.level.eps(self.x, x0))

    def with_eps(self, eps: Tensor) -> Prediction:
        """The same belief with another eps, and the x0 that follows from it."""
        return replace(self, eps=eps, x0=self.level.x0(self.x, eps))

    def mean_detached(self) -> Prediction:
        """The same belief, in which only the variance still has a gradient (Nichol & Dhariwal 2021, section 3.1)."""
        return replace(self, eps=self.eps.detach(), x0=self.x0.detach())


Denoise = Callable[[Tensor, Tensor], Prediction]
"""(x_t, t) -> Prediction. Guidance, clipping and inpainting wrap one of these into another."""

Read = Callable[[Tensor, Tensor, Tensor, GaussianDiffusion], Prediction]
"""(output, x, t, process) -> Prediction: what a network's output means."""


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


def with_variance(read: Read) -> Read:
    """The second half of the channels is about the variance; `read` sees the first half (Nichol & Dhariwal 2021)."""

    def read_both(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
        if output.shape[1] != 2 * x.shape[1]:
            raise ValueError(f"a variance head doubles the channels: {x.shape[1]} in, {output.shape[1]} out")
        mean, variance = output.chunk(2, dim=1)
        return replace(read(mean, x, t, process), variance=variance)

    return read_both


@dataclass(frozen=True)
class Denoiser:
    """A network, its process, and the two small functions between them.

    Attributes:
        network: (x, condition, **labels) -> output.
        process: the forward process it was trained on.
        read: what its output means.
        condition: what it sees of t, for example t - 1, 999 t or log sigma: (B,) -> (B,).
        labels: further inputs of the network, such as y (B,) or low_res (B, C, h, w).
    """

    network: nn.Module
    process: GaussianDiffusion
    read: Read = predict_eps
    condition: Callable[[Tensor], Tensor] = lambda t: t
    labels: dict[str, Any] = field(default_factory=dict)

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        seen = self.condition(t).to(x.device, torch.float32, non_blocking=True).expand(x.shape[0])
        output = self.network(x, seen, **self.labels)
        return self.read(output.to(x.dtype), x, t, self.process)
