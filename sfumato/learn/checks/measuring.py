"""The exercises of the lesson on measuring."""

from __future__ import annotations

import math
from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_frechet(namespace: dict[str, Any]) -> None:
    frechet = wanted(namespace, "frechet")
    for m1, s1, m2, s2 in ((0.0, 1.0, 0.0, 1.0), (1.0, 2.0, -1.0, 0.5), (0.0, 3.0, 0.3, 3.0)):
        n = 20_001
        q = torch.special.ndtri((torch.arange(n, dtype=torch.float64) + 0.5) / n)  # both sorted: the cheapest transport
        expected = float(((m1 + s1 * q) - (m2 + s2 * q)).square().mean())
        found = float(frechet(m1, s1, m2, s2))
        assert abs(found - expected) < 5e-3 * (1 + expected), tr(
            "to carry N({m1:g}, {s1:g}^2) to N({m2:g}, {s2:g}^2) point by point in order costs {expected:.4f} on average; "
            "yours says {found:.4f}",
            m1=m1,
            s1=s1,
            m2=m2,
            s2=s2,
            expected=expected,
            found=found,
        )


def _check_interval(namespace: dict[str, Any]) -> None:
    interval = wanted(namespace, "interval")
    x = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3 + 10
    torch.manual_seed(0)
    low, high = (float(v) for v in interval(x))
    half = 1.96 * float(x.std()) / math.sqrt(len(x))  # what the central limit theorem says
    assert low < float(x.mean()) < high, "the interval must hold the mean of the data"
    assert 0.8 < (high - low) / (2 * half) < 1.25, tr(
        "95 % of the means of resampled data lie within about +- {half:.3f}; yours within +- {high:.3f}. Draw as "
        "many values as there are, with replacement, and take the middle 95 % of the means",
        half=half,
        high=(high - low) / 2,
    )
    few = torch.tensor([0.0, 0.0, 0.0, 12.0], dtype=torch.float64)  # how many of four draws are the 12 is binomial
    chances = [math.comb(4, k) * 3 ** (4 - k) / 4**4 for k in range(5)]
    expected = [3.0 * next(k for k in range(5) if sum(chances[: k + 1]) > p) for p in (0.025, 0.975)]
    found = [float(v) for v in interval(few)]
    assert all(abs(a - b) < 0.1 for a, b in zip(found, expected, strict=True)), tr(
        "four draws from 0, 0, 0, 12 have means of which the middle 95 % lie from {true_lower:g} to {true_upper:g}, counted "
        "over all {ways} ways; yours are {lower:.3g} and {upper:.3g}. Means of resampled data need not lie evenly "
        "about the mean: take them as they are",
        true_lower=expected[0],
        true_upper=expected[1],
        ways=4**4,
        lower=found[0],
        upper=found[1],
    )


def _check_copies(namespace: dict[str, Any]) -> None:
    share = wanted(namespace, "copies")
    g = torch.Generator().manual_seed(1)
    training = torch.randn(200, 8, generator=g)
    new = torch.randn(50, 8, generator=g)
    copied = training[:30] + 1e-3 * torch.randn(30, 8, generator=g)
    found = float(share(torch.cat([new, copied]), training))
    pairs = [[math.dist(a, b) for b in training.tolist()] for a in torch.cat([new, copied]).tolist()]
    expected = sum(sorted(row)[0] < sorted(row)[1] / 3 for row in pairs) / len(pairs)
    assert abs(found - expected) < 1e-6, tr(
        "of 80 samples, {expected:.1%} have a nearest training point less than a third as far as the second nearest, counted "
        "one by one; yours says {found:.1%}",
        expected=expected,
        found=found,
    )


EXERCISES = (
    Exercise(
        "measuring.1",
        "What a Frechet distance is",
        r"""For two Gaussians on a line, the Frechet distance is the squared Wasserstein-2 distance: the mean squared distance from each quantile of one to
the same quantile of the other. Write it from the two means and standard deviations.""",
        "def frechet(m1, s1, m2, s2):\n    return abs(m1 - m2)\n",
        "def frechet(m1, s1, m2, s2):\n    return (m1 - m2) ** 2 + (s1 - s2) ** 2\n",
        _check_frechet,
    ),
    Exercise(
        "measuring.2",
        "An error bar",
        r"""Write a 95 % bootstrap interval `(low, high)` for the mean of `x`: resample with replacement a thousand times, and take
the middle 95 % of the means.""",
        "def interval(x):\n    return x.min(), x.max()\n",
        """def interval(x):
    means = x[torch.randint(len(x), (1000, len(x)))].mean(1)
    return means.quantile(0.025), means.quantile(0.975)
""",
        _check_interval,
        version=2,
    ),
    Exercise(
        "measuring.3",
        "A planted bug",
        r"""A sample is a copy where its nearest training point is less than a third as far as its *second nearest*. This version finds
hardly any copy in any model. Fix it.""",
        """def copies(samples, training):
    near = torch.cdist(samples, training).topk(2, largest=False).values
    return (near[:, 0] < near[:, 0] / 3).float().mean()
""",
        """def copies(samples, training):
    near = torch.cdist(samples, training).topk(2, largest=False).values
    return (near[:, 0] < near[:, 1] / 3).float().mean()
""",
        _check_copies,
    ),
)
