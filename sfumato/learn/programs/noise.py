"""The program of the lesson on noise: the best denoiser of a set of points, and the ancestral sampler on top of it."""

from __future__ import annotations

import torch

from sfumato.claims.toys import ring
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import given, near, normal, states, tensor

TASK = r"""A point $x = x_0 + \sigma\epsilon$ came from one of the rows of `data` (n, 2), all equally likely. Write

- `denoise(x, sigma, data)`: $E[x_0 \mid x]$ for every row of `x` (N, 2), that is the mean of the data, each weighted by
  $\exp(-\|x - x_0\|^2 / 2\sigma^2)$. It must work for $\sigma = 0.01$ too.
- `sample(denoise, x, sigmas)`: from `x` at the level `sigmas[0]` down to the last one, which is 0. `denoise(x, sigma)` is given. From
  $\sigma$ to the next smaller $\tau$, with $\hat x_0$ the denoiser's answer, draw
  $$x_\tau \sim N\!\left(\hat x_0 + \tfrac{\tau^2}{\sigma^2}(x - \hat x_0),\ \ \tfrac{\tau^2(\sigma^2-\tau^2)}{\sigma^2}\right)$$
  Give back the list of all states, the start first.

The check knows two points, where the denoiser is a tanh, and one Gaussian, whose variance it follows through your steps."""

STUB = '''def denoise(x, sigma, data):
    """x (N, 2), data (n, 2) -> (N, 2)"""
    ...


def sample(denoise, x, sigmas):
    """x (N, 2) at the level sigmas[0] -> a list of len(sigmas) states"""
    ...
'''

SOLUTION = """def denoise(x, sigma, data):
    distance = ((x[:, None] - data[None]) ** 2).sum(-1)  # (N, n)
    weight = torch.softmax(-distance / (2 * sigma**2), dim=1)
    return weight @ data


def sample(denoise, x, sigmas):
    states = [x]
    for sigma, tau in zip(sigmas[:-1], sigmas[1:]):
        x0 = denoise(x, sigma)
        mean = x0 + (tau / sigma) ** 2 * (x - x0)
        std = tau / sigma * (sigma**2 - tau**2) ** 0.5
        x = mean + std * torch.randn_like(x)
        states.append(x)
    return states
"""


def check(namespace: Namespace) -> None:
    """The tanh of two points, small noise, and the variance of every state for Gaussian data."""
    denoise, sample = wanted(namespace, "denoise"), wanted(namespace, "sample")
    at = torch.tensor([0.6, -0.8], dtype=torch.float64)  # two points, at +-a with |a| = 1
    x = normal(0, 7, 2)
    for sigma in (0.5, 1.0, 4.0):
        found = tensor(denoise(x, sigma, torch.stack([at, -at])), "denoise", (7, 2))
        expected = at * torch.tanh(x @ at / sigma**2)[:, None]
        assert torch.allclose(found, expected, atol=1e-4), tr(
            "of two points a and -a the best guess is a tanh(a.x / sigma^2); with sigma {sigma:g} yours is off by "
            "{found:.3g}. The exponent is minus the squared distance over 2 sigma^2",
            sigma=sigma,
            found=float((found - expected).abs().max()),
        )
    try:
        found = tensor(denoise(at[None] * 1.5, 0.01, torch.stack([at, -at])), "denoise", (1, 2))
    except AssertionError:
        raise AssertionError(
            "with sigma 0.01 all your weights are 0: subtract the largest exponent (softmax does)"
        ) from None
    assert torch.allclose(found, at[None], atol=1e-4), "with next to no noise the guess is the nearest point"

    sigmas, s2 = [4.0, 2.0, 1.0, 0.5, 0.0], 0.7**2  # data N(1, s2) in each coordinate: the denoiser is linear
    start = 1 + (s2 + 16) ** 0.5 * normal(1, 20_000, 2)
    asked: list[float] = []

    def exact(x: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        asked.append(float(sigma))
        return (s2 * x + sigma**2) / (s2 + sigma**2)

    found = states(sample(given(exact), start, sigmas), "sample", len(sigmas), (20_000, 2))
    assert asked == sigmas[:-1], tr(
        "the denoiser is asked once at each level but the last: {sigmas}, yours at {asked}",
        sigmas=sigmas[:-1],
        asked=asked,
    )
    variance = s2 + 16
    for k in range(1, len(sigmas)):
        sigma2, tau2 = sigmas[k - 1] ** 2, sigmas[k] ** 2
        linear = s2 / (s2 + sigma2)
        variance = (linear + tau2 / sigma2 * (1 - linear)) ** 2 * variance + tau2 * (sigma2 - tau2) / sigma2
        assert near(float(found[k].var()), variance, 0.04), tr(
            "after step {k} (from {before:g} to {after:g}) Gaussian data must have variance {variance:.3f}; "
            "yours have {found:.3f}",
            k=k,
            before=sigmas[k - 1],
            after=sigmas[k],
            variance=variance,
            found=float(found[k].var()),
        )
    assert abs(float(found[-1].mean()) - 1) < 0.03, tr(
        "the samples' mean is 1 here, yours {found:.2f}", found=float(found[-1].mean())
    )
    assert torch.allclose(found[0], start, atol=1e-6), "the first state is the start itself"


def figure(namespace: Namespace) -> Figure:
    """The answer's own denoiser, of 60 points of the lesson's data, with its own sampler."""
    data = ring().sample(60, torch.Generator().manual_seed(1)).float()
    sigmas = [2.0 * 0.9**k for k in range(50)] + [0.0]
    made = namespace["sample"](lambda x, s: namespace["denoise"](x, s, data), 2.1 * normal(2, 300, 2).float(), sigmas)
    return figures.scrubber({"your sampler, on 60 points": states(made, "sample", 51, (300, 2))}, data.double())


PROGRAM = Exercise(
    "noise.program", "The best denoiser, and a sampler", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "x[:, None] - data[None] has shape (N, n, 2): the difference of every noisy point to every data point.",
        "torch.softmax(exponents, dim=1) makes weights that sum to 1 over the data and never overflows. The guess is "
        "weights @ data.",
        "In the loop: x0 = denoise(x, sigma), then the mean as it stands above, then plus the square root of the variance "
        "times torch.randn_like(x). At tau = 0 both terms vanish and x is x0.",
    ),
)  # fmt: skip
