"""The exercises of the lesson on flow matching (Lipman et al. 2023, Liu et al. 2023, Esser et al. 2024)."""

from __future__ import annotations

import math
from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_readings(namespace: dict[str, Any]) -> None:
    readings = wanted(namespace, "readings")
    x0, eps = torch.tensor([0.4, -1.1], dtype=torch.float64), torch.tensor([0.8, 0.3], dtype=torch.float64)
    for t in (0.0, 0.3, 1.0):
        found = readings((1 - t) * x0 + t * eps, eps - x0, t)
        assert len(found) == 2, "give back two things: the data and the noise"
        for name, value, truth in ((tr("data"), found[0], x0), (tr("noise"), found[1], eps)):
            assert bool(torch.isfinite(value).all()), tr(
                "at t = {t:g} your {name} is not finite: divide by nothing", t=t, name=name
            )
            assert torch.allclose(value, truth, atol=1e-6), tr(
                "with the true velocity at t = {t:g} the {name} must come back; yours is off by {off:.3g}",
                t=t,
                name=name,
                off=float((value - truth).abs().max()),
            )


def _check_sample(namespace: dict[str, Any]) -> None:
    sample = wanted(namespace, "sample")
    asked: list[float] = []

    def velocity(x: Any, t: Any) -> Any:  # one point of data at 0.7: every path is straight
        asked.append(float(t))
        return (x - 0.7) / t

    for n in (1, 5):
        asked.clear()
        found = float(sample(velocity, -1.3, n))
        assert len(asked) == n, tr(
            "{n} steps ask for the velocity {n} times; yours did {asked} times", n=n, asked=len(asked)
        )
        assert abs(asked[0] - 1) < 1e-9, tr("sampling begins at noise, t = 1; yours at t = {asked:g}", asked=asked[0])
        assert abs(found - 0.7) < 1e-6, tr(
            "if all data are the point 0.7, paths are straight and {n} steps of Euler end in it; yours in {found:.3f}",
            n=n,
            found=found,
        )
    ends = [float(sample(lambda x, t: x * (t - (1 - t) / 4) / ((1 - t) ** 2 / 4 + t**2), 1.0, n)) for n in (100, 200)]
    assert abs(ends[1] - 0.5) < 0.02, tr(
        "for data N(0, 1/4) the noise 1 goes to 0.5; yours to {found:.3f}", found=ends[1]
    )
    ratio = (ends[0] - 0.5) / (ends[1] - 0.5)
    assert 1.5 < ratio < 2.6, "with twice the steps the error of Euler's method should halve"


def _check_shift(namespace: dict[str, Any]) -> None:
    shifted = wanted(namespace, "shifted")
    for c in (1.0, 3.0, 0.5):
        for t in (0.0, 0.2, 0.7):
            found = float(shifted(t, c))
            ratio, expected = found / (1 - found), c * t / (1 - t)
            assert math.isclose(ratio, expected, rel_tol=1e-6, abs_tol=1e-9), tr(
                "at t = {t:g} the noise over the signal must be {c:g} times what it was, {expected:.4f}; yours is {ratio:.4f}",
                t=t,
                c=c,
                expected=expected,
                ratio=ratio,
            )
        assert abs(float(shifted(1.0, c)) - 1) < 1e-9, "t = 1 is noise alone, and stays so"


EXERCISES = (
    Exercise(
        "flow.1",
        "Data and noise from the velocity",
        r"""On the path $x = (1-t)\,x_0 + t\,\epsilon$ the network returns `u` $=\epsilon - x_0$. Give back $(\hat x_0, \hat\epsilon)$, finite at both ends.""",
        "def readings(x, u, t):\n    return x - u, x + u\n",
        "def readings(x, u, t):\n    return x - t * u, x + (1 - t) * u\n",
        _check_readings,
        hints=("Solve the two equations x = (1 - t) x0 + t eps and u = eps - x0; put eps = u + x0 into the first.",),
    ),
    Exercise(
        "flow.2",
        "A planted bug: sampling",
        r"""Euler's method for a flow, from noise at $t = 1$ to data at $t = 0$ in `n` steps; `velocity(x, t)` is $u$. This version was written by somebody
whose flow runs the other way (data at 1), as in several codes. Mend it.""",
        """def sample(velocity, x, n):
    for i in range(n):
        t = (i + 1) / n
        x = x + velocity(x, t) / n
    return x
""",
        """def sample(velocity, x, n):
    for i in range(n):
        t = 1 - i / n
        x = x - velocity(x, t) / n
    return x
""",
        _check_sample,
        hints=("The first t is 1, and t = 0 is never asked for: no step begins there.", "u points from data to noise."),
    ),
    Exercise(
        "flow.3",
        "Shift",
        r"""For images of more pixels, more noise: write $t'$, at which $\sigma/\alpha$ is `c` times what it is at `t` (Esser et al. 2024, eq. 23).""",
        "def shifted(t, c):\n    return min(c * t, 1)\n",
        "def shifted(t, c):\n    return c * t / (1 + (c - 1) * t)\n",
        _check_shift,
    ),
)
