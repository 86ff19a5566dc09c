"""Answers to the program of the lesson on NCSN: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("alpha / 2", "alpha")], "half of alpha"),
    ([("alpha**0.5", "(2 * alpha) ** 0.5")], "noise has variance alpha"),
    ([("for sigma in sigmas", "for sigma in sigmas[::-1]")], "the largest first"),
    ([("alpha = eps * sigma**2 / sigmas[-1] ** 2", "alpha = eps")], "after step 1, at sigma 2"),
]

RIGHT = [
    """import numpy as np

def annealed(score, x, sigmas, eps, steps):
    rng, path = np.random.default_rng(0), [np.asarray(x)]
    for k in range(len(sigmas) * steps):
        sigma = sigmas[k // steps]
        alpha = eps * (sigma / sigmas[-1]) ** 2
        x = path[-1]
        path.append(x + 0.5 * alpha * np.asarray(score(torch.as_tensor(x), sigma)) + rng.normal(0, alpha**0.5, x.shape))
    return np.array(path)
""",
    """def annealed(score, x, sigmas, eps, steps):
    out = torch.zeros(1 + len(sigmas) * steps, *x.shape, dtype=torch.float32)
    out[0], k, last = x, 0, min(sigmas)
    for sigma in sorted(sigmas, reverse=True):
        alpha = torch.tensor(eps * sigma ** 2 / last ** 2)
        for _ in range(steps):
            out[k + 1] = out[k] + alpha.sqrt() * (alpha.sqrt() / 2 * score(out[k], sigma) - torch.randn(x.shape))
            k += 1
    return out
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("ncsn", programming.changed("ncsn", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("ncsn", code)
