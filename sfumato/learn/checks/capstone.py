"""The exercises of the last lesson: a sampler of one's own, and what it must satisfy."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr

SPREAD = 0.5
"""Data are N(0, SPREAD^2): the best denoiser and the probability flow are known."""


def _denoise(x: float, sigma: float) -> float:
    """E[x_0 | x] of those data under noise sigma that is added."""
    return SPREAD**2 / (SPREAD**2 + sigma**2) * x


def _exact(x: float, sigma: float, to: float) -> float:
    """Where the probability flow carries x: the standard deviation of noisy data falls, and x with it."""
    return x * math.sqrt((SPREAD**2 + to**2) / (SPREAD**2 + sigma**2))


def _error(step: Callable[..., Any], n: int) -> float:
    """Of n steps from noise 2 to noise 0.2, evenly in the logarithm."""
    sigmas = [2.0 * (0.1 ** (i / n)) for i in range(n + 1)]
    x = 1.0
    for sigma, to in pairwise(sigmas):
        x = float(step(x, _denoise, sigma, to))
    return abs(x - _exact(1.0, 2.0, 0.2))


def _order(step: Callable[..., Any]) -> float:
    return math.log2(_error(step, 16) / max(_error(step, 32), 1e-15))


def _check_euler(namespace: dict[str, Any]) -> None:
    step = wanted(namespace, "euler")
    assert abs(float(step(0.7, _denoise, 1.0, 1.0)) - 0.7) < 1e-6, "a step that goes nowhere must leave x where it is"
    assert abs(float(step(0.7, lambda x, sigma: 0.3, 1.0, 0.0)) - 0.3) < 1e-6, (
        "with the picture known, one step to no noise at all must land on it"
    )
    order = _order(step)
    assert 0.8 < order < 1.3, tr(
        "twice the steps should halve the error (order 1); yours has order {order:.2f}", order=order
    )


def _check_ninth(namespace: dict[str, Any]) -> None:
    step = wanted(namespace, "ninth")
    assert abs(float(step(0.7, _denoise, 1.0, 1.0)) - 0.7) < 1e-6, "a step that goes nowhere must leave x where it is"
    calls: list[float] = []

    def counted(x: float, sigma: float) -> float:
        calls.append(sigma)
        return _denoise(x, sigma)

    step(0.7, counted, 1.0, 0.5)
    assert len(calls) <= 2, tr("two questions to the network a step at most; yours asks {calls}", calls=len(calls))
    order = _order(step)
    assert order > 1.7, tr(
        "twice the steps should quarter the error (order 2); yours has order {order:.2f}. Ask a second time, at the end or in "
        "the middle of the step, and use both slopes or the middle one",
        order=order,
    )


EXERCISES = (
    Exercise(
        "capstone.1",
        "The simplest sampler",
        r"""Noise is added: $x = x_0 + \sigma\epsilon$. Keep the noise that you see, $\epsilon = (x - \hat x_0)/\sigma$, and put less of it back: from
`sigma` to a lower `to`. `denoise(x, sigma)` is $\hat x_0$. (This is DDIM, and Euler's method for the flow.)""",
        "def euler(x, denoise, sigma, to):\n    return denoise(x, sigma)\n",
        "def euler(x, denoise, sigma, to):\n    x0 = denoise(x, sigma)\n    return x0 + to * (x - x0) / sigma\n",
        _check_euler,
    ),
    Exercise(
        "capstone.2",
        "A ninth sampler",
        r"""Now a better one of your own. The derivative of the flow at noise $\sigma$ is $dx/d\sigma = (x - \hat x_0)/\sigma$. Ask the network at most
twice a step, and be of order 2: the check halves your steps and looks by how much the error falls. Many answers are right.""",
        "def ninth(x, denoise, sigma, to):\n    slope = (x - denoise(x, sigma)) / sigma\n    return x + (to - sigma) * slope\n",
        """def ninth(x, denoise, sigma, to):
    slope = (x - denoise(x, sigma)) / sigma
    end = x + (to - sigma) * slope
    if to == 0:
        return end
    return x + (to - sigma) * (slope + (end - denoise(end, to)) / to) / 2
""",
        _check_ninth,
    ),
)
