"""Distances between two sets of features, Frechet and kernel (KID), and the Inception score of one set; all in float64.

Heusel et al. 2017, eq. 6 (on spatial features: Nash et al. 2021); Binkowski et al. 2018, section 4, with the unbiased
estimate of Gretton et al. 2012, Lemma 6; Salimans et al. 2016, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 4096


class Estimate(NamedTuple):
    """A number and its deviation over the parts it was measured on."""

    value: float
    deviation: float


# ---------------------------------------------------------------- Frechet distance


@dataclass(frozen=True)
class Statistics:
    """What the Frechet distance needs to know of a set.

    Attributes:
        mean: (D,) float64.
        covariance: (D, D) float64, with N - 1 below.
        count: N.
    """

    mean: Tensor
    covariance: Tensor
    count: int


def statistics(features: Tensor) -> Statistics:
    """Mean and covariance of features (N, D), summed in float64 about the mean, a block at a time."""
    count = _check(features, least=2)
    mean = torch.stack([block.double().sum(0) for block in features.split(BLOCK)]).sum(0) / count
    scatter = torch.zeros(features.shape[1], features.shape[1], dtype=torch.float64, device=features.device)
    for block in features.split(BLOCK):
        centred = block.double() - mean
        scatter += centred.T @ centred
    return Statistics(mean, scatter / (count - 1), count)


def frechet_distance(a: Statistics, b: Statistics) -> float:
    """|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2)), the squared 2-Wasserstein distance of two Gaussians.

    C_a C_b has the eigenvalues of the symmetric R C_b R with R R = C_a, so that no root of an unsymmetric matrix is
    taken and nothing is added to a diagonal, even with fewer images than dimensions.
    """
    if a.mean.shape != b.mean.shape:
        raise ValueError(f"the two sets have {len(a.mean)} and {len(b.mean)} features; they come from different nets")
    values, vectors = torch.linalg.eigh(a.covariance)
    root = (vectors * _positive(values).sqrt()) @ vectors.T
    cross = _positive(torch.linalg.eigvalsh(root @ b.covariance @ root)).sqrt().sum()
    shift = (a.mean - b.mean).square().sum()
    return float(shift + a.covariance.trace() + b.covariance.trace() - 2 * cross)


def _positive(values: Tensor) -> Tensor:
    """Eigenvalues of a positive matrix: what is rounding becomes 0, whose root would be large beside it."""
    return torch.where(values > values.max() * len(values) * torch.finfo(values.dtype).eps, values, 0.0)


# ---------------------------------------------------------------- kernel distance


def polynomial_kernel(a: Tensor, b: Tensor) -> Tensor:
    """(a . b / D + 1)^3 for all pairs of a (N, D) and b (M, D): (N, M)."""
    return (a @ b.T / a.shape[1] + 1) ** 3


def squared_mmd(a: Tensor, b: Tensor) -> float:
    """The unbiased squared maximum mean discrepancy of a (N, D) and b (M, D); it is 0 on average for equal laws."""
    n, m = _check(a, least=2), _check(b, least=2)
    within = (_off_diagonal(x) / (count * (count - 1)) for x, count in ((a, n), (b, m)))
    between = sum(float(polynomial_kernel(block.double(), b.double()).sum()) for block in a.split(BLOCK))
    return sum(within) - 2 * between / (n * m)


def _off_diagonal(x: Tensor) -> float:
    """The sum of the kernel over all pairs of different rows."""
    x = x.double()
    total = sum(float(polynomial_kernel(block, x).sum()) for block in x.split(BLOCK))
    return total - float(((x.square().mean(1) + 1) ** 3).sum())


def kernel_distance(a: Tensor, b: Tensor, *, subsets: int = 100, size: int = 1000, seed: int = 0) -> Estimate:
    """KID: the mean and the deviation of the squared MMD over random subsets of a (N, D) and b (M, D).

    Args:
        subsets: how many, each drawn without replacement.
        size: images in each; at most half of the smaller set, so that the subsets differ.
    """
    n, m = _check(a, least=4), _check(b, least=4)
    if subsets < 2 or size < 2:
        raise ValueError(f"a deviation needs 2 subsets of 2 images or more, not {subsets} of {size}")
    size = min(size, n // 2, m // 2)
    chance = torch.Generator().manual_seed(seed)
    values = [
        squared_mmd(a[torch.randperm(n, generator=chance)[:size]], b[torch.randperm(m, generator=chance)[:size]])
        for _ in range(subsets)
    ]
    return _estimate(values)


# ---------------------------------------------------------------- Inception score


def inception_score(probabilities: Tensor, *, splits: int = 10, size: int | None = None) -> Estimate:
    """exp E KL(p(y|x) || p(y)), the mean and the deviation over parts of probabilities (N, K).

    Args:
        splits: equal parts (to one image).
        size: instead, parts of so many images in their order, as ADM's evaluator cuts them (5000); the last is shorter
            where N is no multiple, and counts as much as a full one.
    """
    count = _check(probabilities, least=1)
    if splits < 1 or (size is not None and size < 1):
        raise ValueError(f"the parts of an Inception score are 1 or more, not {splits if size is None else size}")
    p = probabilities.double()
    parts = p.tensor_split(min(splits, count)) if size is None else p.split(size)
    return _estimate([float(_divergence(part).mean().exp()) for part in parts])


def _divergence(p: Tensor) -> Tensor:
    """KL(p(y|x) || p(y)) of each row, (N, K) -> (N,); 0 log 0 is 0."""
    return (torch.xlogy(p, p) - torch.xlogy(p, p.mean(0))).sum(1)


# ---------------------------------------------------------------- shared


def _estimate(values: list[float]) -> Estimate:
    found = torch.tensor(values, dtype=torch.float64)
    return Estimate(float(found.mean()), float(found.std(correction=0)))


def _check(features: Tensor, least: int) -> int:
    """The number of rows; ValueError unless they are at least so many finite vectors."""
    if features.ndim != 2 or len(features) < least:
        raise ValueError(f"features are (N, D) with N at least {least}, not {tuple(features.shape)}")
    if not bool(features.isfinite().all()):
        raise ValueError("features hold infinities or NaN; the images or the feature net are damaged")
    return len(features)
