"""Answers to the program of the lesson on noise: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("(2 * sigma**2)", "sigma**2")], "over 2 sigma^2"),
    (
        [
            ("torch.softmax(-distance / (2 * sigma**2), dim=1)", "torch.exp(-distance / (2 * sigma**2))"),
            ("return weight @ data", "return weight @ data / weight.sum(1, keepdim=True)"),
        ],
        "largest exponent",
    ),
    ([("std * torch.randn_like(x)", "0")], "must have variance"),
    ([("std = tau / sigma * (sigma**2 - tau**2) ** 0.5", "std = (sigma**2 - tau**2) ** 0.5")], "must have variance"),
]

RIGHT = [
    """import numpy as np

def denoise(x, sigma, data):
    x, data = np.asarray(x), np.asarray(data)
    out = []
    for point in x:
        power = -np.sum((point - data) ** 2, axis=1) / 2 / sigma**2
        weight = np.exp(power - power.max())
        out.append((weight[:, None] * data).sum(0) / weight.sum())
    return np.stack(out)

def sample(denoise, x, sigmas):
    x = np.asarray(x, dtype=np.float64)
    states, rng = [x], np.random.default_rng(3)
    for k in range(len(sigmas) - 1):
        a = sigmas[k + 1] ** 2 / sigmas[k] ** 2
        x0 = np.asarray(denoise(x, sigmas[k]))
        x = (1 - a) * x0 + a * x + np.sqrt(sigmas[k + 1] ** 2 * (1 - a)) * rng.standard_normal(x.shape)
        states.append(x)
    return states
""",
    """def denoise(x, sigma, data):
    x, data = x.float(), data.float()
    return torch.softmax((x @ data.T - data.square().sum(1) / 2) / sigma**2, 1) @ data

def sample(denoise, x, sigmas):
    all_states = torch.empty(len(sigmas), *x.shape)
    all_states[0] = x
    for k in range(1, len(sigmas)):
        s, r = sigmas[k - 1], sigmas[k] / sigmas[k - 1]
        x0 = denoise(all_states[k - 1], s)
        all_states[k] = torch.normal(x0 + r**2 * (all_states[k - 1] - x0), s * r * math.sqrt(1 - r**2))
    return all_states
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("noise", programming.changed("noise", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("noise", code)
