"""The variational bound on data whose likelihood is known, and its terms against brute force.

One-pixel "images" from a Gaussian: with the exact reverse chain the bound is the entropy; with the fixed variances it
exceeds it by what a closed form says.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sfumato.core.betas import cosine_betas, linear_betas
from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.exact import gaussian
from sfumato.core.likelihood import bound_term, prior_term, variational_bound
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import from_betas, like, strided
from sfumato.core.variances import ReverseVariance, fixed_large, fixed_small, learned_range
from sfumato.samplers.grids import respace

STD = 0.3
ENTROPY = 0.5 * math.log2(2 * math.pi * math.e * STD**2) - math.log2(2 / 255)  # bits of an 8-bit pixel


def data(n: int) -> Tensor:
    """n one-pixel 8-bit images, Gaussian to within a bin."""
    x = STD * torch.randn(n, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ((x.clamp(-1, 1) * 127.5 + 127.5).round() / 127.5 - 1)[:, None]


def process_of(betas: Tensor) -> GaussianDiffusion:
    return GaussianDiffusion(from_betas(betas))


def exact_denoiser(process: GaussianDiffusion) -> Denoise:
    return gaussian(torch.zeros(1, dtype=torch.float64), torch.full((1,), STD, dtype=torch.float64)).denoise(process)


def remaining(process: GaussianDiffusion, t: Tensor) -> Tensor:
    """Var(x_0 | x_t) for this Gaussian."""
    alpha, sigma = process.schedule.alpha_sigma(t)
    return STD**2 * sigma**2 / ((alpha * STD) ** 2 + sigma**2)


def right_std(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """The spread of the exact p(x_s | x_t): the posterior's, and what is not known about x_0."""
    _, of_x0, std = process.posterior_coefficients(t, s)
    return like((std**2 + of_x0**2 * remaining(process, t)).sqrt(), prediction.x)


@pytest.mark.parametrize("times", [strided(100, 100), strided(100, 10), respace(100, "10,5,2")])
def test_with_the_exact_reverse_chain_the_bound_is_the_entropy(times: Tensor) -> None:
    process = process_of(linear_betas(100, 1e-3, 0.2))
    x0 = data(20_000)
    found = variational_bound(process, exact_denoiser(process), right_std, x0, times)
    assert float(found.total.mean()) == pytest.approx(ENTROPY, abs=0.03)
    assert float(found.prior.mean()) < 1e-3


@pytest.mark.parametrize("std", [fixed_small, fixed_large])
def test_with_a_fixed_variance_each_term_has_its_closed_form(std: ReverseVariance) -> None:
    """E KL = log(p/q) + (q^2 + b^2 Var(x_0 | x_t)) / (2 p^2) - 1/2, with q, p the spreads and b the weight of x_0."""
    process = process_of(linear_betas(100, 1e-3, 0.2))
    x0 = data(20_000)
    times = strided(100, 20)
    found = variational_bound(process, exact_denoiser(process), std, x0, times)
    for i, (t, s) in enumerate(pairwise(times[:-1])):
        _, of_x0, q = process.posterior_coefficients(t, s)
        p = q if std is fixed_small else process.between(s, t).sigma
        nats = (p / q).log() + (q**2 + of_x0**2 * remaining(process, t)) / (2 * p**2) - 0.5
        assert float(found.terms[:, i].mean()) == pytest.approx(float(nats) / math.log(2), rel=0.05)


def test_the_head_of_a_learned_range_reaches_both_ends() -> None:
    process = process_of(cosine_betas(50))
    x0 = data(64)
    t = torch.arange(1, 65) % 50 + 1
    above = (t + 1).clamp(max=50)
    x = process.level(t, x0).noise(x0, torch.randn_like(x0))
    exact = exact_denoiser(process)(x, t)
    for head, fixed in ((-1.0, fixed_small), (1.0, fixed_large)):
        prediction = Prediction(exact.x, exact.level, exact.eps, exact.x0, torch.full_like(x, head))
        ours = bound_term(process, learned_range, prediction, x0, t, t - 1, above)
        theirs = bound_term(process, fixed, exact, x0, t, t - 1, above)
        inside = t > 1  # into clean data the official large variance is the small one, the range is not
        assert torch.allclose(ours[inside], theirs[inside], rtol=1e-4)


def test_a_batch_of_levels_equals_one_level_at_a_time() -> None:
    process = process_of(cosine_betas(50))
    x0, eps = data(50), torch.randn(50, 1, dtype=torch.float64)
    t = torch.arange(1, 51)
    above = (t + 1).clamp(max=50)
    prediction = exact_denoiser(process)(process.level(t, x0).noise(x0, eps), t)
    together = bound_term(process, fixed_large, prediction, x0, t, t - 1, above)
    for i in (0, 1, 7, 49):
        row = slice(i, i + 1)
        alone = exact_denoiser(process)(process.level(t[i], x0[row]).noise(x0[row], eps[row]), t[i])
        term = bound_term(process, fixed_large, alone, x0[row], t[i], t[i] - 1, above[i])
        assert torch.allclose(term, together[row], rtol=1e-6)


def test_gradients_are_finite_at_every_level() -> None:
    process = process_of(linear_betas(20, 1e-3, 0.3))
    x0 = data(20).float()
    t = torch.arange(1, 21)
    output = torch.zeros(20, 1, requires_grad=True)
    head = torch.zeros(20, 1, requires_grad=True)
    level = process.level(t, x0)
    x = level.noise(x0, torch.randn_like(x0))
    prediction = Prediction(x, level, output, level.x0(x, output), head)
    bound_term(process, learned_range, prediction, x0, t, t - 1, (t + 1).clamp(max=20)).sum().backward()
    assert output.grad is not None
    assert head.grad is not None
    assert output.grad.isfinite().all()
    assert head.grad.isfinite().all()
    assert (output.grad != 0).all()
    output.grad = None
    bound_term(process, learned_range, prediction.mean_detached(), x0, t, t - 1, (t + 1).clamp(max=20)).sum().backward()
    assert output.grad is None  # in the hybrid loss the bound does not move the mean


def test_rate_and_distortion_are_monotone_for_the_exact_model() -> None:
    process = process_of(linear_betas(100, 1e-3, 0.2))
    found = variational_bound(process, exact_denoiser(process), right_std, data(5000), strided(100, 25))
    assert (found.rate.mean(0).diff() > 0).all()
    assert (found.distortion.pow(2).mean(0)[-10:].diff() < 0).all()  # before, nothing is known yet
    expected = 127.5 * remaining(process, found.times[:-1]).sqrt()
    assert torch.allclose(found.distortion.pow(2).mean(0).sqrt(), expected, rtol=0.05)


def test_the_prior_knows_what_the_last_level_keeps() -> None:
    process = process_of(linear_betas(10, 0.01, 0.1))
    x0 = torch.tensor([[0.5], [-1.0]], dtype=torch.float64)
    alpha, sigma = (float(c) for c in process.schedule.alpha_sigma(torch.tensor(10)))
    nats = 0.5 * (sigma**2 + (alpha * x0[:, 0]) ** 2 - 1) - math.log(sigma)
    assert torch.allclose(prior_term(process, x0, torch.tensor(10)), nats / math.log(2))


@pytest.mark.parametrize("times", [torch.tensor([10, 0]), torch.tensor([10, 5, 1])])
def test_a_chain_needs_two_moves_and_an_end(times: Tensor) -> None:
    process = process_of(linear_betas(10, 0.01, 0.1))
    with pytest.raises(ValueError, match="two moves"):
        variational_bound(process, exact_denoiser(process), fixed_small, data(2), times)
