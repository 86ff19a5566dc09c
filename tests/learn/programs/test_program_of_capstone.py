"""Answers to the program of the lesson on everything together: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    (
        [("noised = b**0.5 * picture + (1 - b) ** 0.5 * torch.randn_like(x)", "noised = picture")],
        "must reach the model as sqrt(a) picture",
    ),
    (
        [("noised = b**0.5 * picture + (1 - b) ** 0.5", "noised = a**0.5 * picture + (1 - a) ** 0.5")],
        "exactly as in the picture",
    ),
    (
        [("noised = b**0.5 * picture + (1 - b) ** 0.5 * torch.randn_like(x)", "noised = b**0.5 * picture")],
        "must carry noise",
    ),
    (
        [
            (
                "x = kept**0.5 * x + (1 - kept) ** 0.5 * torch.randn_like(x)",
                "pass",
            )
        ],
        "where the step is repeated",
    ),
    ([("if k < repeats - 1", "if True")], "exactly as in the picture"),
    ([("std * torch.randn_like(x)", "0")], "the posterior's variance"),
    (
        [("known * noised + (1 - known) * unknown", "(1 - known) * noised + known * unknown")],
        "exactly as in the picture",
    ),
]

RIGHT = [
    """import numpy as np

def inpaint(eps, picture, known, times, repeats, bars):
    rng, bars, picture, known = np.random.default_rng(0), np.asarray(bars), np.asarray(picture), np.asarray(known)
    draw = lambda: rng.standard_normal(picture.shape)
    x = draw()
    for t, s in zip(times, times[1:]):
        a, b = bars[t], bars[s]
        beta = 1 - a / b
        for left in reversed(range(repeats)):
            mean = np.sqrt(b / a) * (x - beta / np.sqrt(1 - a) * np.asarray(eps(x, t)))
            unknown = mean + np.sqrt(beta * (1 - b) / (1 - a)) * draw()
            x = np.where(known > 0.5, np.sqrt(b) * picture + np.sqrt(1 - b) * draw(), unknown)
            if left:
                x = np.sqrt(1 - beta) * x + np.sqrt(beta) * draw()
    return x
""",
    """def inpaint(eps, picture, known, times, repeats, bars):
    picture, known, x = picture.float(), known.bool(), torch.randn(picture.shape)
    for step in range(len(times) - 1):
        a, b = float(bars[times[step]]), float(bars[times[step + 1]])
        for k in range(repeats):
            if k > 0:
                x = torch.normal(math.sqrt(a / b) * x, math.sqrt(1 - a / b))
            e = eps(x, times[step]).float()
            x0 = (x - math.sqrt(1 - a) * e) / math.sqrt(a)
            std = math.sqrt((1 - b) * (1 - a / b) / (1 - a))
            x = math.sqrt(b) * x0 + math.sqrt(max(1 - b - std**2, 0)) * e + std * torch.randn(x.shape)  # eta = 1
            x[known] = (math.sqrt(b) * picture + math.sqrt(1 - b) * torch.randn(x.shape))[known]
    return x
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("capstone", programming.changed("capstone", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("capstone", code)
