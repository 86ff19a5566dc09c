"""The exercises of the lesson on noise, denoisers and scores (Robbins 1956; Vincent 2011)."""

from __future__ import annotations

import itertools
import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_total(namespace: dict[str, Any]) -> None:
    total = wanted(namespace, "total")
    for sigmas in ([3.0, 4.0], [0.1, 0.1, 0.1], [0.7]):
        # coins that land on +sigma or -sigma have the same standard deviations, and few enough outcomes to list
        ends = [sum(ways) for ways in itertools.product(*((-s, s) for s in sigmas))]
        expected, found = math.sqrt(sum(end**2 for end in ends) / len(ends)), float(total(sigmas))
        assert abs(found - expected) < 1e-5, tr(
            "independent noises of {sigmas} have the standard deviation {expected:.4f}, counted over all outcomes of as many coins; "
            "yours is {found:.4f}",
            sigmas=sigmas,
            expected=expected,
            found=found,
        )


def _check_guess(namespace: dict[str, Any]) -> None:
    guess = wanted(namespace, "guess")
    for x, sigma in itertools.product((-1.3, 0.0, 0.2, 2.0), (0.6, 1.0, 3.0)):
        likely = {x0: math.exp(-((x - x0) ** 2) / (2 * sigma**2)) for x0 in (-1, 1)}
        expected = sum(x0 * p for x0, p in likely.items()) / sum(likely.values())
        found = float(guess(x, sigma))
        assert abs(found - expected) < 1e-5, tr(
            "at x = {x:g} with sigma = {sigma:g}, Bayes' rule over both values of x_0 gives a mean of {expected:.4f}; "
            "yours is {found:.4f}",
            x=x,
            sigma=sigma,
            expected=expected,
            found=found,
        )


def _check_score(namespace: dict[str, Any]) -> None:
    score = wanted(namespace, "score")
    for alpha, mean, std, x in itertools.product((1.0, 0.6), (0.0, 2.0), (0.5, 1.0), (-1.0, 0.3)):
        sigma = 0.8
        variance = (alpha * std) ** 2 + sigma**2  # of x, for one Gaussian: everything is known
        best = mean + alpha * std**2 * (x - alpha * mean) / variance
        expected, found = -(x - alpha * mean) / variance, float(score(x, best, alpha, sigma))
        assert abs(found - expected) < 1e-5, tr(
            "for Gaussian data with alpha = {alpha:g}, sigma = 0.8 and a best guess of {best:.4f} at x = {x:g}, the "
            "gradient of the log density is {expected:.4f}; yours is {found:.4f}",
            alpha=alpha,
            best=best,
            x=x,
            expected=expected,
            found=found,
        )


EXERCISES = (
    Exercise(
        "noise.1",
        "A planted bug",
        r"""Noise is added several times, each time independently, with the standard deviations in `sigmas`. How large is it in
all? This answer is wrong, and a schedule built on it would be far too noisy.""",
        "def total(sigmas):\n    return sum(sigmas)\n",
        "def total(sigmas):\n    return math.sqrt(sum(sigma**2 for sigma in sigmas))\n",
        _check_total,
    ),
    Exercise(
        "noise.2",
        "The best guess",
        r"""The data are $-1$ or $+1$, equally often, and $x = x_0 + \sigma\epsilon$. Which guess of $x_0$ has the smallest mean
squared error? Not the nearer of the two: the mean $E[x_0 \mid x]$.""",
        "def guess(x, sigma):\n    return 1.0 if x > 0 else -1.0\n",
        "def guess(x, sigma):\n    return math.tanh(x / sigma**2)\n",
        _check_guess,
    ),
    Exercise(
        "noise.3",
        "From a guess to a direction",
        r"""With $x = \alpha x_0 + \sigma\epsilon$, a denoiser's guess `x0` of the clean data gives the score: the gradient
of $\log p(x)$. Write it (Tweedie's formula), and mind the $\alpha$.""",
        "def score(x, x0, alpha, sigma):\n    return (x0 - x) / sigma**2\n",
        "def score(x, x0, alpha, sigma):\n    return (alpha * x0 - x) / sigma**2\n",
        _check_score,
    ),
)
