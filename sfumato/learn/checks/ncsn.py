"""The exercises of the lesson on NCSN (Song & Ermon 2019)."""

from __future__ import annotations

from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_target(namespace: dict[str, Any]) -> None:
    target = wanted(namespace, "target")
    for sigma in (0.1, 1.0, 5.0):
        generator = torch.Generator().manual_seed(0)
        x0 = torch.randn(6, 3, generator=generator, dtype=torch.float64)
        x = (x0 + sigma * torch.randn(6, 3, generator=generator, dtype=torch.float64)).requires_grad_()
        log_q = -0.5 * ((x - x0) / sigma).square().sum()
        (expected,) = torch.autograd.grad(log_q, x)
        found = target(x.detach(), x0, sigma)
        assert torch.allclose(found, expected, atol=1e-9), tr(
            "with sigma = {sigma:g}, automatic differentiation of log q(x | x_0) gives {expected:.4f} first; yours "
            "gives {found:.4f}. It points from the noisy point back to the clean one",
            sigma=sigma,
            expected=expected[0, 0],
            found=float(found[0, 0]),
        )


def _check_langevin(namespace: dict[str, Any]) -> None:
    step = wanted(namespace, "langevin")
    x, score, z = (torch.tensor(v, dtype=torch.float64) for v in ([1.0, -2.0], [-1.0, 0.5], [0.3, 0.4]))
    still = step(x, score, 0.0, z)
    assert torch.allclose(still, x), "a step of size 0 goes nowhere"
    followed = (step(x, score, 0.1, torch.zeros_like(z)) - x) / score
    assert torch.allclose(followed, torch.full_like(x, 0.1)), tr(
        "without noise a step of size 0.1 goes 0.1 times the score; yours goes {followed:.4g} times",
        followed=float(followed[0]),
    )
    variance = torch.tensor(0.2, dtype=torch.float64)
    for _ in range(4000):  # a standard normal distribution must stay one: var -> (1 - d)^2 var + noise^2
        d = 0.01
        drift = step(torch.ones((), dtype=torch.float64), -torch.ones((), dtype=torch.float64), d, torch.zeros(()))
        noise = step(torch.zeros((), dtype=torch.float64), torch.zeros(()), d, torch.ones((), dtype=torch.float64))
        variance = drift**2 * variance + noise**2
    assert abs(float(variance) - 1) < 0.02, tr(
        "followed for long on N(0, 1), whose score is -x, small steps must end with variance 1; yours end at "
        "{variance:.3f}. The noise has standard deviation sqrt(2 d)",
        variance=float(variance),
    )


def _check_sizes(namespace: dict[str, Any]) -> None:
    size = wanted(namespace, "size")
    sigmas, eps = [20.0, 5.0, 1.0, 0.1], 1e-3
    expected = [eps * (sigma / 0.1) ** 2 for sigma in sigmas]
    found = [float(size(sigma, 0.1, eps)) for sigma in sigmas]
    ratios = [d / sigma / (2 * d) ** 0.5 for d, sigma in zip(found, sigmas, strict=True)]  # |d score| to |noise|
    assert max(ratios) < 1.001 * min(ratios), tr(
        "drift and noise of a step must be in the same proportion at every level (section 4.3), as |score| is about "
        "1/sigma; with yours it is {noisiest:.3g} at sigma 20 and {cleanest:.3g} at sigma 0.1",
        noisiest=ratios[0],
        cleanest=ratios[-1],
    )
    assert all(abs(a / b - 1) < 1e-5 for a, b in zip(found, expected, strict=True)), (
        "at the smallest sigma the step is eps itself"
    )


EXERCISES = (
    Exercise(
        "ncsn.1",
        "What denoising score matching aims at",
        r"""A clean point `x0` became `x` $= x_0 + \sigma\epsilon$. Write the gradient of $\log q(x \mid x_0)$ with respect to $x$. The check
differentiates automatically.""",
        "def target(x, x0, sigma):\n    return x0 - x\n",
        "def target(x, x0, sigma):\n    return (x0 - x) / sigma**2\n",
        _check_target,
    ),
    Exercise(
        "ncsn.2",
        "One step of Langevin dynamics",
        r"""Follow the score by `d`, and add the right amount of the normal noise `z`. The check follows the variance of
N(0, 1) through thousands of your steps.""",
        "def langevin(x, score, d, z):\n    return x + d * score\n",
        "def langevin(x, score, d, z):\n    return x + d * score + math.sqrt(2 * d) * z\n",
        _check_langevin,
        version=2,
    ),
    Exercise(
        "ncsn.3",
        "A planted bug",
        r"""The step size at a level, from `sigma`, the smallest sigma `last`, and `eps` (algorithm 1). With this version, samples drift at
noisy levels and never settle. Fix it.""",
        "def size(sigma, last, eps):\n    return eps * sigma / last\n",
        "def size(sigma, last, eps):\n    return eps * (sigma / last) ** 2\n",
        _check_sizes,
    ),
)
