"""The exercises of the lesson on ADM (Dhariwal & Nichol 2021)."""

from __future__ import annotations

import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _log_normal(x: float, mean: float, std: float) -> float:
    return -0.5 * ((x - mean) / std) ** 2 - math.log(std)


def _check_gradient(namespace: dict[str, Any]) -> None:
    gradient = wanted(namespace, "gradient")
    for m, std in ((1.0, 1.0), (2.0, 0.7)):
        for x in (-1.5, 0.0, 0.8):

            def log_p(x: float, m: float = m, std: float = std) -> float:  # of the class at +m, the other is at -m
                own, other = _log_normal(x, m, std), _log_normal(x, -m, std)
                return own - math.log(math.exp(own) + math.exp(other))

            expected, found = (log_p(x + 1e-5) - log_p(x - 1e-5)) / 2e-5, float(gradient(x, m, std))
            assert abs(found - expected) < 1e-4 * (1 + abs(expected)), tr(
                "two classes N(+-{m:g}, {std:g}^2), alike: at x = {x:g} the derivative of log p(+ | x), by differences, is "
                "{expected:.4f}; yours is {found:.4f}",
                m=m,
                std=std,
                x=x,
                expected=expected,
                found=found,
            )


def _check_guided(namespace: dict[str, Any]) -> None:
    guided = wanted(namespace, "guided_eps")
    for sigma in (0.3, 0.9):
        for x in (-0.7, 1.1):
            # classes N(+-1, 0.5^2), noisy: scores are known, and scale 1 must give the class's own score
            alpha = math.sqrt(1 - sigma**2)
            variance = (0.5 * alpha) ** 2 + sigma**2
            own, other = (
                -(((x - alpha) / math.sqrt(variance)) ** 2) / 2,
                -(((x + alpha) / math.sqrt(variance)) ** 2) / 2,
            )
            share = math.exp(own) / (math.exp(own) + math.exp(other))
            of_class = -(x - alpha) / variance
            score = share * of_class + (1 - share) * -(x + alpha) / variance
            found = float(guided(-sigma * score, of_class - score, sigma, 1.0))
            assert abs(found - -sigma * of_class) < 1e-5, tr(
                "at x = {x:g}, sigma = {sigma:g}, guided with scale 1 by a perfect classifier, the noise must be that of the "
                "class alone, {expected:.4f}; yours is {found:.4f}",
                x=x,
                sigma=sigma,
                expected=-sigma * of_class,
                found=found,
            )
            assert abs(float(guided(0.0, 1.0, sigma, 3.0)) + 3 * sigma) < 1e-5, (
                "three times the scale, three times the shift"
            )


def _check_free(namespace: dict[str, Any]) -> None:
    free = wanted(namespace, "classifier_free")
    with_label, without = 0.8, 0.3
    for scale, expected in ((1.0, 0.8), (0.0, 0.3), (2.0, 1.3)):
        found = float(free(with_label, without, scale))
        assert abs(found - expected) < 1e-5, tr(
            "scale {scale:g} between eps without the label, {without}, and with it, {with_label}, should be {expected:g}: 0 "
            "ignores the label, 1 is the conditional model, 2 goes as far again; yours is {found:g}",
            scale=scale,
            without=without,
            with_label=with_label,
            expected=expected,
            found=found,
        )


EXERCISES = (
    Exercise(
        "adm.1",
        "What a classifier knows of a point",
        r"""Two classes lie at $N(+m, s^2)$ and $N(-m, s^2)$, alike. Write the derivative of $\log p(+ \mid x)$ in $x$. (The log odds
are a straight line.)""",
        "def gradient(x, m, s):\n    return 2 * m / s**2\n",
        "def gradient(x, m, s):\n    odds = 2 * m * x / s**2\n    return 2 * m / s**2 / (1 + math.exp(odds))\n",
        _check_gradient,
    ),
    Exercise(
        "adm.2",
        "The guided noise",
        r"""Algorithm 2: the score moves by `scale` times the classifier's gradient. Write what that makes of the predicted noise `eps` at a
level whose noise is `sigma`.""",
        "def guided_eps(eps, gradient, sigma, scale):\n    return eps + scale * gradient\n",
        "def guided_eps(eps, gradient, sigma, scale):\n    return eps - scale * sigma * gradient\n",
        _check_guided,
    ),
    Exercise(
        "adm.3",
        "A planted bug",
        r"""Classifier-free guidance mixes two predictions of one network, with and without the label. This one turns away from the label as
the scale grows; with scale 1 nobody notices. Fix it.""",
        "def classifier_free(with_label, without, scale):\n    return with_label + (scale - 1) * (without - with_label)\n",
        "def classifier_free(with_label, without, scale):\n    return without + scale * (with_label - without)\n",
        _check_free,
    ),
)
