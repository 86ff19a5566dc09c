"""The exercises of the lesson on Improved DDPM (Nichol & Dhariwal 2021)."""

from __future__ import annotations

import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted


def _cosine(t: float) -> float:
    """f(t) of eq. 17, written out."""
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _check_cosine(namespace: dict[str, Any]) -> None:
    alpha_bar = wanted(namespace, "alpha_bar")
    for t in (0.0, 0.1, 0.5, 0.9, 1.0):
        expected, found = _cosine(t) / _cosine(0.0), float(alpha_bar(t))
        assert abs(found - expected) < 1e-9, (
            f"at t/T = {t:g} eq. 17 gives {expected:.6f}, yours is {found:.6f}; at t = 0 all of the signal is left"
        )


def _check_respaced(namespace: dict[str, Any]) -> None:
    respaced = wanted(namespace, "respaced")
    table = [1.0]
    for t in range(1, 1001):
        table.append(table[-1] * (1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)))
    for kept in ([10, 200, 999], [1, 2, 3], [500, 1000], [7]):
        betas = [float(beta) for beta in respaced(table, kept)]
        assert len(betas) == len(kept), f"{len(kept)} levels are kept, so there are as many betas, not {len(betas)}"
        product = 1.0
        for t, beta in zip(kept, betas, strict=True):
            product *= 1 - beta
            assert abs(product - table[t]) < 1e-9, (
                f"after the new steps up to level {t} as much signal must be left as in the long chain, {table[t]:.6f}; "
                f"with your betas it is {product:.6f}"
            )


def _check_range(namespace: dict[str, Any]) -> None:
    variance = wanted(namespace, "variance")
    for beta, tilde in ((0.02, 0.0199), (1e-4, 3e-5), (0.5, 0.1)):
        for v, expected in ((0.0, tilde), (1.0, beta), (0.5, math.sqrt(beta * tilde))):
            found = float(variance(v, beta, tilde))
            assert abs(found / expected - 1) < 1e-9, (
                f"v = {v:g} between beta tilde = {tilde:g} and beta = {beta:g} should be {expected:.6g} (half way is their "
                f"geometric mean: eq. 15 mixes logarithms); yours is {found:.6g}"
            )


EXERCISES = (
    Exercise(
        "iddpm.1",
        "The cosine schedule",
        r"""Write $\bar\alpha(t) = f(t)/f(0)$ of eq. 17 for `t` $= t/T$ from 0 to 1, with
$f(t) = \cos^2\left(\frac{t + s}{1 + s}\cdot\frac{\pi}{2}\right)$ and $s = 0.008$.""",
        "def alpha_bar(t):\n    return math.cos(t * math.pi / 2) ** 2\n",
        """def alpha_bar(t):
    def f(t):
        return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
    return f(t) / f(0)
""",
        _check_cosine,
    ),
    Exercise(
        "iddpm.2",
        "Fewer levels, the same noise",
        r"""A chain of 1,000 levels is to be walked on a few of them. `alpha_bar[t]` is the signal left at level `t` (and
`alpha_bar[0] = 1`); `kept` are the levels to keep, ascending. Return their new betas, eq. 19: after the new steps exactly
as much signal must be left as in the long chain.""",
        "def respaced(alpha_bar, kept):\n    return [1 - alpha_bar[t] / alpha_bar[t - 1] for t in kept]\n",
        """def respaced(alpha_bar, kept):
    return [1 - alpha_bar[t] / alpha_bar[s] for s, t in zip([0, *kept], kept)]
""",
        _check_respaced,
    ),
    Exercise(
        "iddpm.3",
        "A planted bug",
        r"""The network says `v`, a number from 0 to 1, and eq. 15 makes a variance of it, between $\tilde\beta$ and $\beta$. Near
clean data the two differ a hundredfold, and this version drowns the small one. Mend it.""",
        "def variance(v, beta, beta_tilde):\n    return v * beta + (1 - v) * beta_tilde\n",
        "def variance(v, beta, beta_tilde):\n    return math.exp(v * math.log(beta) + (1 - v) * math.log(beta_tilde))\n",
        _check_range,
    ),
)
