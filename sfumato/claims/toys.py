"""Data and small tools that several claims share: exact mixtures in the plane, and distances between sets of points."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from sfumato.core.betas import cosine_betas, linear_betas
from sfumato.core.distributions import Noise
from sfumato.core.exact import GaussianMixture
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, trajectory
from sfumato.core.schedules import from_betas
from sfumato.data.toys import along_roll


def ring(components: int = 8, radius: float = 1.2, std: float = 0.1) -> GaussianMixture:
    """Equal Gaussians on a circle, about unit variance in all, in float64."""
    angle = torch.arange(components, dtype=torch.float64) * 2 * math.pi / components
    means = radius * torch.stack([angle.cos(), angle.sin()], dim=1)
    return GaussianMixture(torch.full((components,), 1 / components, dtype=torch.float64), means, std + 0 * means)


def families(apart: float = 1.1, within: float = 0.25, std: float = 0.05) -> GaussianMixture:
    """Four families of four Gaussians, in float64: component 4 i + j is member j of family i."""
    corners = torch.tensor([[-1, -1], [-1, 1], [1, -1], [1, 1]], dtype=torch.float64)
    means = (apart * corners[:, None] + within * corners[None]).reshape(16, 2)
    return GaussianMixture(torch.full((16,), 1 / 16, dtype=torch.float64), means, std + 0 * means)


def spiral(components: int = 100, std: float = 0.04) -> GaussianMixture:
    """Equal Gaussians along the swiss roll (Sohl-Dickstein et al. 2015), about unit variance in all, in float64."""
    means = 2 * torch.from_numpy(along_roll((np.arange(components) + 0.5) / components))
    return GaussianMixture(torch.full((components,), 1 / components, dtype=torch.float64), means, std + 0 * means)


def linear(T: int = 1000) -> GaussianDiffusion:
    """Ho et al.'s schedule."""
    return GaussianDiffusion(from_betas(linear_betas(T)))


def cosine(T: int = 1000) -> GaussianDiffusion:
    """Improved DDPM's schedule."""
    return GaussianDiffusion(from_betas(cosine_betas(T)))


def normal(seed: int, *shape: int) -> Tensor:
    """float64 standard normal numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def seeded(seed: int) -> Noise:
    """Normal draws of a seed, one after the other, for the sampling loop."""
    generator = torch.Generator().manual_seed(seed)
    return lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype)


def all_states(x: Tensor, moves: Iterable[Move], noise: Noise = torch.randn_like) -> Tensor:
    """The trajectory from x (n, ...) with its start: (moves + 1, n, ...)."""
    return torch.stack([x, *(state for state, _ in trajectory(x, moves, noise))])


def sliced_distance(a: Tensor, b: Tensor, directions: int = 64) -> float:
    """Sliced Wasserstein-1 distance of two sets of points (N, 2): the mean over directions of sorted differences."""
    angle = torch.arange(directions, dtype=a.dtype) * math.pi / directions
    axes = torch.stack([angle.cos(), angle.sin()])
    return float(((a @ axes).sort(0).values - (b @ axes).sort(0).values).abs().mean())
