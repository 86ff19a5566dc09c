"""The exercises of the lesson on DDPM (Ho et al. 2020)."""

from __future__ import annotations

import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr

BETAS = [1e-4 + (0.02 - 1e-4) * i / 999 for i in range(1000)]
"""Ho et al.'s schedule; BETAS[0] is beta_1."""


def _left(t: int) -> float:
    """alpha-bar after level t, multiplied out."""
    return math.prod(1 - beta for beta in BETAS[:t])


def _check_x0(namespace: dict[str, Any]) -> None:
    predicted = wanted(namespace, "predicted_x0")
    for t in (1, 100, 900):
        for x0, eps in ((0.3, -1.2), (-0.9, 0.4)):
            a = _left(t)
            x = math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
            found = float(predicted(x, eps, a))
            assert abs(found - x0) < 1e-4, tr(
                "at level {t} the picture {x0:g} and the noise {eps:g} make x = {x:.4f}; from the true noise you must find "
                "the picture again, and found {found:.4f}",
                t=t,
                x0=x0,
                eps=eps,
                x=x,
                found=found,
            )


def _check_posterior(namespace: dict[str, Any]) -> None:
    posterior = wanted(namespace, "posterior")
    for t in (2, 50, 1000):
        beta, before = BETAS[t - 1], _left(t - 1)
        for x, x0 in ((0.7, -0.2), (-1.5, 0.9)):
            # two Gaussians in x_{t-1}: N(sqrt(before) x0, 1 - before), and x = sqrt(1 - beta) x_{t-1} + noise
            precision = 1 / (1 - before) + (1 - beta) / beta
            mean = (math.sqrt(before) * x0 / (1 - before) + math.sqrt(1 - beta) * x / beta) / precision
            found = [float(v) for v in posterior(x, x0, beta, before)]
            for name, got, expected in ((tr("mean"), found[0], mean), (tr("variance"), found[1], 1 / precision)):
                assert abs(got - expected) < 1e-6 + 1e-5 * abs(expected), tr(
                    "at level {t}, multiplying the two Gaussians that know x_{before} gives the {name} {expected:.6f}; yours "
                    "is {got:.6f}",
                    t=t,
                    before=t - 1,
                    name=name,
                    expected=expected,
                    got=got,
                )


def _check_table(namespace: dict[str, Any]) -> None:
    noisy = wanted(namespace, "noisy")
    table = [_left(t) for t in range(1, 1001)]
    for t in (1, 2, 500, 1000):
        found = float(noisy(1.0, 0.0, t, table))
        expected = math.sqrt(_left(t))
        assert abs(found - expected) < 2e-6, tr(
            "at level {t} the signal that is left is {expected:.6f}, multiplied out; yours is "
            "{found:.6f}. The table has 1000 entries, and its first belongs to level 1",
            t=t,
            expected=expected,
            found=found,
        )


EXERCISES = (
    Exercise(
        "ddpm.1",
        "From the noise to the picture",
        r"""The network says which noise `eps` is in `x`. Write the picture that this implies, given `a` $=\bar\alpha_t$
(eq. 15).""",
        "def predicted_x0(x, eps, a):\n    return x - eps\n",
        "def predicted_x0(x, eps, a):\n    return (x - math.sqrt(1 - a) * eps) / math.sqrt(a)\n",
        _check_x0,
    ),
    Exercise(
        "ddpm.2",
        "The step back that everyone wants to know",
        r"""Write mean and variance of $q(x_{t-1} \mid x_t, x_0)$, eq. 7, given `beta` $=\beta_t$ and `before` $=\bar\alpha_{t-1}$. The
check multiplies the two Gaussians that know something of $x_{t-1}$.""",
        "def posterior(x, x0, beta, before):\n    return (x + x0) / 2, beta\n",
        """def posterior(x, x0, beta, before):
    left = (1 - beta) * before
    mean = math.sqrt(before) * beta / (1 - left) * x0 + math.sqrt(1 - beta) * (1 - before) / (1 - left) * x
    return mean, (1 - before) / (1 - left) * beta
""",
        _check_posterior,
    ),
    Exercise(
        "ddpm.3",
        "A planted bug",
        r"""Levels are counted from 1, with clean data at 0; tables in many repositories are counted from 0. This is the mistake that
results; nothing crashes, and samples stay slightly noisy. Fix it.""",
        """def noisy(x0, eps, t, table):
    a = table[min(t, len(table) - 1)]
    return math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
""",
        """def noisy(x0, eps, t, table):
    a = table[t - 1]
    return math.sqrt(a) * x0 + math.sqrt(1 - a) * eps
""",
        _check_table,
    ),
)
