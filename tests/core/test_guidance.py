"""Guidance on a Gaussian mixture, where the classifier is Bayes' rule and the guided distribution is known."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from sfumato.core.betas import cosine_betas
from sfumato.core.exact import GaussianMixture, gaussian
from sfumato.core.guidance import (
    classifier_free,
    classifier_gradient,
    clipped,
    drop_labels,
    score_shifted,
)
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import descend, finish
from sfumato.core.schedules import from_betas, strided
from sfumato.core.times import LossSecondMoment
from sfumato.samplers.ancestral import AncestralStep
from sfumato.samplers.ddim import DDIMStep

PROCESS = GaussianDiffusion(from_betas(cosine_betas(1000)))
MEANS = torch.tensor([[1.5, 0.5], [-1.0, -1.5]], dtype=torch.float64)
STDS = torch.tensor([[0.3, 0.6], [0.5, 0.2]], dtype=torch.float64)
MIXTURE = GaussianMixture(torch.tensor([0.7, 0.3], dtype=torch.float64), MEANS, STDS)


def classify(x: Tensor, t: Tensor) -> Tensor:
    """Bayes' rule: the exact p(k | x_t), as logits."""
    return MIXTURE.responsibilities(x, PROCESS.level(t, x)).clamp(min=1e-300).log()


def start(n: int) -> Tensor:
    return torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["score shift of DDIM", "mean shift of ancestral steps"])
@pytest.mark.parametrize("k", [0, 1])
def test_a_classifier_leads_to_the_asked_component_with_its_spread(kind: str, k: int) -> None:
    y = torch.full((2000,), k)
    gradient = classifier_gradient(classify, y)
    denoise, times = MIXTURE.denoise(PROCESS), strided(1000, 500)
    torch.manual_seed(0)
    if kind.startswith("score"):
        samples = finish(start(2000), descend(DDIMStep(PROCESS, score_shifted(denoise, gradient)), times))
    else:
        kernel = AncestralStep(PROCESS, denoise, gradient=gradient, above=times[-3])
        samples = finish(start(2000), descend(kernel, times))
    assert torch.allclose(samples.mean(0), MEANS[k], atol=0.05)
    assert torch.allclose(samples.std(0), STDS[k], rtol=0.12)


def test_the_score_shift_of_the_exact_classifier_is_the_components_own_score() -> None:
    """log p(y | x) + log p(x) = log p(x | y) + constant (Bayes)."""
    t, x = torch.tensor(400), start(50)
    guided = score_shifted(MIXTURE.denoise(PROCESS), classifier_gradient(classify, torch.zeros(50, dtype=torch.long)))(
        x, t
    )
    alone = gaussian(MEANS[0], STDS[0]).denoise(PROCESS)(x, t)
    assert torch.allclose(guided.eps, alone.eps, atol=1e-6)
    assert torch.allclose(guided.x0, alone.x0, atol=1e-6)
    assert torch.allclose(guided.score, alone.score, atol=1e-5)


def test_gradients_are_taken_inside_inference_mode_too() -> None:
    with torch.inference_mode():
        gradient = classifier_gradient(classify, torch.zeros(4, dtype=torch.long))(start(4), torch.tensor(300))
    outside = classifier_gradient(classify, torch.zeros(4, dtype=torch.long), scale=2.0)(start(4), torch.tensor(300))
    assert torch.allclose(2 * gradient, outside)


def test_the_move_into_clean_data_is_shifted_only_where_the_level_above_is_known() -> None:
    x, t, s = start(3), torch.tensor(1), torch.tensor(0)
    up = torch.ones_like(x)
    kernel = AncestralStep(PROCESS, MIXTURE.denoise(PROCESS))
    guided = replace(kernel, gradient=lambda x, t: up)
    plain = kernel(x, t, s).to
    assert torch.equal(guided(x, t, s).to.mean, plain.mean)
    shifted = replace(guided, above=torch.tensor(2))(x, t, s).to
    variance = PROCESS.posterior_coefficients(torch.tensor(2), torch.tensor(1))[2] ** 2
    assert torch.allclose(shifted.mean - plain.mean, variance * up)
    assert float(shifted.std) == 0  # and still without noise


def test_classifier_free_guidance_goes_from_unconditional_through_conditional_beyond() -> None:
    t, x = torch.tensor(500), start(20)
    conditional, unconditional = gaussian(MEANS[0], STDS[0]).denoise(PROCESS), MIXTURE.denoise(PROCESS)
    eps = {scale: classifier_free(conditional, unconditional, scale)(x, t).eps for scale in (0.0, 1.0, 3.0)}
    assert torch.allclose(eps[0.0], unconditional(x, t).eps)
    assert torch.allclose(eps[1.0], conditional(x, t).eps)
    assert torch.allclose(eps[3.0], 3 * conditional(x, t).eps - 2 * unconditional(x, t).eps)
    guided = classifier_free(conditional, unconditional, 3.0)(x, t)
    assert torch.allclose(guided.level.noise(guided.x0, guided.eps), x)  # one prediction in two forms


def test_labels_are_dropped_at_the_asked_rate_and_image_by_image() -> None:
    y = torch.arange(4000) % 7
    hidden = drop_labels(y, 0.2, 7, ImageNoise(3, range(4000))) == 7
    assert float(hidden.double().mean()) == pytest.approx(0.2, abs=4 * math.sqrt(0.2 * 0.8 / 4000))
    part = drop_labels(y[100:150], 0.2, 7, ImageNoise(3, range(100, 150))) == 7
    assert torch.equal(part, hidden[100:150])


def test_importance_sampling_is_unbiased_and_remembers() -> None:
    times = LossSecondMoment(5, history=2, uniform=0.1)
    true = torch.tensor([4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    assert torch.equal(times.probabilities, torch.full((5,), 0.2, dtype=torch.float64))
    for _ in range(3):
        times.update(torch.arange(1, 6), true)
    times.update(torch.tensor([1]), torch.tensor([float("nan")]))  # forgotten
    assert torch.allclose(times.probabilities, 0.9 * true / true.sum() + 0.02)
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    t, weight = times.draw(u)
    assert float((weight * true[t - 1]).mean()) == pytest.approx(float(true.mean()), rel=1e-3)
    again = LossSecondMoment(5, history=2, uniform=0.1)
    again.load_state_dict(times.state_dict())
    assert torch.equal(again.probabilities, times.probabilities)
    with pytest.raises(ValueError, match="levels"):
        LossSecondMoment(4, history=2).load_state_dict(times.state_dict())


def test_clipping_keeps_eps_consistent() -> None:
    denoise = gaussian(torch.full((2,), 3.0), torch.full((2,), 0.1)).denoise(PROCESS)
    x, t = torch.randn(4, 2), torch.tensor(300)
    prediction = clipped(denoise)(x, t)
    assert float(prediction.x0.max()) <= 1
    assert torch.allclose(prediction.level.noise(prediction.x0, prediction.eps), x, atol=1e-5)
