"""Answers to the program of the lesson on DDPM: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("torch.cumprod(1 - betas, dim=0)", "(1 - betas)")], "multiplied out"),
    ([("[t - 1]", "[t - 2]")], "multiplied out"),
    ([("(1 - alpha_bar).sqrt()", "(1 - alpha_bar)")], "multiplied out"),
    ([("(len(x0),))", "(1,)).expand(len(x0))")], "equally often"),
    ([("(eps - model", "(x0 - model")], "the noise that made x_t"),
    ([(".mean()", ".mean().item()")], "backward"),
]

RIGHT = [
    """def noisy(x0, t, eps, betas):
    log_left = torch.log1p(-betas.double()).cumsum(0)
    out = []
    for picture, level, noise in zip(x0, t, eps):
        left = math.exp(float(log_left[int(level) - 1]))
        out.append(math.sqrt(left) * picture + math.sqrt(1 - left) * noise)
    return torch.stack(out)

def loss(model, x0, betas):
    t = (torch.rand(len(x0)) * len(betas)).long() + 1
    eps = torch.randn(x0.shape)
    return torch.nn.functional.mse_loss(model(noisy(x0, t, eps, betas), t), eps)
""",
    """import numpy as np

def noisy(x0, t, eps, betas):
    left = np.cumprod(1 - np.asarray(betas, dtype=np.float64))[np.asarray(t) - 1]
    left = torch.as_tensor(left).view(-1, *(1 for _ in x0.shape[1:]))
    return left ** 0.5 * x0.double() + (1 - left) ** 0.5 * eps.double()

def loss(model, x0, betas):
    t = torch.as_tensor(np.random.default_rng().integers(1, len(betas), len(x0), endpoint=True))
    eps = torch.normal(0.0, 1.0, x0.shape)
    apart = model(noisy(x0, t, eps, betas), t) - eps
    return (apart * apart).flatten(1).mean(1).mean()
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("ddpm", programming.changed("ddpm", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("ddpm", code)
