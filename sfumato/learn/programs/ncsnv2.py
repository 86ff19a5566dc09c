"""The program of the lesson on NCSNv2 (Song & Ermon 2020): techniques 1, 2 and 4, then algorithm 1 with a last denoising."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sfumato.claims.ncsnv2 import digits, reached
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import block, given, near, normal, states, tensor

TASK = r"""From a data set to a sampler without a guess. Write

`plan(images, last, steps)` for `images` (n, D), the least noise `last` and so many Langevin `steps` a level. It gives back `(sigmas, eps)`:

- $\sigma_1$ is the largest distance between two images (technique 1); the levels fall to `last`, each the one before divided by the same $\gamma$.
- $\gamma$ has the overlap $\Phi(\sqrt{2D}(\gamma-1)+3\gamma) - \Phi(\sqrt{2D}(\gamma-1)-3\gamma) = 0.5$ (technique 2). A whole number of levels will not have exactly this
  $\gamma$: take the number whose own $\gamma$ comes next to it. $\Phi(x) = (1 + \operatorname{erf}(x/\sqrt 2))/2$, `math.erf`.
- In units of the level's own, noise arrives with variance $v = \gamma^2$, and each step makes it $(1-r)^2 v + 2r$, with $r = \epsilon/\sigma_L^2$. Take the
  $\epsilon$ for which $v$ after `steps` steps is nearest to 1 (technique 4), $0 < r < 1$, with the $\gamma$ that your levels have.

`sample(score, x, sigmas, eps, steps)`: at each level $\alpha_i = \epsilon\,\sigma_i^2/\sigma_L^2$ and $x \leftarrow x + \alpha_i\,s(x, \sigma_i) + \sqrt{2\alpha_i}\,z$; after the last of these
take away the noise that is left, $x \leftarrow x + \sigma_L^2\,s(x, \sigma_L)$. Give back the list of all states: the start, every step, the denoised one.

Then your plan and your sampler make digits out of noise."""

STUB = '''def plan(images, last, steps):
    """images (n, D) -> (list of sigmas, from the largest to last; eps)"""
    ...


def sample(score, x, sigmas, eps, steps):
    """x (N, D) -> a list of 1 + len(sigmas) * steps + 1 states"""
    ...
'''

SOLUTION = """def overlap(gamma, D):
    def cdf(x):
        return (1 + math.erf(x / 2**0.5)) / 2

    shift = (2 * D) ** 0.5 * (gamma - 1)
    return cdf(shift + 3 * gamma) - cdf(shift - 3 * gamma)


def variance(r, gamma, steps):
    v = gamma**2
    for _ in range(steps):
        v = (1 - r) ** 2 * v + 2 * r
    return v


def plan(images, last, steps):
    first, D = float(torch.cdist(images, images).max()), images.shape[1]
    low, high = 1.0, 4.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle, D) > 0.5 else (low, middle)
    gaps = round(math.log(first / last) / math.log(low))
    gamma = (first / last) ** (1 / gaps)
    sigmas = [last * gamma**k for k in range(gaps, -1, -1)]
    r = min((k / 10_000 for k in range(1, 10_000)), key=lambda r: abs(variance(r, gamma, steps) - 1))
    return sigmas, r * last**2


def sample(score, x, sigmas, eps, steps):
    states, last = [x], sigmas[-1]
    for sigma in sigmas:
        alpha = eps * sigma**2 / last**2
        for _ in range(steps):
            x = x + alpha * score(x, sigma) + (2 * alpha) ** 0.5 * torch.randn_like(x)
            states.append(x)
    return [*states, x + last**2 * score(x, last)]
