"""The program of the lesson on NCSN (Song & Ermon 2019): annealed Langevin dynamics, algorithm 1."""

from __future__ import annotations

import torch

from sfumato.claims.ncsn import anywhere, heavy, two_modes
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import from_sigmas
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import given, near, normal, states

TASK = r"""Write algorithm 1 of the paper: `annealed(score, x, sigmas, eps, steps)`. `score(x, sigma)` is given, `sigmas` falls from
large to small. At each level $\sigma_i$ take `steps` steps, starting where the level before ended:

$$\alpha_i = \epsilon\,\sigma_i^2 / \sigma_L^2, \qquad x \leftarrow x + \tfrac{\alpha_i}{2}\, s(x, \sigma_i) + \sqrt{\alpha_i}\, z$$

with fresh normal noise $z$ in every step; $\sigma_L$ is the last of the levels. Give back the list of all states, the start first.
The check follows the mean and the variance of Gaussian data through every step. Then your sampler runs on the lesson's two
clouds, and says how many points found the heavy one."""

STUB = '''def annealed(score, x, sigmas, eps, steps):
    """x (N, 2) -> a list of 1 + len(sigmas) * steps states"""
    states = [x]
    ...
    return states
'''

SOLUTION = """def annealed(score, x, sigmas, eps, steps):
    states = [x]
    for sigma in sigmas:
        alpha = eps * sigma**2 / sigmas[-1] ** 2
        for _ in range(steps):
            z = torch.randn_like(x)
            x = x + alpha / 2 * score(x, sigma) + alpha**0.5 * z
            states.append(x)
    return states
"""


def check(namespace: Namespace) -> None:
    """Mean and variance of every state, for data N(2, 0.5^2): the score is linear, so both follow a recursion."""
    annealed = wanted(namespace, "annealed")
    sigmas, eps, steps, s2 = [2.0, 1.0, 0.5], 0.1, 4, 0.5**2
    asked: list[float] = []

    def exact(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(float(sigma))
        return (2 - x) / (s2 + sigma**2)

    start = normal(0, 20_000, 2)
    found = states(annealed(given(exact), start, sigmas, eps, steps), "annealed", 13, (20_000, 2))
    order = [sigma for sigma in sigmas for _ in range(steps)]
    assert asked == order, tr(
        "the score is asked {steps} times at each level, the largest first: at {order} ...; yours at {asked} ...",
        steps=steps,
        order=order[:5],
        asked=asked[:5],
    )
    assert torch.allclose(found[0], start, atol=1e-6), "the first state is the start itself"
    mean, variance = 0.0, 1.0
    for k, sigma in enumerate(order, start=1):
        alpha = eps * sigma**2 / sigmas[-1] ** 2
        kept = 1 - alpha / 2 / (s2 + sigma**2)
        mean, variance = 2 + kept * (mean - 2), kept**2 * variance + alpha
        drift, spread = float(found[k].mean()), float(found[k].var())
        where = tr("after step {k}, at sigma {sigma:g} with alpha {alpha:g},", k=k, sigma=sigma, alpha=alpha)
        assert abs(drift - mean) < 0.04, tr(
            "{where} the mean is {mean:.3f}; yours {drift:.3f}. The score is multiplied by half of alpha",
            where=where,
            mean=mean,
            drift=drift,
        )
        assert near(spread, variance, 0.05), tr(
            "{where} the variance is {variance:.3f}; yours {spread:.3f}. The noise has variance alpha, fresh in each step",
            where=where,
            variance=variance,
            spread=spread,
        )


def figure(namespace: Namespace) -> Figure:
    """The lesson's two clouds, with the exact score."""
    process = [20.0 * 0.005 ** (k / 9) for k in range(10)]
    denoise = two_modes().denoise(GaussianDiffusion(from_sigmas(torch.tensor(process[::-1], dtype=torch.float64))))
    level = {sigma: torch.tensor(len(process) - k) for k, sigma in enumerate(process)}

    def score(x: torch.Tensor, sigma: float) -> torch.Tensor:
        return denoise(x, level[sigma]).score

    made = namespace["annealed"](score, anywhere(300, 0), process, 0.002, 60)
    film = states(made, "annealed", 601, (300, 2))[::10]
    real = two_modes().sample(500, torch.Generator().manual_seed(1))
    share = tr("your sampler: {share:.0%} at the upper cloud, which holds 80 %", share=heavy(film[-1]))
    return figures.scrubber({share: film}, real, reach=12.0)


PROGRAM = Exercise(
    "ncsn.program", "Annealed Langevin dynamics", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "Two loops: over the levels, and inside it over the steps. x goes on from one level to the next.",
        "alpha depends on the level, not on the step: eps * (sigma / sigmas[-1]) ** 2.",
        "x = x + alpha / 2 * score(x, sigma) + alpha ** 0.5 * torch.randn_like(x), and every new x is appended.",
    ),
)  # fmt: skip
