"""The exercises of the lesson on NCSNv2 (Song & Ermon 2020)."""

from __future__ import annotations

import math
from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_largest(namespace: dict[str, Any]) -> None:
    largest = wanted(namespace, "first_sigma")
    for n, D, seed in ((2, 3, 0), (20, 5, 1), (60, 64, 2)):
        x = torch.rand(n, D, generator=torch.Generator().manual_seed(seed))
        expected = max(math.dist(a, b) for a in x.tolist() for b in x.tolist())
        found = float(largest(x))
        assert abs(found - expected) < 1e-4, tr(
            "of {n} images with {d} pixels, compared one by one, the two furthest apart have distance {expected:.4f}; "
            "yours is {found:.4f}",
            n=n,
            d=D,
            expected=expected,
            found=found,
        )


def _overlap(gamma: float, D: int) -> float:
    """Proposition 2, written out with math.erf."""
    shift, reach = math.sqrt(2 * D) * (gamma - 1), 3 * gamma
    return 0.5 * (math.erf((shift + reach) / math.sqrt(2)) - math.erf((shift - reach) / math.sqrt(2)))


def _check_gamma(namespace: dict[str, Any]) -> None:
    gamma = wanted(namespace, "gamma")
    for D in (64, 784, 3072):
        found = float(gamma(_overlap, D))
        assert found > 1, "gamma is above 1: each level is noisier than the next"
        assert abs(_overlap(found, D) - 0.5) < 1e-3, tr(
            "in {d} dimensions, neighbours with ratio {found:.4f} overlap by {shared:.3f}; 0.5 is asked for. "
            "The overlap falls as gamma grows: narrow the interval from 1 upwards by halving it",
            d=D,
            found=found,
            shared=_overlap(found, D),
        )


def _check_average(namespace: dict[str, Any]) -> None:
    average = wanted(namespace, "update")
    for m in (0.9, 0.999):
        ema = 0.0
        for n in range(1, 51):
            ema = float(average(ema, 1.0, m))
            expected = 1 - m**n
            assert abs(ema - expected) < 1e-5, tr(
                "weights that stay at 1, averaged from 0 with m = {m:g}, are 1 - m^n = {expected:.5f} after {n} steps; "
                "yours are {ema:.5f}",
                m=m,
                expected=expected,
                n=n,
                ema=ema,
            )


EXERCISES = (
    Exercise(
        "ncsnv2.1",
        "Technique 1",
        r"""$\sigma_1$ is the largest Euclidean distance between any two training images. Write it for `images`, a tensor
`(n, D)`. The check compares every pair, one by one.""",
        "def first_sigma(images):\n    return images.std()\n",
        "def first_sigma(images):\n    return torch.cdist(images, images).max()\n",
        _check_largest,
    ),
    Exercise(
        "ncsnv2.2",
        "Technique 2",
        r"""Find the ratio $\gamma$ of neighbouring levels at which `overlap(gamma, D)` is 0.5. You are given `overlap`; it is 1 for
$\gamma = 1$ (nearly) and falls.""",
        "def gamma(overlap, D):\n    return 1.5\n",
        """def gamma(overlap, D):
    low, high = 1.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle, D) > 0.5 else (low, middle)
    return low
""",
        _check_gamma,
    ),
    Exercise(
        "ncsnv2.3",
        "A planted bug",
        r"""Technique 5: sample with a moving average of the weights. This average moves almost all the way at every step, and the
colours of samples flicker as if there were none. `m` is 0.999.""",
        "def update(ema, weights, m):\n    return (1 - m) * ema + m * weights\n",
        "def update(ema, weights, m):\n    return m * ema + (1 - m) * weights\n",
        _check_average,
    ),
)
