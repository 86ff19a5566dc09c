"""The exercises of the lesson on Score-SDE (Song et al. 2021)."""

from __future__ import annotations

import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_variance(namespace: dict[str, Any]) -> None:
    variance = wanted(namespace, "variance")
    low, high = 0.1, 20.0
    for t in (0.05, 0.3, 1.0):
        v, n = 0.0, 20_000
        for i in range(n):  # dv/dt = beta (1 - v), in small steps: what the SDE does to the noise
            beta = low + (high - low) * (i + 0.5) * t / n
            v += beta * (1 - v) * t / n
        found = float(variance(t, low, high))
        assert abs(found - v) < 2e-3, tr(
            "at t = {t:g}, following dv/dt = beta(t) (1 - v) in small steps gives {v:.4f}; yours gives {found:.4f}",
            t=t,
            v=v,
            found=found,
        )


def _check_score(namespace: dict[str, Any]) -> None:
    score = wanted(namespace, "score")
    for sigma in (0.2, 0.9):
        alpha = math.sqrt(1 - sigma**2)
        for x in (-1.0, 0.4):
            s2 = 0.5**2  # data N(0, 0.5^2): then everything is known
            variance = alpha**2 * s2 + sigma**2
            eps = sigma * x / variance  # E[eps | x]
            found, expected = float(score(eps, sigma)), -x / variance
            assert abs(found - expected) < 1e-5, tr(
                "for Gaussian data the best prediction of the noise at x = {x:g} is {eps:.4f}, and the gradient of the log "
                "density is {expected:.4f}; yours is {found:.4f}",
                x=x,
                eps=eps,
                expected=expected,
                found=found,
            )


def _check_field(namespace: dict[str, Any]) -> None:
    velocity = wanted(namespace, "velocity")
    for beta, std in ((2.0, 1.0), (5.0, 0.3), (0.5, 2.0)):
        f, g2 = -beta / 2, beta
        x, h = 1.3, 1e-4
        score = -x / std**2
        # Gaussian data: the ODE must carry the standard deviation as the SDE does, d(std^2)/dt = 2 f std^2 + g2
        grown = math.sqrt(std**2 + h * (2 * f * std**2 + g2))
        expected = (x * grown / std - x) / h
        found = float(velocity(x, score, f, g2))
        assert abs(found - expected) < 1e-2 * (1 + abs(expected)), tr(
            "with f = {f:g}, g^2 = {g2:g} and data of standard deviation {std:g}, points must move at {expected:.3f} so "
            "that their standard deviation grows as under the SDE; yours move at {found:.3f}",
            f=f,
            g2=g2,
            std=std,
            expected=expected,
            found=found,
        )


EXERCISES = (
    Exercise(
        "score_sde.1",
        "How much noise at time t",
        r"""The VP SDE, $dx = -\tfrac12\beta(t)x\,dt + \sqrt{\beta(t)}\,dw$ with $\beta(t)$ rising in a line from `low` to `high`. Write the
variance of the noise in $x_t$, $1 - e^{-\int_0^t \beta}$. The check follows the equation in small steps.""",
        "def variance(t, low, high):\n    return t\n",
        "def variance(t, low, high):\n    return 1 - math.exp(-(low * t + 0.5 * t**2 * (high - low)))\n",
        _check_variance,
    ),
    Exercise(
        "score_sde.2",
        "Any DDPM is a score model",
        r"""A DDPM predicts the noise `eps` at a level whose noise has the standard deviation `sigma`. Write the score that this
implies.""",
        "def score(eps, sigma):\n    return -eps\n",
        "def score(eps, sigma):\n    return -eps / sigma\n",
        _check_score,
    ),
    Exercise(
        "score_sde.3",
        "A planted bug",
        r"""The velocity of the probability flow, eq. 13, for drift `f` $x$ and diffusion `g2` $= g^2$. With this version, clouds shrink to
points. (It is half of another equation of the paper.) Fix it.""",
        "def velocity(x, score, f, g2):\n    return f * x - g2 * score\n",
        "def velocity(x, score, f, g2):\n    return f * x - 0.5 * g2 * score\n",
        _check_field,
    ),
)
