"""Multistep integration: weights that integrate the polynomial through the predictions of several levels.

Exponential integration in lambda = log(alpha / sigma) for x0 (DPM-Solver++ and UniPC, Lu et al. 2022 and Zhao et al.
2023), plain integration in kappa = sigma / alpha for eps (Adams-Bashforth; DEIS, Zhang & Chen 2022).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

from sfumato.core.denoisers import Prediction
from sfumato.core.sampling import Past
from sfumato.core.schedules import Level


def half_log_snr(level: Level) -> float:
    """lambda = log(alpha / sigma); infinite without signal, or without noise."""
    alpha, sigma = float(level.alpha), float(level.sigma)
    return math.log(alpha / sigma) if alpha > 0 and sigma > 0 else math.copysign(math.inf, alpha - sigma)


def noise_to_signal(level: Level) -> float:
    """kappa = sigma / alpha; infinite without signal."""
    alpha = float(level.alpha)
    return float(level.sigma) / alpha if alpha > 0 else math.inf


def usable(past: Past, n: int) -> list[Prediction]:
    """The newest n predictions, up to one that was made without signal, where lambda and kappa are infinite."""
    found: list[Prediction] = []
    for prediction in past[:n]:
        if float(prediction.level.alpha) <= 0:
            break
        found.append(prediction)
    return found


def exponential_moments(h: float, n: int) -> list[float]:
    """The integrals of exp(-(h - tau)) (tau / h)^k over tau from 0 to h, for k = 0, ..., n - 1."""
    if h < 1:  # a series, where the recursion would cancel
        return [h * sum((-h) ** j / math.prod(range(k + 1, k + j + 2)) for j in range(20)) for k in range(n)]
    moments = [-math.expm1(-h)]
    for k in range(1, n):
        moments.append(1 - k / h * moments[-1])
    return moments


@lru_cache(maxsize=4096)
def exponential_weights(nodes: tuple[float, ...], h: float) -> list[float]:
    """How much x0 at each node counts over a step of h in lambda; computed once for all batches of the same levels."""
    return weights(nodes, exponential_moments(h, len(nodes)))


@lru_cache(maxsize=4096)
def power_weights(nodes: tuple[float, ...]) -> list[float]:
    """How much the value at each node counts in the integral from 0 to 1; computed once for all batches."""
    return weights(nodes, power_moments(len(nodes)))


def power_moments(n: int) -> list[float]:
    """The integrals of u^k over u from 0 to 1, for k = 0, ..., n - 1."""
    return [1 / (k + 1) for k in range(n)]


def weights(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """How much the value at each node counts in the integral of the polynomial through all of them.

    Args:
        nodes: where values are known, in units of the step, from 0 (where it begins) to 1 (where it ends).
        moments: the integrals of the powers of that variable, as many as there are nodes.
    """
    found = []
    for j, node in enumerate(nodes):
        basis = [1.0]  # the coefficients of the Lagrange polynomial of this node, ascending
        for i, other in enumerate(nodes):
            if i != j:
                scale = node - other
                shifted, kept = [0.0, *basis], [*basis, 0.0]
                basis = [(a - other * b) / scale for a, b in zip(shifted, kept, strict=True)]
        found.append(sum(c * m for c, m in zip(basis, moments, strict=True)))
    return found
