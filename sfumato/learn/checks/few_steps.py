"""The exercises of the lesson on few steps (Salimans & Ho 2022, Song et al. 2023, Geng et al. 2025)."""

from __future__ import annotations

import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_target(namespace: dict[str, Any]) -> None:
    target = wanted(namespace, "target")
    for (a_t, b_t), (a_s, b_s) in (((0.3, 0.95), (0.6, 0.8)), ((0.0, 1.0), (0.5, 0.9)), ((0.8, 0.6), (1.0, 0.0))):
        x, x_s = 0.7, -0.4
        found = float(target(x, x_s, a_t, b_t, a_s, b_s))
        ends = a_s * found + b_s * (x - a_t * found) / b_t
        assert abs(ends - x_s) < 1e-6, tr(
            "with your target the student's step of DDIM from ({a_t:g}, {b_t:g}) to ({a_s:g}, {b_s:g}) ends in {ends:.4f}; "
            "the teacher's two steps ended in {x_s:g}",
            a_t=a_t,
            b_t=b_t,
            a_s=a_s,
            b_s=b_s,
            ends=ends,
            x_s=x_s,
        )


def _check_consistency(namespace: dict[str, Any]) -> None:
    consistency = wanted(namespace, "consistency")
    for x, sigma, m, v in ((3.0, 2.0, 0.5, 0.25), (-1.0, 0.5, 0.0, 1.0), (0.3, 0.0, 1.0, 0.5)):
        n, at = 4000, x
        for i in range(n):  # the flow, in small steps down
            level = sigma * (1 - (i + 0.5) / n)
            D = m + v / (v + level**2) * (at - m)
            at -= sigma / n * (at - D) / level if level > 0 else 0.0
        found = float(consistency(x, sigma, m, v))
        assert abs(found - at) < 2e-3, tr(
            "from x = {x:g} at noise {sigma:g}, data N({m:g}, {v:g}), the flow followed in small steps ends in {at:.3f}; "
            "yours says {found:.3f}",
            x=x,
            sigma=sigma,
            m=m,
            v=v,
            at=at,
            found=found,
        )


def _check_mean_flow(namespace: dict[str, Any]) -> None:
    target = wanted(namespace, "target")
    v0 = 0.3  # data N(0, 0.3): paths grow like s(t)

    def s(t: float) -> float:
        return math.sqrt((1 - t) ** 2 * v0 + t**2)

    def average(t: float, r: float) -> float:  # along the path through 1 at t = 1
        return (s(t) - s(r)) / s(1.0) / (t - r)

    for t, r in ((1.0, 0.0), (0.8, 0.3), (0.5, 0.45)):
        h = 1e-5
        v = (s(t + h) - s(t - h)) / (2 * h) / s(1.0)
        slope = (average(t + h, r) - average(t - h, r)) / (2 * h)
        found = float(target(v, slope, t, r))
        assert abs(found - average(t, r)) < 1e-4, tr(
            "for Gaussian data the average velocity from r = {r:g} to t = {t:g} is {expected:.4f}, and must be its own "
            "target; yours is {found:.4f}",
            r=r,
            t=t,
            expected=average(t, r),
            found=found,
        )


EXERCISES = (
    Exercise(
        "few_steps.1",
        "The target of a student",
        r"""The teacher's two steps led from `x` at $(\alpha_t, \sigma_t)$ = `(a_t, b_t)` to `x_s` at `(a_s, b_s)`. Write the $\tilde x$ with which *one* step of
DDIM, $\alpha_s\tilde x + \frac{\sigma_s}{\sigma_t}(x - \alpha_t\tilde x)$, ends in `x_s`.""",
        "def target(x, x_s, a_t, b_t, a_s, b_s):\n    return x_s / a_s\n",
        "def target(x, x_s, a_t, b_t, a_s, b_s):\n    q = b_s / b_t\n    return (x_s - q * x) / (a_s - q * a_t)\n",
        _check_target,
        hints=("The step is linear in the target: collect its factors on one side.",),
    ),
    Exercise(
        "few_steps.2",
        "A consistency function",
        r"""For data $N(m, v)$ and $x = x_0 + \sigma\epsilon$ write where the flow through `x` ends. The check follows the flow. (What stands there is the
denoiser: it says the mean of all that may have been there.)""",
        "def consistency(x, sigma, m, v):\n    return m + v / (v + sigma**2) * (x - m)\n",
        "def consistency(x, sigma, m, v):\n    return m + math.sqrt(v / (v + sigma**2)) * (x - m)\n",
        _check_consistency,
        hints=("The flow keeps quantiles: (x - m) over the standard deviation at its level stays what it is.",),
    ),
    Exercise(
        "few_steps.3",
        "A planted bug: MeanFlow",
        r"""The target of a mean flow, from the velocity `v`, the total derivative `slope` $= du/dt$ and the times. Trained so, one step goes too far.
Mend it.""",
        "def target(v, slope, t, r):\n    return v + (t - r) * slope\n",
        "def target(v, slope, t, r):\n    return v - (t - r) * slope\n",
        _check_mean_flow,
        hints=("Differentiate (t - r) u = the integral of v from r to t by t, along the path.",),
    ),
)
