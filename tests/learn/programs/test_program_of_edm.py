"""Answers to the program of the lesson on EDM: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("F(into * x,", "F(x,")], "c_in makes it 1"),
    ([("math.log(sigma) / 4", "math.log(sigma)")], "is told ln(sigma) / 4"),
    ([("sigma * data / both**0.5", "sigma / both**0.5")], "c_out = sigma data"),
    ([("data**2 / both, sigma", "sigma**2 / both, sigma")], "with c_skip ="),
    ([("return weight * ", "return ")], "1 at every level"),
    ([("F, x0 + sigma * eps, sigma", "F, x0 + eps, sigma")], "1 at every level"),
    ([("(steps - 1) * (b - a)", "steps * (b - a)")], "levels are even in sigma^(1/7)"),
    ([("rho=7", "rho=1")], "levels are even in sigma^(1/7)"),
    ([("if to > 0:", "if False:")], "twice each, once in the last"),
    ([("(to - sigma) * slope\n", "(sigma - to) * slope\n")], "and sigma falls"),
    ([("(slope + second) / 2", "second")], "the mean of both slopes"),
    ([("(slope + second) / 2", "slope")], "the mean of both slopes"),
    ([("(slope + second) / 2", "(0.46 * slope + 0.54 * second)")], "about a quarter of the error"),
    ([("end = x + (to - sigma) * (slope", "end = end + (to - sigma) * (slope")], "p + sigma /"),
    ([("(end - denoise(F, end, to, data)) / to", "(x - denoise(F, x, to, data)) / to")], "p + sigma /"),
]

RIGHT = [
    """import numpy as np

def D(F, x, sigma, data):
    x, sigma = np.asarray(x), float(sigma)
    length = np.hypot(sigma, data)
    out = np.asarray(F(x / length, np.log(sigma) / 4))
    return (data / length) ** 2 * x + data * sigma / length * out

denoise = D

def loss(F, x0, eps, sigma, data):
    x0 = np.asarray(x0)
    error = (D(F, x0 + sigma * np.asarray(eps), sigma, data) - x0) / (sigma * data) * np.hypot(sigma, data)
    return np.mean(error**2)

def sample(F, x, steps, low, high, data):
    levels = np.append(np.linspace(high ** (1 / 7), low ** (1 / 7), steps) ** 7, 0)
    path = [np.asarray(x)]
    for a, b in zip(levels, levels[1:]):
        x = path[-1]
        d = (x - D(F, x, a, data)) / a
        y = x + (b - a) * d
        if b:
            y = y + (b - a) / 2 * ((y - D(F, y, b, data)) / b - d)
        path.append(y)
    return path
""",
    """def denoise(F, x, sigma, data):
    x, sigma = x.float(), torch.as_tensor(sigma, dtype=torch.float32)
    both = sigma.square() + data ** 2
    return data ** 2 / both * x + sigma * data * both.rsqrt() * F(x * both.rsqrt(), sigma.log() / 4)

def loss(F, x0, eps, sigma, data):  # the error of F itself
    sigma = torch.tensor(sigma)
    both = sigma ** 2 + data ** 2
    x = x0 + sigma * eps
    target = (x0 - data ** 2 / both * x) / (sigma * data / both.sqrt())
    return torch.nn.functional.mse_loss(F(x / both.sqrt(), sigma.log() / 4).float(), target.float())

def sample(F, x, steps, low, high, data):
    k = torch.arange(steps) / (steps - 1)
    sigmas = torch.cat([(high ** (1 / 7) * (1 - k) + low ** (1 / 7) * k) ** 7, torch.zeros(1)])
    out = torch.zeros(steps + 1, *x.shape)
    out[0] = x
    slope = lambda x, s: (x - denoise(F, x, s, data)) / s
    for i in range(steps):
        s, to = sigmas[i], sigmas[i + 1]
        if i == steps - 1:
            out[i + 1] = denoise(F, out[i], s, data)
        else:
            d = slope(out[i], s)
            out[i + 1] = out[i] + (to - s) * (d + slope(out[i] + (to - s) * d, to)) / 2
    return out
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[f"{k} {hint}" for k, (_, hint) in enumerate(WRONG)])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("edm", programming.changed("edm", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("edm", code)
