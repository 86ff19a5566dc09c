"""Data whose denoiser is known in closed form: the bench itself, against gradients and sums."""

from __future__ import annotations

import torch

from sfumato.core import VP, GaussianDiffusion, GaussianMixture


def test_exact_mixture_obeys_tweedie() -> None:
    """The denoiser's score is the gradient of its own log density, and x0 follows from it."""
    means = torch.tensor([[-1.0, 0.5], [2.0, 0.0]])
    mixture = GaussianMixture(torch.tensor([0.3, 0.7]), means, torch.full((2, 2), 0.4))
    process = GaussianDiffusion(VP())
    t = torch.tensor(0.4)
    x = torch.randn(16, 2, requires_grad=True)
    level = process.level(t, x)
    (score,) = torch.autograd.grad(mixture.log_prob(x, level).sum(), x)
    prediction = mixture.denoise(process)(x.detach(), t)
    assert torch.allclose(prediction.score, score, atol=1e-4)
    assert torch.allclose(level.x0(x.detach(), prediction.eps), prediction.x0, atol=1e-4)


def test_exact_mixture_against_a_quadrature() -> None:
    """E[x_0 | x_t] by summing over a fine grid of x_0."""
    mixture = GaussianMixture(torch.tensor([0.4, 0.6]).double(), torch.tensor([[-1.0], [1.5]]).double(),
                              torch.tensor([[0.2], [0.5]]).double())  # fmt: skip
    process, t = GaussianDiffusion(VP()), torch.tensor(0.3)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    level = process.level(t, x)
    x0 = torch.linspace(-6, 6, 40_001, dtype=torch.float64)[:, None]
    prior = mixture.log_prob(x0).exp()
    likelihood = torch.exp(-0.5 * ((x - level.alpha * x0.T) / level.sigma) ** 2)
    expected = (likelihood * prior * x0[:, 0]).sum(1) / (likelihood * prior).sum(1)
    assert torch.allclose(mixture.denoise(process)(x, t).x0[:, 0], expected, atol=1e-6)
