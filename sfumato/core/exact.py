"""Data whose denoiser, score and likelihood are known in closed form: the bench on which every kernel is tested.

For x_0 from a mixture of Gaussians, x_t is a mixture too, so E[x_0 | x_t] and the score follow from Bayes' rule
(Tweedie's formula); for one Gaussian the probability-flow ODE is solved exactly as well (Song et al. 2021, eq. 13).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level


@dataclass(frozen=True)
class GaussianMixture:
    """Points x (B, D) from components k with weights (K,), means (K, D) and diagonal standard deviations (K, D)."""

    weights: Tensor
    means: Tensor
    stds: Tensor

    def __post_init__(self) -> None:
        if self.means.ndim != 2 or self.stds.shape != self.means.shape or self.weights.shape != self.means.shape[:1]:
            raise ValueError("weights (K,), means (K, D) and stds (K, D) do not fit together")
        if bool((self.weights < 0).any()) or abs(float(self.weights.sum()) - 1) > 1e-6:
            raise ValueError("weights are not negative and sum to 1")

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """n points, (n, D)."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        noise = torch.randn((n, self.means.shape[1]), generator=generator, dtype=self.means.dtype)
        return self.means[k] + self.stds[k] * noise

    def _components(self, x: Tensor, level: Level) -> tuple[Tensor, Tensor, Tensor]:
        """log p(k, x_t) (B, K); the residual x_t - alpha mean (B, K, D); the variance of x_t in k, broadcasting."""
        alpha, sigma = (c[..., None] if c.ndim else c for c in level)  # (B, 1) -> (B, 1, 1)
        variance = (alpha * self.stds) ** 2 + sigma**2
        residual = x[:, None] - alpha * self.means
        log_normal = -0.5 * (residual**2 / variance + variance.log() + math.log(2 * math.pi)).sum(-1)
        return self.weights.log() + log_normal, residual, variance

    def log_prob(self, x: Tensor, level: Level | None = None) -> Tensor:
        """log density of x_t in nats, (B,); of clean data where no level is given."""
        level = level or Level(torch.tensor(1.0, dtype=torch.float64), torch.tensor(0.0, dtype=torch.float64))
        return self._components(x, level)[0].logsumexp(-1)

    def responsibilities(self, x: Tensor, level: Level) -> Tensor:
        """p(k | x_t), (B, K)."""
        return self._components(x, level)[0].softmax(-1)

    def denoise(self, process: GaussianDiffusion) -> Denoise:
        """The exact denoiser on a process: x0 is E[x_0 | x_t], and eps is E[eps | x_t]."""

        def inner(x: Tensor, t: Tensor) -> Prediction:
            level = process.level(t, x)
            log_joint, residual, variance = self._components(x, level)
            share = log_joint.softmax(-1)[..., None]  # p(k | x_t), (B, K, 1)
            alpha, sigma = (c[..., None] if c.ndim else c for c in level)
            eps = (share * sigma * residual / variance).sum(1)
            x0 = (share * (self.means + alpha * self.stds**2 * residual / variance)).sum(1)
            return Prediction(x, level, eps, x0)

        return inner


def gaussian(mean: Tensor, std: Tensor) -> GaussianMixture:
    """One Gaussian with mean (D,) and diagonal standard deviation (D,)."""
    return GaussianMixture(torch.ones(1, dtype=mean.dtype), mean[None], std[None])


def gaussian_flow(mean: Tensor, std: Tensor, x: Tensor, start: Level, end: Level) -> Tensor:
    """The probability-flow ODE of Gaussian data, solved exactly from one level to another.

    Each coordinate keeps its quantile: x moves with the mean and the standard deviation of x_t.
    """
    from_std = ((start.alpha * std) ** 2 + start.sigma**2).sqrt()
    to_std = ((end.alpha * std) ** 2 + end.sigma**2).sqrt()
    return end.alpha * mean + to_std / from_std * (x - start.alpha * mean)
