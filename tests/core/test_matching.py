"""Score matching on data whose score is known: what each loss is least at, what it differs by, and its gradients."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core import matching
from sfumato.core.continuous import VE, VP, SubVP
from sfumato.core.denoisers import predict_score
from sfumato.core.exact import GaussianMixture
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import from_sigmas

MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [1.0, 0.0]], dtype=torch.float64),
    torch.tensor([[0.4, 0.6], [0.5, 0.3]], dtype=torch.float64),
)


def test_the_loss_is_the_error_of_the_score_but_for_a_constant() -> None:
    """E ||s + eps / sigma||^2 = E ||s - score||^2 + const (Vincent 2011), over one set of noisy data."""
    torch.manual_seed(0)
    process = GaussianDiffusion(from_sigmas(torch.tensor([0.5])))
    x0, t = MIXTURE.sample(200_000), torch.tensor(1)
    eps = torch.randn_like(x0)
    x = process.level(t, x0).noise(x0, eps)
    truth = MIXTURE.denoise(process)(x, t).score

    def loss(score: Tensor) -> float:
        prediction = predict_score(score, x, t, process)
        return float(2 * matching.denoising(prediction, eps, torch.ones(()), matching.half_sum).mean())

    wrong = truth + torch.stack([0.3 * x[:, 0].sin(), 0.2 * x[:, 1]], dim=1)
    error = float((wrong - truth).square().sum(1).mean())
    assert loss(wrong) - loss(truth) == pytest.approx(error, rel=0.05)


def test_the_reductions_and_the_weights() -> None:
    x = torch.randn(3, 2, 4, 4)
    assert torch.allclose(matching.half_sum(x), 16 * per_image(x), atol=1e-5)
    process, t = GaussianDiffusion(from_sigmas(torch.tensor([0.1, 0.5, 2.0]))), torch.tensor([1, 2, 3])
    eps, score = torch.randn(2, 3, 2, 4, 4)
    prediction = predict_score(score, x, t, process)
    sigma = torch.tensor([0.1, 0.5, 2.0])
    for power in (0.0, 1.0, 2.0):
        loss = matching.denoising(prediction, eps, matching.anneal_weight(prediction.level, power), matching.half_sum)
        by_hand = 0.5 * ((score + eps / sigma[:, None, None, None]) ** 2).sum((1, 2, 3)) * sigma**power
        assert torch.allclose(loss, by_hand, rtol=1e-4)


@pytest.mark.parametrize("schedule", [VE(0.01, 5.0), VP(), SubVP()], ids=["VE", "VP", "sub-VP"])
def test_likelihood_weighting_adds_up_to_the_divergence(schedule: Any) -> None:
    """KL(p_0 || q_0) - KL(p_1 || q_1) is half the integral of g^2 E ||difference of scores||^2.

    Song et al. 2021b, theorem 1, for p and q Gaussian with variances a and b at time 0, by the trapezoidal rule.
    """
    a, b = 0.25, 0.36
    t = torch.linspace(1e-4, 1, 20_001, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    p, q = alpha**2 * a + sigma**2, alpha**2 * b + sigma**2
    g2 = matching.likelihood_weight(schedule, t, torch.zeros(len(t), 1, dtype=torch.float64))[:, 0]
    gained = torch.trapezoid(0.5 * g2 * p * (1 / p - 1 / q) ** 2, t)
    divergence = 0.5 * (p / q - 1 - (p / q).log())
    assert float(divergence[0] - divergence[-1]) == pytest.approx(float(gained), rel=1e-4)


# ---------------------------------------------------------------- sliced


def linear(A: Tensor) -> matching.Score:
    return lambda x: -x @ A.T


def test_along_every_axis_the_sliced_loss_is_the_implicit_one() -> None:
    """||s||^2 / 2 + tr grad s, whose trace is that of A."""
    A, x = torch.randn(3, 3), torch.randn(5, 3)
    axes = math.sqrt(3) * torch.eye(3)[:, None].expand(3, 5, 3)
    loss = matching.sliced(linear(A), x, axes, reduced=True)
    assert torch.allclose(loss, 0.5 * (x @ A.T).square().sum(1) - A.trace(), atol=1e-5)
    assert torch.allclose(matching.sliced(linear(A), x, axes), loss, atol=1e-4)


@pytest.mark.parametrize("directions", [matching.gaussian, matching.rademacher, matching.sphere])
@pytest.mark.parametrize("reduced", [False, True])
def test_random_directions_of_unit_variance_estimate_it(directions: matching.Directions, reduced: bool) -> None:
    torch.manual_seed(0)
    A, x = torch.tensor([[1.0, 0.3, 0.0], [0.2, 0.8, -0.5], [0.0, 0.1, 1.2]]), torch.randn(5, 3)
    v = directions(torch.randn(40_000, 5, 3))
    assert torch.allclose(v.square().mean(0), torch.ones(5, 3), atol=0.05)
    loss = matching.sliced_terms(lambda x: linear(A)(x), x, v[:400], reduced)
    assert loss[0].shape == loss[1].shape == (400, 5)
    s = -x @ A.T
    square = (s**2).sum(1).expand(40_000, 5) if reduced else (s * v).sum(2) ** 2
    by_formula = (square / 2 - torch.einsum("kbi,ij,kbj->kb", v, A, v)).mean(0)
    exact = 0.5 * (s**2).sum(1) - A.trace()
    assert torch.allclose(by_formula, exact, atol=0.1)
    assert torch.allclose((loss[0] + loss[1]).mean(0), (square / 2)[:400].mean(0) -
                          torch.einsum("kbi,ij,kbj->kb", v[:400], A, v[:400]).mean(0), atol=1e-4)  # fmt: skip


def test_directions_of_length_one_divide_the_loss_by_the_dimension() -> None:
    A, x, z = torch.randn(4, 4), torch.randn(3, 4), torch.randn(2, 3, 4)
    sphere, unit = (matching.sliced(linear(A), x, f(z)) for f in (matching.sphere, matching.unit))
    assert torch.allclose(sphere, 4 * unit, atol=1e-4)
    assert torch.allclose(matching.unit(z).norm(dim=2), torch.ones(2, 3))


def test_the_sliced_loss_is_least_at_the_true_variance() -> None:
    torch.manual_seed(0)
    x = 0.7 * torch.randn(20_000, 1)
    v = torch.ones(1, 20_000, 1)
    log_variance = torch.zeros((), requires_grad=True)
    for _ in range(60):
        loss = matching.sliced(lambda x, w=log_variance: -x / w.exp(), x, v).mean()
        (slope,) = torch.autograd.grad(loss, log_variance)
        log_variance = (log_variance - 0.3 * slope).detach().requires_grad_()
    assert float(log_variance.exp()) == pytest.approx(0.49, rel=0.03)


def test_an_energy_trains_through_two_backward_passes() -> None:
    """The gradient of the loss in the energy's parameter, against a finite difference."""
    x, v = torch.randn(6, 3, dtype=torch.float64), torch.randn(2, 6, 3, dtype=torch.float64)

    def loss(w: Tensor) -> Tensor:
        return matching.sliced(matching.score_of(lambda x: (w * x**4).sum(1) + (x[:, 0] * x[:, 1]).sin()), x, v).sum()

    w = torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(w), w)
    h = 1e-5
    with torch.no_grad():  # the losses make their own graph
        by_hand = (loss(w.detach() + h) - loss(w.detach() - h)) / (2 * h)
    assert float(slope) == pytest.approx(float(by_hand), rel=1e-6)


def test_the_annealed_loss_weighs_each_image_by_its_level() -> None:
    process, t = GaussianDiffusion(from_sigmas(torch.tensor([0.1, 2.0]))), torch.tensor([1, 2, 2])
    x, v = torch.randn(3, 1, 2, 2), torch.randn(2, 3, 1, 2, 2)
    loss = matching.annealed_sliced(lambda x: -x.sin(), x, process.level(t, x), v)
    plain = matching.sliced(lambda x: -x.sin(), x, v, reduced=True)
    assert torch.allclose(loss, plain * torch.tensor([0.01, 4.0, 4.0]))
