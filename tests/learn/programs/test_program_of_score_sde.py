"""Answers to the program of the lesson on Score-SDE: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("beta(t) * score(x, t)", "beta(t) / 2 * score(x, t)")], "beta times the score"),
    ([("(beta(t) * h) ** 0.5", "beta(t) ** 0.5 * h")], "the noise variance beta h"),
    ([("correct(score, x, t - h, snr)", "correct(score, x, t, snr)")], "where it has come to"),
    ([("size = 2 * (snr", "size = (snr")], "The size of a correction"),
    ([("(2 * size) ** 0.5 * z", "size ** 0.5 * z")], "twice the size"),
    ([("h = (1 - 0.001) / steps", "h = 1 / steps")], "down to 0.001"),
    ([("for _ in range(corrections)", "for _ in range(1)")], "with 0 corrections the score is asked 1 times"),
]

RIGHT = [
    """import numpy as np

def sample(score, x, steps, beta, snr, corrections):
    rng, x = np.random.default_rng(0), np.asarray(x)
    times, states = np.linspace(1, 0.001, steps + 1), [x]
    for t, s in zip(times, times[1:]):
        b = beta(t)
        x = x * (1 + b * (t - s) / 2) + b * (t - s) * np.asarray(score(x, t))
        x = x + np.sqrt(b * (t - s)) * rng.standard_normal(x.shape)
        for _ in range(corrections):
            g, z = np.asarray(score(x, s)), rng.standard_normal(x.shape)
            step = snr * np.linalg.norm(z, axis=1).mean() / np.linalg.norm(g, axis=1).mean()
            x = x + 2 * step**2 * g + 2 * step * z
        states.append(x)
    return states
""",
    """def sample(score, x, steps, beta, snr, corrections):
    x = x.float()
    out, t, h = [x], torch.tensor(1.0), 0.999 / steps
    for k in range(steps):
        b = beta(t)
        out.append(x + (x / 2 + score(x, t).float()) * b * h + torch.normal(torch.zeros_like(x), (b * h).sqrt()))
        t = torch.tensor(1 - (k + 1) * h)
        for n in range(corrections):
            g, z = score(out[-1], t).float(), torch.randn(x.shape)
            e = 2 * (snr * z.square().sum(1).sqrt().mean() / g.square().sum(1).sqrt().mean()).square()
            out[-1] = out[-1] + e * g - torch.sqrt(2 * e) * z
        x = out[-1]
    return torch.stack(out)
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("score_sde", programming.changed("score_sde", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("score_sde", code)
