"""The program of the lesson on Score-SDE (Song et al. 2021): predictor and corrector for the VP SDE, eq. 6, algorithm 3."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sfumato.claims.toys import ring, sliced_distance
from sfumato.core.continuous import VP
from sfumato.core.processes import GaussianDiffusion
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import given, near, normal, states

TASK = r"""The VP SDE is $dx = -\tfrac12\beta(t)\,x\,dt + \sqrt{\beta(t)}\,dw$. `score(x, t)` and `beta(t)` are given. Write
`sample(score, x, steps, beta, snr, corrections)`, from `x` (N, D) at $t = 1$ to $t = 0.001$ in steps of equal length $h$:

- **predictor**, Euler's step backwards on the reverse SDE (eq. 6), from $t$ to $t - h$:
  $x \leftarrow x + h\left(\tfrac12\beta(t)\,x + \beta(t)\,s(x, t)\right) + \sqrt{\beta(t)\,h}\;z$
- then **corrector**, `corrections` times, at the new time $t - h$: with $g = s(x, t - h)$ and fresh noise $z$ the step size is
  $\epsilon = 2\,(r\,\|z\| / \|g\|)^2$, where $r$ is `snr` and $\|\cdot\|$ the mean over rows of their Euclidean norms, and $x \leftarrow x + \epsilon g + \sqrt{2\epsilon}\,z$.

Give back the list of `steps + 1` states: the start, and one after each predictor with its corrections. For Gaussian data of 64
dimensions the check follows the variance through both. Then both sample the lesson's ring, with few steps."""

STUB = '''def sample(score, x, steps, beta, snr, corrections):
    """x (N, D) at t = 1 -> a list of steps + 1 states, the last at t = 0.001"""
    ...
'''

SOLUTION = """def correct(score, x, t, snr):
    g, z = score(x, t), torch.randn_like(x)
    ratio = z.norm(dim=1).mean() / g.norm(dim=1).mean()
    size = 2 * (snr * ratio) ** 2
    return x + size * g + (2 * size) ** 0.5 * z


def sample(score, x, steps, beta, snr, corrections):
    h = (1 - 0.001) / steps
    states = [x]
    for k in range(steps):
        t = 1 - k * h
        drift = beta(t) / 2 * x + beta(t) * score(x, t)
        x = x + h * drift + (beta(t) * h) ** 0.5 * torch.randn_like(x)
        for _ in range(corrections):
            x = correct(score, x, t - h, snr)
        states.append(x)
    return states
"""


def beta(t: Any) -> Any:
    """The paper's, for CIFAR-10."""
    return 0.1 + 19.9 * t


def _variance(t: float, s2: float) -> float:
    """Of x_t, where data have variance s2."""
    kept = math.exp(-0.1 * t - 9.95 * t**2)
    return kept * s2 + 1 - kept


def check(namespace: Namespace) -> None:
    """The variance of every state, without corrections and with two."""
    sample, s2, steps, snr = wanted(namespace, "sample"), 0.25, 40, 0.4
    start = normal(0, 500, 64)
    for corrections in (0, 2):
        asked: list[float] = []

        def exact(x: Tensor, t: Tensor, asked: list[float] = asked) -> Tensor:
            asked.append(float(t))
            return -x / _variance(float(t), s2)

        made = sample(given(exact), start, steps, beta, snr, corrections)
        found = states(made, "sample", steps + 1, (500, 64))
        h = 0.999 / steps
        times = [t for k in range(steps) for t in (1 - k * h, *[1 - (k + 1) * h] * corrections)]
        assert len(asked) == len(times), tr(
            "with {corrections} corrections the score is asked {calls} times a step, by you {asked:g} times",
            corrections=corrections,
            calls=1 + corrections,
            asked=len(asked) / steps,
        )
        assert all(abs(a - b) < 1e-4 for a, b in zip(asked, times, strict=True)), tr(
            "the predictor asks the score where it starts, t, and the corrector where it has come to, t - h, down to 0.001; yours "
            "asks at {first_asked} ... {last_asked:.4f}, not at "
            "{first_times} ... {last_time:.4f}",
            first_asked=", ".join(f"{t:.4f}" for t in asked[:4]),
            last_asked=asked[-1],
            first_times=", ".join(f"{t:.4f}" for t in times[:4]),
            last_time=times[-1],
        )
        _follow(found, corrections, s2, steps, snr)


def _follow(found: Tensor, corrections: int, s2: float, steps: int, snr: float) -> None:
    """Two numbers instead of points: norms of 64 numbers hardly vary, so step sizes follow from the variance."""
    h, variance = 0.999 / steps, float(found[0].var())
    for k in range(steps):
        t, b = 1 - k * h, beta(1 - k * h)
        variance = (1 + h * (b / 2 - b / _variance(t, s2))) ** 2 * variance + b * h
        for _ in range(corrections):
            true = _variance(t - h, s2)
            size = 2 * snr**2 * true**2 / variance
            variance = (1 - size / true) ** 2 * variance + 2 * size
        mine = float(found[k + 1].var())
        assert near(mine, variance, 0.05), tr(
            "after step {k}, from t = {t:.3f}, with {corrections} corrections the variance is {variance:.4f}; yours {mine:.4f}. {hint}",
            k=k + 1, t=t, corrections=corrections, variance=variance, mine=mine,
            hint=tr("The size of a correction is 2 (snr |z| / |g|)^2, its noise has variance twice the size") if corrections
            else tr("The drift has beta / 2 times x plus beta times the score, and the noise variance beta h"),
        )  # fmt: skip
        variance = mine


def figure(namespace: Namespace) -> Figure:
    """The ring in 25 steps: predictor alone, and with one and two corrections."""
    denoise = ring().denoise(GaussianDiffusion(VP()))

    def score(x: Any, t: Any) -> Tensor:
        return denoise(torch.as_tensor(x).double(), torch.as_tensor(float(t), dtype=torch.float64)).score

    real, runs = ring().sample(2000, torch.Generator().manual_seed(1)), {}
    for corrections in (0, 1, 2):
        made = namespace["sample"](score, normal(2, 1000, 2), 25, beta, 0.16, corrections)
        film = states(made, "sample", 26, (1000, 2))
        off = sliced_distance(film[-1], real[:1000])
        runs[tr("corrections a step: {n}, sliced distance {off:.3f}", n=corrections, off=off)] = film
    return figures.scrubber(runs, real[:600])


PROGRAM = Exercise(
    "score_sde.program", "Predictor and corrector", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "h = 0.999 / steps, and step k, counted from 0, starts at t = 1 - k * h.",
        "Write the corrector as a function of its own. z is drawn first: its norm is in the step size, and the same z is the noise.",
        "z.norm(dim=1).mean() is the mean over rows of the norms. size = 2 * (snr * ratio) ** 2.",
    ),
)  # fmt: skip
