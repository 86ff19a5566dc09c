"""Multiplication with another distribution: products against closed forms and brute force, on any Gaussian model."""

from __future__ import annotations

import math

import pytest
import torch

from sfumato.core.betas import linear_betas
from sfumato.core.distributions import Gaussian
from sfumato.core.dpm2015.binomial import Bernoulli
from sfumato.core.dpm2015.products import Climbing, Known, Multiplied, Observed, Tossed, always, fading
from sfumato.core.exact import gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import descend, finish
from sfumato.core.schedules import from_betas
from sfumato.samplers.ancestral import AncestralStep

S = torch.tensor(3)


def test_a_product_of_gaussians_is_bayes_rule() -> None:
    """log of the product is the sum of the logs, up to one constant for all x."""
    torch.manual_seed(0)
    step = Gaussian(torch.randn(4, 3, dtype=torch.float64), torch.rand(4, 3, dtype=torch.float64) + 0.1)
    y = torch.randn(3, dtype=torch.float64)
    for power in (always, fading(10)):
        product = Observed(y, 0.7, power)(step, S)
        a, b = torch.randn(2, 4, 3, dtype=torch.float64)
        r = [float(power(S)) * Gaussian(y, torch.tensor(0.7)).log_prob(x) for x in (a, b)]
        ours = product.log_prob(a) - product.log_prob(b)
        assert torch.allclose(ours, step.log_prob(a) + r[0] - step.log_prob(b) - r[1])


def test_the_slope_of_a_gaussian_moves_the_mean_as_far_as_the_product_where_the_step_is_small() -> None:
    """To first order in the step's variance the two forms agree."""
    mean, y = torch.randn(5, 2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    errors = []
    for std in (0.1, 0.05):
        step = Gaussian(mean, torch.tensor(std, dtype=torch.float64))
        climbed = Climbing(lambda x: -0.5 * (x - y).square().sum(1))(step, S)
        errors.append((climbed.mean - Observed(y, 1.0)(step, S).mean).abs().max())
    assert math.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.1)  # the variance squared


def test_what_is_known_stays_and_the_rest_does_not() -> None:
    known = torch.tensor([True, False])
    product = Known(torch.ones(4, 2), known)(Gaussian(torch.zeros(4, 2), torch.tensor(0.5)), S)
    x = product.sample()
    assert torch.equal(x[:, 0], torch.ones(4))
    assert (x[:, 1] != 0).all()
    bits = Known(torch.ones(4, 2), known)(Bernoulli(torch.full((4, 2), 0.3)), S)
    assert torch.equal(bits.p[0], torch.tensor([1, 0.3]))


def test_bits_multiply_as_in_the_table() -> None:
    b, d = torch.tensor([[0.2, 0.9, 0.5]]), torch.tensor([[0.7, 0.5, 1.0]])
    brute = torch.stack([(1 - b) * (1 - d), b * d])
    assert torch.allclose(Tossed(d)(Bernoulli(b), S).p, (brute / brute.sum(0))[1])
    with pytest.raises(ValueError, match="rules out"):
        Tossed(torch.ones(1, 3))(Bernoulli(torch.zeros(1, 3)), S)
    with pytest.raises(ValueError, match="between 0 and 1"):
        Tossed(torch.tensor(1.5))


def test_an_observed_gaussian_is_denoised_to_its_posterior() -> None:
    """Data N(m, s^2), r fading in with the steps, on an ordinary DDPM chain: near the posterior of Bayes' rule.

    Section 2.5 calls it approximate: r slowly varying against the reverse step. The order of the error is checked.
    """
    torch.manual_seed(0)
    m, s, y, noise = 1.0, 0.5, 0.0, 1.0
    exact_variance = 1 / (1 / s**2 + 1 / noise**2)
    exact_mean = exact_variance * (m / s**2 + y / noise**2)
    process = GaussianDiffusion(from_betas(linear_betas(200, 5e-4, 0.1)))
    data = gaussian(torch.tensor([m], dtype=torch.float64), torch.tensor([s], dtype=torch.float64))
    kernel = AncestralStep(process, data.denoise(process))
    x = torch.randn(20_000, 1, dtype=torch.float64)
    times = torch.arange(200, -1, -1)
    plain = finish(x, descend(kernel, times))
    x = finish(x, descend(Multiplied(kernel, Observed(torch.tensor([[y]]), noise)), times))
    assert abs(plain.mean() - m) < 0.02
    assert abs(x.mean() - exact_mean) < abs(m - exact_mean)
    assert x.std() < plain.std()


@pytest.mark.parametrize("shape", [(3, 4), (2, 2, 2), (5,)])
def test_a_mask_or_an_observation_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    x0 = torch.zeros(2, 2)
    with pytest.raises(ValueError, match="does not fit"):
        Known(x0, torch.zeros(shape, dtype=torch.bool))
    with pytest.raises(ValueError, match="does not fit"):
        Observed(torch.zeros(shape), 1.0)(Gaussian(x0, torch.tensor(1.0)), S)


def test_noise_of_nothing_and_masks_of_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="above 0"):
        Observed(torch.zeros(1), 0.0)
    with pytest.raises(ValueError, match="true or false"):
        Known(torch.zeros(2), torch.ones(2))


def test_numbers_stay_float64_where_the_images_are() -> None:
    """A Python number, as the deviation of an observation, is no float32 on the way."""
    step = Gaussian(torch.zeros(1, 1, dtype=torch.float64), torch.ones((), dtype=torch.float64))
    product = Observed(torch.ones(1, 1, dtype=torch.float64), 0.7)(step, S)
    assert product.mean.item() == pytest.approx(1 / 1.49, rel=1e-14)
    assert product.std.item() == pytest.approx((0.49 / 1.49) ** 0.5, rel=1e-14)
