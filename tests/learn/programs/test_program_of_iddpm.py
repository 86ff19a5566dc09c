"""Answers to the program of the lesson on Improved DDPM: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("v * beta.log() + (1 - v) * log_true", "(1 - v) * beta.log() + v * log_true")], "1 is beta"),
    (
        [("log_ours = v * beta.log() + (1 - v) * log_true", "log_ours = (v * beta + (1 - v) * beta_tilde).log()")],
        "v weighs logarithms",
    ),
    (
        [
            ("(beta_tilde + apart) / log_ours.exp()", "(log_ours.exp() + apart) / beta_tilde"),
            ("log_ours - log_true", "log_true - log_ours"),
        ],
        "comes first in the divergence",
    ),
    ([("eps_hat.detach()", "eps_hat")], "that of the simple loss alone"),
    ([("v, x0, eps, a, b).mean()", "v.detach(), x0, eps, a, b).mean()")], "must reach v"),
    ([("0.001 *", "0.01 *")], "a thousandth"),
]

RIGHT = [
    """from torch.distributions import Normal, kl_divergence

def step(noise, variance, x0, eps, a, b):
    x = a**0.5 * x0 + (1 - a) ** 0.5 * eps
    beta = 1 - a / b
    guess = (x - (1 - a) ** 0.5 * noise) / a**0.5  # eq. 7 of DDPM, with the picture that the noise implies
    mean = b**0.5 * beta / (1 - a) * guess + (a / b) ** 0.5 * (1 - b) / (1 - a) * x
    return Normal(mean, variance**0.5)

def vlb(eps_hat, v, x0, eps, a, b):
    beta = 1 - a / b
    least = torch.full_like(x0, (1 - b) / (1 - a) * beta)
    return kl_divergence(step(eps, least, x0, eps, a, b), step(eps_hat, beta**v * least ** (1 - v), x0, eps, a, b))

def hybrid(eps_hat, v, x0, eps, a, b):
    with torch.no_grad():
        fixed = 1 * eps_hat
    return torch.nn.functional.mse_loss(eps_hat, eps) + vlb(fixed, v, x0, eps, a, b).sum() / (1000 * x0.numel())
""",
    """def vlb(eps_hat, v, x0, eps, a, b):
    eps_hat, v, eps = eps_hat.float(), v.float(), eps.float()
    beta = (b - a) / b
    ratio = (1 - b) / (1 - a)  # of beta tilde to beta
    log_over = -v * math.log(ratio)  # log of our variance over the true one
    apart = b / a * beta / (1 - a) / ratio * (eps_hat - eps).square()
    return (log_over + (1 + apart) * torch.exp(-log_over) - 1) / 2

def hybrid(eps_hat, v, x0, eps, a, b):
    losses = (eps_hat - eps).square() + 1e-3 * vlb(eps_hat.detach(), v, x0, eps, a, b)
    return losses.mean()
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("iddpm", programming.changed("iddpm", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("iddpm", code)
