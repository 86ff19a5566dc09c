"""Answers to the program of the lesson on DDIM: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("(x - (1 - a) ** 0.5 * e)", "(x - (1 - b) ** 0.5 * e)")], "found with the level where x is"),
    ([("for k in range(steps + 1)]", "for k in range(steps)]")], "states here"),
    ([("range(steps + 1)]", "range(1, steps + 1)]"), ("states = [x]", "states = [x, x]")], "the network is asked"),
    ([("T = len(bars) - 1", "T = len(bars) - 2")], "starts at t = T"),
    ([("(1 - b) ** 0.5 * e\n", "(1 - b) ** 0.5 * torch.randn_like(x)\n")], "the state at t"),
    ([("return walk(eps, x, times_of(steps, bars), bars)", "return sample(eps, x, steps, bars)")], "invert must find"),
    ([("/ a**0.5", "")], "the state at t"),
]

RIGHT = [
    """import numpy as np

def sample(eps, x, steps, bars):
    bars, x = np.asarray(bars), np.asarray(x)
    times, out = np.linspace(len(bars) - 1, 0, steps + 1).astype(int), [x]
    for t, s in zip(times, times[1:]):
        e = np.asarray(eps(x, t))
        ratio = np.sqrt(bars[s] / bars[t])
        x = ratio * x + (np.sqrt(1 - bars[s]) - ratio * np.sqrt(1 - bars[t])) * e
        out.append(x)
    return out

def invert(eps, x, steps, bars):
    bars, x = np.asarray(bars), np.asarray(x)
    times, out = np.linspace(0, len(bars) - 1, steps + 1).astype(int), [x]
    for t, s in zip(times, times[1:]):
        e = np.asarray(eps(x, t))
        x = np.sqrt(bars[s]) * (x - np.sqrt(1 - bars[t]) * e) / np.sqrt(bars[t]) + np.sqrt(1 - bars[s]) * e
        out.append(x)
    return out
""",
    """def sample(eps, x, steps, bars, up=False):
    x, a = x.float(), bars.float().sqrt()
    sigma = (1 - bars).sqrt().float()
    times = torch.linspace(0, len(bars) - 1, steps + 1).round().int()
    times = times if up else times.flip(0)
    out = torch.empty(steps + 1, *x.shape)
    out[0] = x
    for k in range(steps):
        t, s = times[k], times[k + 1]
        e = eps(out[k], t)
        out[k + 1] = a[s] * (out[k] / a[t] + (sigma[s] / a[s] - sigma[t] / a[t]) * e)  # the ODE in x / alpha
    return out

def invert(eps, x, steps, bars):
    return sample(eps, x, steps, bars, up=True)
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("ddim", programming.changed("ddim", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("ddim", code)
