"""Answers to the program of the lesson on ADM: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("chosen.sum()", "chosen.mean()")], "each row has its own"),
    ([("torch.log_softmax(classify(x, t), dim=1)", "classify(x, t)")], "log_softmax"),
    ([("torch.log_softmax", "torch.softmax")], "log_softmax"),
    ([("eps(x, t) - scale", "eps(x, t) + scale")], "is subtracted"),
    ([("scale * sigma * gradient", "scale * gradient")], "is subtracted"),
    ([("x0 = (x - (1 - bars[t]) ** 0.5 * e)", "x0 = (x - (1 - bars[t]) ** 0.5 * eps(x, t))")], "both of its terms"),
]

RIGHT = [
    """import numpy as np

def gradient(classify, x, t, y):
    x, out, h = np.asarray(x, dtype=np.float64), [], 1e-4

    def log_p(x):
        logits = np.asarray(classify(x, t))
        logits = logits - logits.max(1, keepdims=True)
        return (logits - np.log(np.exp(logits).sum(1, keepdims=True)))[np.arange(len(x)), np.asarray(y)]

    for move in np.eye(2):
        out.append((log_p(x + h * move) - log_p(x - h * move)) / (2 * h))
    return np.stack(out, axis=1)

def guided(eps, classify, x, t, y, scale, bars):
    return np.asarray(eps(x, t)) - scale * float(1 - bars[t]) ** 0.5 * gradient(classify, x, t, y)

def sample(eps, classify, x, steps, y, scale, bars):
    x, times = np.asarray(x), np.linspace(len(bars) - 1, 0, steps + 1).astype(int)
    out = [x]
    for t, s in zip(times, times[1:]):
        a, b = float(bars[t]), float(bars[s])
        e = guided(eps, classify, x, t, y, scale, bars)
        x = (b / a) ** 0.5 * (x - (1 - a) ** 0.5 * e) + (1 - b) ** 0.5 * e
        out.append(x)
    return out
""",
    """def gradient(classify, x, t, y):
    x = torch.tensor(x.tolist(), requires_grad=True)
    torch.nn.functional.cross_entropy(classify(x, t), y, reduction="sum").backward()
    return -x.grad

def guided(eps, classify, x, t, y, scale, bars):
    score = -eps(x, t) / (1 - bars[t]).sqrt() + scale * gradient(classify, x, t, y)
    return -(1 - bars[t]).sqrt() * score

def sample(eps, classify, x, steps, y, scale, bars):
    out, alpha, sigma = [x.float()], bars.sqrt(), (1 - bars).sqrt()
    times = torch.linspace(len(bars) - 1, 0, steps + 1).round().long()
    for t, s in zip(times, times[1:]):
        e = guided(eps, classify, out[-1], int(t), y, scale, bars)
        out.append((alpha[s] / alpha[t] * (out[-1] - sigma[t] * e) + sigma[s] * e).float())
    return out
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("adm", programming.changed("adm", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("adm", code)
