"""Answers to the program of the lesson on NCSNv2: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("torch.cdist(images, images).max()", "torch.cdist(images, images).mean()")], "furthest apart"),
    ([("(2 * D) ** 0.5 * (gamma - 1)", "D ** 0.5 * (gamma - 1)")], "an overlap of"),
    ([("last * gamma**k for", "last + (first - last) * k / gaps for")],
     "neighbours have the same ratio"),
    ([("range(gaps, -1, -1)", "range(gaps, 0, -1)")], "the last sigma is"),
    ([("return sigmas, r * last**2", "return sigmas, r")], "between 0 and 1"),
    ([("variance(r, gamma, steps) - 1", "variance(r, gamma, 1) - 1")], "brings it to"),
    ([("v = gamma**2", "v = gamma")], "brings it to"),
    ([("alpha * score", "alpha / 2 * score")], "not by its half"),
    ([("(2 * alpha) ** 0.5", "alpha ** 0.5")], "variance 2 alpha"),
    ([("[*states, x + last**2 * score(x, last)]", "states")], "11 states"),
    ([("x + last**2 * score(x, last)", "x + alpha * score(x, last)")], "plus sigma_L^2"),
]  # fmt: skip

RIGHT = [
    """import numpy as np
from statistics import NormalDist

def plan(images, last, steps):
    x = np.asarray(images, dtype=float)
    first = np.sqrt(((x[:, None] - x[None]) ** 2).sum(-1)).max()
    phi, D = NormalDist().cdf, x.shape[1]
    gammas = np.linspace(1.001, 3, 20_000)
    shift = np.sqrt(2 * D) * (gammas - 1)
    over = np.array([phi(a + 3 * g) - phi(a - 3 * g) for a, g in zip(shift, gammas)])
    gamma = gammas[np.abs(over - 0.5).argmin()]
    sigmas = np.geomspace(first, last, 1 + round(np.log(first / last) / np.log(gamma)))
    gamma = sigmas[0] / sigmas[1]
    r = np.logspace(-5, 0, 50_001)[:-1]
    limit = 2 / (2 - r)  # proposition 3
    v = (1 - r) ** (2 * steps) * (gamma**2 - limit) + limit
    return sigmas, r[np.abs(v - 1).argmin()] * last**2

def sample(score, x, sigmas, eps, steps):
    rng, path = np.random.default_rng(0), [np.asarray(x)]
    for k in range(len(sigmas) * steps):
        s = sigmas[k // steps]
        a = eps * (s / sigmas[-1]) ** 2
        path.append(path[-1] + a * np.asarray(score(path[-1], s)) + rng.normal(0, np.sqrt(2 * a), path[-1].shape))
    path.append(path[-1] + sigmas[-1] ** 2 * np.asarray(score(path[-1], sigmas[-1])))
    return np.stack(path)
""",
    """def plan(images, last, steps):
    first = torch.pdist(images.float()).max()
    D, normal = images.shape[1], torch.distributions.Normal(0.0, 1.0)
    gamma = 1.0001
    while True:
        shift = math.sqrt(2 * D) * (gamma - 1)
        if normal.cdf(torch.tensor(shift + 3 * gamma)) - normal.cdf(torch.tensor(shift - 3 * gamma)) < 0.5:
            break
        gamma += 1e-4
    gaps = int(torch.log(first / last) / math.log(gamma) + 0.5)
    sigmas = torch.logspace(math.log10(first), math.log10(last), gaps + 1)
    v, r = torch.full((9999,), float(sigmas[0] / sigmas[1]) ** 2), torch.arange(1, 10_000) / 10_000
    for _ in range(steps):
        v = (1 - r) ** 2 * v + 2 * r
    return sigmas, r[(v - 1).abs().argmin()] * last ** 2

def sample(score, x, sigmas, eps, steps):
    x = x.float()
    out = [x]
    for sigma in torch.as_tensor(sigmas).float():
        a = eps * (sigma / sigmas[-1]) ** 2
        for _ in range(steps):
            out.append(out[-1] + a * score(out[-1], sigma).float() - torch.randn(x.shape) * math.sqrt(2 * a))
    out.append(out[-1] + sigma ** 2 * score(out[-1], sigma).float())
    return out
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("ncsnv2", programming.changed("ncsnv2", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("ncsnv2", code)
