"""The exercises of the lesson on fast solvers and EDM (Lu et al. 2022, Karras et al. 2022)."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_preconditioning(namespace: dict[str, Any]) -> None:
    coefficients = wanted(namespace, "preconditioning")
    for sigma, data in ((0.1, 0.5), (1.0, 0.5), (30.0, 0.7), (0.4, 1.0)):
        found = coefficients(sigma, data)
        assert len(found) == 3, "give back three numbers: c_skip, c_out, c_in"
        skip, out, scale = (float(c) for c in found)
        of_input = scale**2 * (data**2 + sigma**2)
        assert abs(of_input - 1) < 1e-5, tr(
            "with sigma {sigma:g} and data of deviation {data:g}, c_in x must have variance 1; yours has {of_input:.4f}",
            sigma=sigma,
            data=data,
            of_input=of_input,
        )
        target = (1 - skip) ** 2 * data**2 + skip**2 * sigma**2
        assert abs(target / out**2 - 1) < 1e-5, tr(
            "F's target (x0 - c_skip x) / c_out must have variance 1; with sigma {sigma:g} yours has {target:.4f}",
            sigma=sigma,
            target=target / out**2,
        )
        nearby = min((1 - c) ** 2 * data**2 + c**2 * sigma**2 for c in (skip - 1e-3, skip + 1e-3))
        assert target < nearby, tr(
            "with sigma {sigma:g} another c_skip makes c_out smaller, and with it the error that F's errors make",
            sigma=sigma,
        )


def _check_grid(namespace: dict[str, Any]) -> None:
    grid = wanted(namespace, "levels")
    for n, low, high, rho in ((18, 0.002, 80.0, 7.0), (5, 0.1, 10.0, 1.0), (9, 0.01, 3.0, 3.0)):
        found = [float(sigma) for sigma in grid(n, low, high, rho)]
        assert len(found) == n + 1, tr(
            "{n} noisy levels and clean data make {numbers} numbers; yours are {found}",
            n=n,
            numbers=n + 1,
            found=len(found),
        )
        assert found[-1] == 0, "the last one is clean data, 0"
        assert max(abs(found[0] / high - 1), abs(found[-2] / low - 1)) < 1e-4, tr(
            "they run from {high:g} to {low:g} and then to 0; yours run from {found:g} to {ended:g}",
            high=high,
            low=low,
            found=found[0],
            ended=found[-2],
        )
        roots = [sigma ** (1 / rho) for sigma in found[:-1]]
        steps = [a - b for a, b in pairwise(roots)]
        assert max(steps) - min(steps) < 1e-5 * roots[0], tr(
            "the {rho:g}-th roots must fall in even steps; yours fall by {shortest:.4f} to {longest:.4f}",
            rho=rho,
            shortest=min(steps),
            longest=max(steps),
        )


def _check_step(namespace: dict[str, Any]) -> None:
    step = wanted(namespace, "step")
    errors = []
    for n in (40, 80):  # data N(0, 1/4), alpha = 1, on a grid of short and long steps in turn
        sigmas = [math.exp(2 - 4 * (i + (i % 2) / 3) / n) for i in range(n + 1)]
        x, before, h_before = math.sqrt(0.25 + sigmas[0] ** 2), None, 0.0
        for sigma, to in pairwise(sigmas):
            D, h = 0.25 * x / (0.25 + sigma**2), math.log(sigma / to)
            x = to / sigma * x + (1 - math.exp(-h)) * D if before is None else float(
                step(x, D, before, h, h_before, sigma, to)
            )  # fmt: skip
            before, h_before = D, h
        errors.append(abs(x / math.sqrt(0.25 + sigmas[-1] ** 2) - 1))
    ratio = errors[0] / errors[1]
    assert ratio > 3.3, tr(
        "with twice the steps the error should fall to a quarter; on steps of unequal length yours falls from "
        "{coarse:.2g} to {fine:.2g}, a factor of {ratio:.1f}",
        coarse=errors[0],
        fine=errors[1],
        ratio=ratio,
    )


EXERCISES = (
    Exercise(
        "edm.1",
        "Preconditioning",
        r"""Give back $(c_\text{skip}, c_\text{out}, c_\text{in})$ for noise `sigma` and data of standard deviation `data` (eq. 7). The check knows
what they are for: input and target of the network have variance 1, and $c_\text{out}$ is as small as it can be.""",
        "def preconditioning(sigma, data):\n    return 1.0, sigma, 1.0\n",
        "def preconditioning(sigma, data):\n    both = sigma**2 + data**2\n"
        "    return data**2 / both, sigma * data / math.sqrt(both), 1 / math.sqrt(both)\n",
        _check_preconditioning,
        hints=(
            "c_in is one over the standard deviation of x = x0 + sigma eps.",
            "The variance of x0 - c_skip x is (1 - c_skip)^2 data^2 + c_skip^2 sigma^2. Set its derivative to zero.",
        ),
    ),
    Exercise(
        "edm.2",
        "The grid",
        r"""Write the levels of eq. 5: `n` numbers from `high` down to `low`, even in $\sigma^{1/\rho}$, and then 0. `n + 1` in all.""",
        "def levels(n, low, high, rho):\n    return [high + i / (n - 1) * (low - high) for i in range(n)] + [0]\n",
        "def levels(n, low, high, rho):\n    a, b = high ** (1 / rho), low ** (1 / rho)\n"
        "    return [(a + i / (n - 1) * (b - a)) ** rho for i in range(n)] + [0]\n",
        _check_grid,
    ),
    Exercise(
        "edm.3",
        "A planted bug",
        r"""A step of DPM-Solver++(2M) from noise `sigma` to `to` ($\alpha = 1$): `D` is $\hat x_0$ here, `before` that of the last step, `h` and
`h_before` are the lengths of this step and the last in $\lambda$. It ought to be of second order, and is no better than DDIM. Find the mistake.""",
        """def step(x, D, before, h, h_before, sigma, to):
    r = h_before / h
    middle = D + (D - before) / r
    return to / sigma * x + (1 - math.exp(-h)) * middle
""",
        """def step(x, D, before, h, h_before, sigma, to):
    r = h_before / h
    middle = D + (D - before) / (2 * r)
    return to / sigma * x + (1 - math.exp(-h)) * middle
""",
        _check_step,
        hints=("`middle` should be what the data prediction is in the middle of the step, not at its end.",),
    ),
)
