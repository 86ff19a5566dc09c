"""Measures by nearest neighbours: precision and recall, density and coverage, and the search for memorised images.

Kynkaanniemi et al. 2019, eqs. 1-2; Naeem et al. 2020, eqs. 6-8; a copy is nearer to one training image than a third of
the way to the next (Yoon et al. 2023, section 3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

Distances = Callable[[Tensor, Tensor], Tensor]
"""(N, D), (M, D) -> squared distances (N, M)."""

ROWS = 1000
"""Rows of the matrix of distances at a time, which bounds the memory."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 in float64."""
    return _expanded(a.double(), b.double())


def half_precision_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances as ADM's evaluator has them, for comparison with its numbers: float16, or float32 on overflow.

    Features far from the origin lose most of their digits: precision then comes out too high.
    """
    found = _expanded(a.half(), b.half()).float()
    return found if bool(found.isfinite().all()) else _expanded(a.float(), b.float())


def _expanded(a: Tensor, b: Tensor) -> Tensor:
    return (a.square().sum(1)[:, None] - 2 * (a @ b.T) + b.square().sum(1)).clamp(min=0)


def radii(features: Tensor, k: int, distances: Distances = squared_distances) -> Tensor:
    """Squared distance (N,) of each of the features (N, D) to the k-th nearest other one."""
    if not 1 <= k < len(features):
        raise ValueError(f"the {k}-th neighbour needs k of 1 or more and more than k images; there are {len(features)}")
    rows = [distances(block, features).kthvalue(k + 1, dim=1).values for block in features.split(ROWS)]
    return torch.cat(rows)  # the nearest of all is the image itself


class Coverage(NamedTuple):
    """How balls about `centres` (M) catch `points` (N).

    Attributes:
        caught: bool (N,), points in at least one ball.
        catches: int64 (M,), points in each ball.
    """

    caught: Tensor
    catches: Tensor


def in_balls(points: Tensor, centres: Tensor, squared_radii: Tensor, distances: Distances) -> Coverage:
    """Which points (N, D) lie in the balls about centres (M, D), borders included."""
    if points.shape[1] != centres.shape[1]:
        raise ValueError(f"the two sets have {points.shape[1]} and {centres.shape[1]} features; the nets differ")
    caught, catches = [], torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    for block in points.split(ROWS):
        inside = distances(block, centres) <= squared_radii
        caught.append(inside.any(1))
        catches += inside.sum(0)
    return Coverage(torch.cat(caught), catches)


class PrecisionRecall(NamedTuple):
    """The share of samples among the reference, and of the reference among the samples."""

    precision: float
    recall: float


def precision_recall(
    reference: Tensor, samples: Tensor, *, k: int = 3, distances: Distances = squared_distances
) -> PrecisionRecall:
    """Improved precision and recall of samples (N, D) against a reference (M, D).

    A set covers the balls about its members that reach to their k-th neighbours.
    """
    precision = in_balls(samples, reference, radii(reference, k, distances), distances).caught
    recall = in_balls(reference, samples, radii(samples, k, distances), distances).caught
    return PrecisionRecall(float(precision.double().mean()), float(recall.double().mean()))


class DensityCoverage(NamedTuple):
    """How many balls of the reference a sample lies in, over k; and the share of those balls that hold a sample."""

    density: float
    coverage: float


def density_coverage(
    reference: Tensor, samples: Tensor, *, k: int = 5, distances: Distances = squared_distances
) -> DensityCoverage:
    """Density and coverage of samples (N, D) against a reference (M, D); density is 1 on average for equal laws."""
    catches = in_balls(samples, reference, radii(reference, k, distances), distances).catches
    density = float(catches.sum()) / (k * len(samples))
    return DensityCoverage(density, float((catches > 0).double().mean()))


class Nearest(NamedTuple):
    """The nearest of a training set.

    Attributes:
        distance: (N, k) float64, root-mean-square over the D numbers, the nearest first.
        index: (N, k) int64, where they are.
    """

    distance: Tensor
    index: Tensor

    @property
    def copies(self) -> Tensor:
        """bool (N,): much nearer to one training image than to the next, by a factor of three."""
        return self.distance[:, 0] < self.distance[:, 1] / 3


def nearest(samples: Tensor, training: Tensor, k: int = 2) -> Nearest:
    """The k nearest rows of training (M, D) to each row of samples (N, D).

    They are found in float32 and then measured anew in float64, so that a copy is at 0 exactly.
    """
    if not 1 <= k <= len(training):
        raise ValueError(f"k lies between 1 and the {len(training)} training images, not {k}")
    centre = training.double().mean(0)
    flat = (training - centre).float()
    found, distances = [], []
    for block in samples.split(ROWS):
        index = _expanded((block - centre).float(), flat).topk(k, largest=False).indices
        exact = (block.double()[:, None] - training[index].double()).square().mean(2).sqrt()
        exact, order = exact.sort(dim=1)
        distances.append(exact)
        found.append(index.gather(1, order))
    return Nearest(torch.cat(distances), torch.cat(found))
