"""The program of the lesson on measuring: the Fréchet distance of two sets of features (Heusel et al. 2017)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sfumato.claims.measuring import blurred, lookalike, memorised, real
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import normal, tensor

TASK = r"""Write the number behind FID: `frechet(a, b)` of two sets of features, (N, D) and (M, D). With their means $\mu$ and covariances $\Sigma$ it is
the squared Wasserstein-2 distance of two Gaussians:

$$|\mu_a - \mu_b|^2 + \operatorname{tr}\!\left(\Sigma_a + \Sigma_b - 2\,(\Sigma_a^{1/2}\Sigma_b\Sigma_a^{1/2})^{1/2}\right)$$

The square root of a symmetric matrix comes from its eigenvalues: `torch.linalg.eigh`. Rounding makes small eigenvalues
negative; they count as 0. For two dimensions the trace of the root has a closed form, which the check uses. Then your
distance ranks the lesson's sets."""

STUB = '''def frechet(a, b):
    """a (N, D), b (M, D) -> one number"""
    ...
'''

SOLUTION = """def statistics(x):
    mean = x.mean(0)
    centred = x - mean
    return mean, centred.T @ centred / (len(x) - 1)


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def frechet(a, b):
    mean_a, cov_a = statistics(a)
    mean_b, cov_b = statistics(b)
    half = root(cov_a)
    cross = root(half @ cov_b @ half)
    return ((mean_a - mean_b) ** 2).sum() + torch.trace(cov_a + cov_b - 2 * cross)
"""


def _exactly(seed: int, mean: Tensor, factor: Tensor) -> Tensor:
    """4000 points whose mean is this and whose covariance is factor factor^T, exactly."""
    z = normal(seed, 4000, len(mean))
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / 3999)).T
    return mean + z @ factor.T


def check(namespace: Namespace) -> None:
    """One dimension, two with covariances that do not commute (in closed form), a set with itself, a constant feature."""
    frechet = wanted(namespace, "frechet")

    def asked(a: Tensor, b: Tensor) -> float:
        value: Any = tensor(frechet(a, b), "frechet")
        assert value.numel() == 1, tr("a distance is one number, yours has shape {shape}", shape=tuple(value.shape))
        return float(value)

    zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    found = asked(_exactly(0, zero, one), _exactly(1, zero + 3, one))
    assert abs(found - 9) < 0.05, tr(
        "two sets that differ in their mean by 3 alone are 3^2 = 9 apart, by yours {found:.3f}", found=found
    )
    found = asked(_exactly(0, zero, one), _exactly(1, zero, 3 * one))
    assert abs(found - 4) < 0.05, tr(
        "standard deviations 1 and 3 in one dimension are (3 - 1)^2 = 4 apart, by yours {found:.3f}", found=found
    )
    mean = torch.zeros(2, dtype=torch.float64)
    first, second = (
        torch.tensor(m, dtype=torch.float64) for m in ([[2.0, 0.0], [1.5, 0.5]], [[0.5, 0.0], [-1.0, 1.5]])
    )
    a, b = first @ first.T, second @ second.T
    product = a @ b  # the trace of the root of a 2x2 matrix M is sqrt(tr M + 2 sqrt(det M))
    trace = math.sqrt(float(product.trace()) + 2 * math.sqrt(float(product.det())))
    expected = float(a.trace() + b.trace()) - 2 * trace + 2
    found = asked(_exactly(2, mean, first), _exactly(3, mean + 1, second))
    assert abs(found - expected) < 0.01 * expected, tr(
        "two tilted clouds are {expected:.3f} apart, by yours {found:.3f}. Their covariances do not commute: the root is that of "
        "the product as a matrix, neither of its entries nor a product of two roots",
        expected=expected,
        found=found,
    )
    cloud = _exactly(4, mean, first)
    found = asked(cloud, cloud)
    assert abs(found) < 1e-3, tr("a set is 0 apart from itself, by yours {found:.4f}", found=found)
    flat = torch.cat([cloud, torch.ones(4000, 1, dtype=torch.float64)], dim=1)
    found = asked(flat, flat + torch.tensor([0.0, 0.0, 2.0], dtype=torch.float64))
    assert abs(found - 4) < 1e-2, tr(
        "a feature that never changes is allowed; 1 and 3 are 4 apart, by yours {found:.4f}", found=found
    )


def figure(namespace: Namespace) -> Figure:
    """The lesson's sets, each with its distance to the truth by the answer."""
    truth = real(2000, 1)
    sets = {tr("not one blob"): lookalike(400, 0), tr("blurred"): blurred(400, 0),
            tr("copies"): memorised(400, 0, real(100, 2)), tr("real"): real(400, 3)}  # fmt: skip
    runs = {f"{name}: {float(namespace['frechet'](x, truth)):.4f}": x[None] for name, x in sets.items()}
    return figures.scrubber(runs, truth[:600])


PROGRAM = Exercise(
    "measuring.program", "The Fréchet distance", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "Write statistics(x) first: the mean over rows, and centred.T @ centred / (len(x) - 1).",
        "values, vectors = torch.linalg.eigh(m); the root is (vectors * values.clamp(min=0).sqrt()) @ vectors.T.",
        "half = root(cov_a); the last root is root(half @ cov_b @ half), which is symmetric.",
    ),
)  # fmt: skip
