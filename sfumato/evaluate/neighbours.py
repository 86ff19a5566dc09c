"""Measures by nearest neighbours: precision and recall, density and coverage, and the search for memorised images.

Kynkaanniemi et al. 2019, eqs. 1-2; Naeem et al. 2020, section 3; what counts as a copy is from Yoon et al. 2023.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

Distances = Callable[[Tensor, Tensor], Tensor]
"""(N, D), (M, D) -> squared distances (N, M)."""

ENTRIES = 2**22
"""Entries of the matrix of distances at a time: small enough that its memory is used again and again."""


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """|a_i - b_j|^2 in float64."""
    return _expanded(a.double(), b.double())


def half_precision_distances(a: Tensor, b: Tensor) -> Tensor:
    """Squared distances as ADM's evaluator has them, for comparison with its numbers: float16, or float32 on overflow.

    Features far from the origin lose most of their digits, and precision comes out too high. The roundings are those
    of its TensorFlow on a CPU: products are summed in float32, squares in eight lanes of float16.
    """
    u, v = a.half(), b.half()
    products = (u.float() @ v.float().T).half()
    found = ((_half_norms(u)[:, None] - 2 * products) + _half_norms(v)).float().clamp(min=0)
    return found if bool(found.isfinite().all()) else _expanded(a.float(), b.float())


def _half_norms(x: Tensor) -> Tensor:
    """|x_i|^2 of float16 (N, D): number j goes to lane j mod 8, and the eight lanes are added in float32."""
    lanes = nn.functional.pad(x.square(), (0, -x.shape[1] % 8)).unflatten(1, (-1, 8))
    total = torch.zeros_like(lanes[:, 0])
    for row in lanes.unbind(1):
        total = total + row
    return total.float().sum(1).half()


def _expanded(a: Tensor, b: Tensor) -> Tensor:
    norm_a, norm_b = (torch.einsum("nd,nd->n", x, x) for x in (a, b))
    return (norm_a[:, None] + norm_b).addmm_(a, b.T, alpha=-2).clamp_(min=0)


def _blocks(x: Tensor, columns: int) -> tuple[Tensor, ...]:
    """The rows of x, so many at a time that a matrix with them and those columns is small."""
    return x.split(max(1, ENTRIES // columns))


def radii(features: Tensor, k: int, distances: Distances = squared_distances) -> Tensor:
    """Squared distance (N,) of each of the features (N, D) to the k-th nearest other one."""
    if not 1 <= k < len(features):
        raise ValueError(f"the {k}-th neighbour needs k of 1 or more and more than k images; there are {len(features)}")
    features = features.double()  # once, not for each block
    rows = [
        distances(block, features).topk(k + 1, largest=False).values[:, -1]
        for block in _blocks(features, len(features))
    ]
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
    points, centres = points.double(), centres.double()
    caught, catches = [], torch.zeros(len(centres), dtype=torch.int64, device=points.device)
    for block in _blocks(points, len(centres)):
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
        places: (N, k) int64, where they are.
    """

    distance: Tensor
    places: Tensor

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
    flat = training.float()
    centre = flat.mean(0)
    flat = flat - centre
    found, distances = [], []
    for block in _blocks(samples, len(training)):
        index = _expanded(block.float() - centre, flat).topk(k, largest=False).indices
        exact = (block.double()[:, None] - training[index].double()).square().mean(2).sqrt()
        exact, order = exact.sort(dim=1)
        distances.append(exact)
        found.append(index.gather(1, order))
    return Nearest(torch.cat(distances), torch.cat(found))