"""


def check(namespace: Namespace) -> None:
    """The plan by brute force; then mean and variance of Gaussian data through every step, and the last one exactly."""
    plan, sample = wanted(namespace, "plan"), wanted(namespace, "sample")
    for D, last, steps, seed in ((20, 0.05, 3, 0), (100, 0.01, 5, 1), (400, 0.1, 8, 2)):
        images = torch.rand(40, D, generator=torch.Generator().manual_seed(seed))
        made = plan(images, last, steps)
        assert isinstance(made, tuple | list) and len(made) == 2, "plan gives back two things: the sigmas and eps"  # noqa: PT018
        sigmas = tensor(made[0] if isinstance(made[0], Tensor) else [float(sigma) for sigma in made[0]], "plan")
        _check_sigmas(sigmas, images, last)
        _check_size(float(made[1]), float(sigmas[0] / sigmas[1]), last, steps)
    _check_sample(sample)


def _overlap(gamma: float, D: int) -> float:
    """Proposition 2, with torch's normal distribution."""
    shift, unit = math.sqrt(2 * D) * (gamma - 1), torch.distributions.Normal(0.0, 1.0)
    ends = unit.cdf(torch.tensor([shift + 3 * gamma, shift - 3 * gamma], dtype=torch.float64))
    return float(ends[0] - ends[1])


def _check_sigmas(sigmas: Tensor, images: Tensor, last: float) -> None:
    first, D = max(math.dist(a, b) for a in images.tolist() for b in images.tolist()), images.shape[1]
    assert sigmas.ndim == 1, "the sigmas are a list of numbers"
    assert len(sigmas) > 2, tr(
        "from {first:.2f} down to {last:g} there are more than two levels", first=first, last=last
    )
    assert near(sigmas[0], first, 1e-3), tr(
        "compared one by one, the two images furthest apart have distance {first:.4f}: the first sigma. Yours is {found:.4f}",
        first=first, found=float(sigmas[0]),
    )  # fmt: skip
    assert near(sigmas[-1], last, 1e-3), tr(
        "the last sigma is {last:g}, yours {found:.4f}", last=last, found=float(sigmas[-1])
    )
    ratios = sigmas[:-1] / sigmas[1:]
    assert near(ratios, ratios[0], 1e-3), tr(
        "neighbours have the same ratio; yours have {least:.3f} to {most:.3f}",
        least=float(ratios.min()), most=float(ratios.max()),
    )  # fmt: skip
    gaps = len(ratios)
    fewer, more = (_overlap((first / last) ** (1 / max(1, n)), D) for n in (gaps - 1, gaps + 1))
    assert fewer < 0.5 < more, tr(
        "in {D} dimensions your {levels} levels have gamma = {gamma:.3f}, an overlap of {overlap:.2f}; with one level "
        "fewer it is {fewer:.2f}, with one more {more:.2f}. The one with gamma next to that of an overlap of 0.5 is wanted",
        D=D, levels=len(sigmas), gamma=float(ratios[0]), overlap=_overlap(float(ratios[0]), D), fewer=fewer, more=more,
    )  # fmt: skip


def _check_size(eps: float, gamma: float, last: float, steps: int) -> None:
    def left(r: float) -> float:
        v = gamma**2
        for _ in range(steps):
            v = (1 - r) ** 2 * v + 2 * r
        return abs(v - 1)

    best = min((k / 4000 for k in range(1, 4000)), key=left)
    r = eps / last**2
    assert 0 < r < 1, tr(
        "eps / last^2 lies between 0 and 1; yours is {r:.4g}: eps is r times the square of the last sigma", r=r
    )
    assert left(r) < 1.02 * left(best) + 1e-6, tr(
        "with gamma = {gamma:.3f} and {steps} steps a level your eps = {eps:.3g} leaves the variance at {found:.4f} of the level's own; "
        "eps = {best:.3g} brings it to {expected:.4f}",
        gamma=gamma, steps=steps, eps=eps, found=1 + left(r), best=best * last**2, expected=1 + left(best),
    )  # fmt: skip


