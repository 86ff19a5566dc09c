"""The exercises of the lesson on Improved DDPM (Nichol & Dhariwal 2021)."""

from __future__ import annotations

import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _cosine(t: float) -> float:
    """f(t) of eq. 17, written out."""
    return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2


def _check_cosine(namespace: dict[str, Any]) -> None:
    alpha_bar = wanted(namespace, "alpha_bar")
    for t in (0.0, 0.1, 0.5, 0.9, 1.0):
        expected, found = _cosine(t) / _cosine(0.0), float(alpha_bar(t))
        assert abs(found - expected) < 1e-5, tr(
            "at t/T = {t:g} eq. 17 gives {expected:.6f}, yours is {found:.6f}; at t = 0 all of the signal is left",
            t=t,
            expected=expected,
            found=found,
        )


def _check_respaced(namespace: dict[str, Any]) -> None:
    respaced = wanted(namespace, "respaced")
    table = [1.0]
    for t in range(1, 1001):
        table.append(table[-1] * (1 - (1e-4 + (0.02 - 1e-4) * (t - 1) / 999)))
    for kept in ([10, 200, 999], [1, 2, 3], [500, 1000], [7]):
        betas = [float(beta) for beta in respaced(table, kept)]
        assert len(betas) == len(kept), tr(
            "{kept} levels are kept, so there are as many betas, not {betas}", kept=len(kept), betas=len(betas)
        )
        product = 1.0
        for t, beta in zip(kept, betas, strict=True):
            product *= 1 - beta
            assert abs(product / table[t] - 1) < 1e-3, tr(
                "after the new steps up to level {t} as much signal must be left as in the long chain, {table:.6f}; "
                "with your betas it is {product:.6f}",
                t=t,
                table=table[t],
                product=product,
            )


def _check_range(namespace: dict[str, Any]) -> None:
    variance = wanted(namespace, "variance")
    for beta, tilde in ((0.02, 0.0199), (1e-4, 3e-5), (0.5, 0.1)):
        for v, expected in ((0.0, tilde), (1.0, beta), (0.5, math.sqrt(beta * tilde))):
            found = float(variance(v, beta, tilde))
            assert abs(found / expected - 1) < 1e-4, tr(
                "v = {v:g} between beta tilde = {tilde:g} and beta = {beta:g} should be {expected:.6g} (half way is their "
                "geometric mean: eq. 15 mixes logarithms); yours is {found:.6g}",
                v=v,
                tilde=tilde,
                beta=beta,
                expected=expected,
                found=found,
            )


def _sampled(predicted: Any, start: float, steps: int = 5, error: float = 0.01) -> float:
    """Where DDIM ends on cosine levels, if the data are N(0.3, 0.1^2) and the network's noise is a little off."""
    left = [1.0, *(_cosine((i + 1) / steps) / _cosine(0.0) for i in range(steps - 1)), 2.4e-9]
    x = start
    for a, b in zip(left[:0:-1], left[-2::-1], strict=True):
        best = (0.3 / 0.01 + math.sqrt(a) * x / (1 - a)) / (1 / 0.01 + a / (1 - a))  # the mean of what x may be made of
        eps = (x - math.sqrt(a) * best) / math.sqrt(1 - a) + error
        x0, eps = predicted(x, eps, a)
        x = math.sqrt(b) * x0 + math.sqrt(1 - b) * eps
    return x


def _check_clipped(namespace: dict[str, Any]) -> None:
    predicted = wanted(namespace, "clipped")
    for x, eps, a in ((0.7, 0.9, 0.4), (-1.2, -1.1, 2.4e-9), (0.2, -3.0, 0.9)):
        x0, again = (float(v) for v in predicted(x, eps, a))
        assert -1 <= x0 <= 1, tr("pictures lie between -1 and 1; your prediction of one is {x0:.4g}", x0=x0)
        whole = math.sqrt(a) * x0 + math.sqrt(1 - a) * again
        assert abs(whole - x) < 1e-5, tr(
            "picture and noise must still make up x = {x:g}, but yours make {whole:.4g}: a changed picture needs a changed noise",
            x=x,
            whole=whole,
        )
    x0, eps = predicted(0.7, 0.9, 0.4)
    assert abs(x0 - (0.7 - math.sqrt(0.6) * 0.9) / math.sqrt(0.4)) < 1e-5, (
        "a prediction inside the range stays as it is"
    )
    for start in (-2.0, -0.5, 0.4, 1.8):
        end = _sampled(predicted, start)
        assert abs(end - 0.3) < 0.4, tr(
            "five steps of DDIM from {start:g} end at {end:.4g}; the data are around 0.3", start=start, end=end
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
        r"""A chain of 1,000 levels is to be sampled on a few of them. `alpha_bar[t]` is the signal left at level `t` (and
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
        r"""The network says `v`, a number from 0 to 1, and eq. 15 makes a variance of it, between $\tilde\beta$ and $\beta$. In
the first step and in long steps the two lie far apart, and this version loses the small one in the large one. Fix it.""",
        "def variance(v, beta, beta_tilde):\n    return v * beta + (1 - v) * beta_tilde\n",
        "def variance(v, beta, beta_tilde):\n    return math.exp(v * math.log(beta) + (1 - v) * math.log(beta_tilde))\n",
        _check_range,
    ),
    Exercise(
        "iddpm.4",
        "A planted explosion",
        r"""At the last cosine level $\bar\alpha$ is a few billionths. There a noise that is off by a hundredth makes a picture
that is off by hundreds, and five steps of DDIM never recover. Return the prediction to use instead, `(x0, eps)`: the picture clipped to
[-1, 1], where pictures are, and the noise that then belongs to it, so that both still make up `x`.""",
        "def clipped(x, eps, a):\n    x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)\n    return x0, eps\n",
        """def clipped(x, eps, a):
    x0 = (x - math.sqrt(1 - a) * eps) / math.sqrt(a)
    x0 = min(max(x0, -1.0), 1.0)
    return x0, (x - math.sqrt(a) * x0) / math.sqrt(1 - a)
""",
        _check_clipped,
        version=2,
    ),
)