def _check_sample(sample: Any) -> None:
    sigmas, eps, steps, s2, asked = [2.0, 1.0, 0.5], 0.04, 3, 0.4**2, list[float]()

    def exact(x: Tensor, sigma: Tensor) -> Tensor:
        asked.append(float(sigma))
        return (1 - x) / (s2 + sigma**2)

    start = normal(0, 20_000, 2)
    found = states(sample(given(exact), start, sigmas, eps, steps), "sample", 11, (20_000, 2))
    order = [sigma for sigma in sigmas for _ in range(steps)]
    assert asked == [*order, 0.5], tr(
        "the score is asked {steps} times at each level, the largest first, and once more at the last; yours at {asked}",
        steps=steps, asked=asked,
    )  # fmt: skip
    assert torch.allclose(found[0], start, atol=1e-6), "the first state is the start itself"
    for k, sigma in enumerate(order):
        alpha = eps * sigma**2 / sigmas[-1] ** 2
        kept, before, after = 1 - alpha / (s2 + sigma**2), found[k], found[k + 1]
        mean, variance = 1 + kept * (float(before.mean()) - 1), kept**2 * float(before.var()) + 2 * alpha
        assert abs(float(after.mean()) - mean) < 0.03, tr(
            "in step {k}, at sigma {sigma:g} with alpha {alpha:g}, the mean goes to {mean:.3f}; yours to {found:.3f}. Here the score is "
            "multiplied by alpha, not by its half",
            k=k + 1, sigma=sigma, alpha=alpha, mean=mean, found=float(after.mean()),
        )  # fmt: skip
        assert near(after.var(), variance, 0.05), tr(
            "in step {k}, at sigma {sigma:g} with alpha {alpha:g}, the variance goes to {variance:.3f}; yours to {found:.3f}. The noise "
            "has variance 2 alpha, fresh in each step",
            k=k + 1, sigma=sigma, alpha=alpha, variance=variance, found=float(after.var()),
        )  # fmt: skip
    expected = found[-2] + 0.5**2 * (1 - found[-2]) / (s2 + 0.5**2)
    assert torch.allclose(found[-1], expected, atol=1e-4), (
        "the last state is the one before plus sigma_L^2 times its score, without fresh noise: the mean of clean data (Tweedie)"
    )


def figure(namespace: Namespace) -> Figure:
    """Thirty points from one digit with noise, by the answer's levels, step size and sampler."""
    centres, steps = digits()[0], 5
    sigmas, eps = namespace["plan"](centres, 0.1, steps)

    def score(x: Tensor, sigma: Tensor) -> Tensor:
        share = (-((x[:, None] - centres) ** 2).sum(-1) / (2 * sigma**2)).softmax(1)
        return (share @ centres - x) / sigma**2

    start = centres[:1] + float(sigmas[0]) * normal(0, 30, 64)
    made = namespace["sample"](given(score), start, sigmas, eps, steps)
    film = states(made, "sample", len(sigmas) * steps + 2, (30, 64))
    off = [float(torch.cdist(x, centres).amin(1).mean()) for x in film[-2:]]
    found = int((reached(film[-1]) > 0).sum())
    grey = (
        (film[[*range(0, len(film) - 2, 3), -2, -1]].clamp(0, 1) * 255).round().to(torch.uint8).reshape(-1, 30, 1, 8, 8)
    )
    name = tr(
        "{levels} levels from {first:.2f}: {found} of 10 digits found; {off:.2f} from the nearest one, denoised {denoised:.2f}",
        levels=len(sigmas), first=float(sigmas[0]), found=found, off=off[0], denoised=off[1],
    )  # fmt: skip
    framed = torch.nn.functional.pad(grey, (1, 1, 1, 1), value=128)
    return figures.frames({name: torch.stack([block(state, columns=10) for state in framed])})


PROGRAM = Exercise(
    "ncsnv2.program", "Levels and step size from the data", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "torch.cdist(images, images).max() is sigma_1. The overlap falls as gamma grows: halve an interval from 1 to 4 sixty times.",
        "Levels: gaps = round(log(first / last) / log(gamma)), which are gaps + 1 levels with the ratio (first / last) ** (1 / gaps).",
        "eps: try r = 0.0001, 0.0002, ... below 1; for each apply v = (1 - r)**2 * v + 2 * r to v = gamma**2, `steps` times. The best r times last**2 is eps.",
        "sample: two loops, and after them one more state, x + sigmas[-1]**2 * score(x, sigmas[-1]).",
    ),
)  # fmt: skip
