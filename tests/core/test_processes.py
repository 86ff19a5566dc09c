"""The forward process: marginals compose, and the posterior is Bayes' rule, for adjacent and for strided steps.

Predictions and losses are checked here too: all parameterisations say the same, and all weights are one weight.
"""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sfumato.core import GaussianDiffusion, Level, from_betas, from_sigmas, geometric_sigmas, losses
from sfumato.core import betas as B
from sfumato.core import continuous as C
from sfumato.core import schedules as S
from sfumato.core.denoisers import (
    Parameterization,
    predict_eps,
    predict_previous_mean,
    predict_score,
    predict_v,
    predict_x0,
    with_variance,
)
from sfumato.core.distributions import Gaussian, Uniform, discretised_log_prob
from sfumato.core.dpm2015.nonequilibrium import LearnedBetas, even_betas

PROCESSES = {
    "linear": GaussianDiffusion(from_betas(B.linear_betas(100, 1e-3, 0.2))),
    "cosine": GaussianDiffusion(from_betas(B.cosine_betas(100))),
    "exploding": GaussianDiffusion(from_sigmas(geometric_sigmas(100, 0.01, 50))),
    "sub-VP": GaussianDiffusion(C.SubVP()),
}
STEPS = [(100, 99), (60, 20), (2, 1)]


def times(process: GaussianDiffusion, t: int, s: int) -> tuple[Tensor, Tensor]:
    if isinstance(process.schedule, S.Table):
        return torch.tensor(t), torch.tensor(s)
    return torch.tensor(t / 100), torch.tensor(s / 100)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize(("t", "s"), STEPS)
def test_two_steps_make_one(name: str, t: int, s: int) -> None:
    """q(x_s | x_0) followed by q(x_t | x_s) is q(x_t | x_0)."""
    process = PROCESSES[name]
    t_, s_ = times(process, t, s)
    (alpha_s, sigma_s), (alpha_t, sigma_t) = process.schedule.alpha_sigma(s_), process.schedule.alpha_sigma(t_)
    step = process.between(s_, t_)
    assert torch.allclose(step.alpha * alpha_s, alpha_t)
    assert torch.allclose((step.alpha * sigma_s) ** 2 + step.sigma**2, sigma_t**2)


@pytest.mark.parametrize("name", PROCESSES)
@pytest.mark.parametrize(("t", "s"), STEPS)
def test_posterior_is_bayes_rule(name: str, t: int, s: int) -> None:
    """log q(x_s | x_t, x_0) = log q(x_t | x_s) + log q(x_s | x_0) - log q(x_t | x_0), at random points."""
    process = PROCESSES[name]
    t_, s_ = times(process, t, s)
    x0, x_s, x_t = (torch.randn(5, 3, dtype=torch.float64) for _ in range(3))
    step = process.between(s_, t_)
    joint = Gaussian(step.alpha * x_s, step.sigma).log_prob(x_t) + process.marginal(x0, s_).log_prob(x_s)
    expected = joint - process.marginal(x0, t_).log_prob(x_t)
    ours = process.posterior(x_t, x0, t_, s_).log_prob(x_s)
    assert torch.allclose(ours, expected, rtol=1e-6, atol=1e-6)


def test_posterior_ends_at_clean_data() -> None:
    x, x0 = torch.randn(2, 1, 4, 4), torch.randn(2, 1, 4, 4)
    posterior = PROCESSES["linear"].posterior(x, x0, torch.tensor(7), torch.tensor(0))
    assert torch.allclose(posterior.mean, x0)
    assert float(posterior.std) == 0


def test_priors() -> None:
    assert float(PROCESSES["linear"].prior((1, 1)).std) == 1
    assert float(PROCESSES["exploding"].prior((1, 1)).std) == pytest.approx(50)


# ---------------------------------------------------------------- predictions


@pytest.mark.parametrize("name", ["linear", "cosine", "exploding"])
def test_all_parameterisations_say_the_same(name: str) -> None:
    process, t = PROCESSES[name], torch.tensor([3, 50, 90])
    x0, eps = torch.randn(3, 2, 4, 4, dtype=torch.float64), torch.randn(3, 2, 4, 4, dtype=torch.float64)
    level = process.level(t, x0)
    x = level.noise(x0, eps)
    outputs: dict[Parameterization, Tensor] = {
        predict_eps: eps,
        predict_x0: x0,
        predict_v: level.v(x0, eps),
        predict_score: -eps / level.sigma,
        predict_previous_mean: process.posterior(x, x0, t, t - 1).mean,
    }
    for read, output in outputs.items():
        prediction = read(output, x, t, process)
        assert torch.allclose(prediction.x0, x0, atol=1e-7), read
        assert torch.allclose(prediction.eps, eps, atol=1e-7), read
        assert torch.allclose(prediction.score, -eps / level.sigma, atol=1e-5), read
        assert torch.allclose(prediction.v, level.v(x0, eps), atol=1e-7), read
        again = prediction.with_x0(prediction.x0).with_eps(prediction.eps)
        assert torch.allclose(again.x0, x0, atol=1e-7)


def test_a_variance_head_is_split_off() -> None:
    process, t, x = PROCESSES["linear"], torch.tensor([5]), torch.randn(1, 2, 4, 4)
    output = torch.randn(1, 4, 4, 4)
    prediction = with_variance(predict_eps)(output, x, t, process)
    assert torch.equal(prediction.eps, output[:, :2])
    assert prediction.variance is not None
    assert torch.equal(prediction.variance, output[:, 2:])
    with pytest.raises(ValueError, match="doubles the channels"):
        with_variance(predict_eps)(output[:, :3], x, t, process)


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize("read", [predict_eps, predict_x0, predict_v])
def test_one_weight_serves_every_parameterisation(read: Parameterization) -> None:
    """The error in x0 and v, as each is written down, is the weighted error in eps; so are the gradients."""
    process, t = PROCESSES["cosine"], torch.tensor([1, 20, 50, 97])
    x0, eps = torch.rand(4, 1, 3, 3).double() * 2 - 1, torch.randn(4, 1, 3, 3).double()
    level = process.level(t, x0)
    output = torch.randn(4, 1, 3, 3, dtype=torch.float64, requires_grad=True)
    prediction = read(output, level.noise(x0, eps), t, process)
    direct = {
        losses.eps_weight: (prediction.eps - eps) ** 2,
        losses.x0_weight: (prediction.x0 - x0) ** 2,
        losses.v_weight: (prediction.v - level.v(x0, eps)) ** 2,
    }
    for weight, error in direct.items():
        ours = losses.weighted(prediction, x0, eps, weight)
        written = losses.per_image(error)
        assert torch.allclose(ours, written, rtol=1e-8)
        gradients = [torch.autograd.grad(loss.sum(), output, retain_graph=True)[0] for loss in (ours, written)]
        assert torch.allclose(*gradients, rtol=1e-6)
    assert torch.allclose(losses.simple(prediction, eps), losses.per_image(direct[losses.eps_weight]))


def test_min_snr_is_x0_below_and_capped_above() -> None:
    noisy, clean = (Level(torch.tensor(a).double(), torch.tensor(s).double()) for a, s in ((0.1, 1.0), (1.0, 0.1)))
    weight = losses.min_snr(5.0)
    assert float(weight(noisy)) == pytest.approx(1.0)  # min(SNR, 5) / SNR in eps is 1 where SNR is small
    assert float(weight(clean)) == pytest.approx(5 / 100)


# ---------------------------------------------------------------- distributions


def test_kl_of_gaussians_against_a_quadrature() -> None:
    p, q = Gaussian(torch.tensor(0.3), torch.tensor(0.5)), Gaussian(torch.tensor(-1.0), torch.tensor(1.5))
    x = torch.linspace(-8, 8, 200_001, dtype=torch.float64)
    integrand = p.log_prob(x).exp() * (p.log_prob(x) - q.log_prob(x))
    assert float(p.kl(q)) == pytest.approx(float(torch.trapezoid(integrand, x)), rel=1e-5)
    assert float(p.kl(p)) == pytest.approx(0, abs=1e-7)


def test_no_noise_is_drawn_where_there_is_none() -> None:
    def never(x: Tensor) -> Tensor:
        raise AssertionError("noise was drawn")

    mean = torch.randn(3)
    assert Gaussian(mean, torch.zeros(())).sample(never) is mean


def test_the_decoder_is_a_distribution_over_256_values() -> None:
    values = torch.arange(256).double() / 127.5 - 1
    for mean, std in ((0.0, 0.1), (-1.3, 0.02), (0.98, 1.0)):
        decoder = Gaussian(torch.tensor(mean).double(), torch.tensor(std).double())
        assert float(discretised_log_prob(decoder, values).exp().sum()) == pytest.approx(1, abs=1e-6)


def test_uniform_noise_is_uniform_and_its_divergence_is_right() -> None:
    uniform = Uniform((20_000, 2), -1.0, 3.0)
    x = uniform.sample()
    assert x.min() >= -1
    assert x.max() <= 3
    assert float(x.mean()) == pytest.approx(1, abs=0.05)
    assert float(x.var()) == pytest.approx(16 / 12, rel=0.03)
    other = Gaussian(torch.full((20_000, 2), 0.5), torch.tensor(2.0))
    sampled = -math.log(4.0) - other.log_prob(x).mean()
    assert float(uniform.kl(other).mean()) == pytest.approx(float(sampled), abs=0.02)


@pytest.mark.parametrize("schedule", [from_betas(B.cosine_betas(50)), C.VP(), C.LinearFlow()])
def test_numbers_of_single_times_are_computed_once_and_are_those_of_the_schedule(schedule: S.Schedule) -> None:
    process, plain = GaussianDiffusion(schedule), GaussianDiffusion(schedule)
    plain.fixed = False
    times = schedule.times(7)
    with torch.inference_mode():
        for t, s in pairwise(times):
            for name, given in (("alpha_sigma", (t,)), ("between", (s, t)), ("posterior_coefficients", (t, s))):
                first, again, alone = (getattr(p, name)(*given) for p in (process, process, plain))
                assert again is first
                assert all(map(torch.equal, first, alone))
    assert plain.known == {}
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    (scale * process.level(times[1], torch.zeros(1, 2)).alpha).backward()  # no tensor of inference mode
    assert scale.grad is not None


def test_a_level_and_a_time_of_the_same_number_are_kept_apart_and_learned_levels_are_not_kept() -> None:
    process = GaussianDiffusion(from_betas(B.linear_betas(100, 1e-3, 0.2)))
    whole, real = (process.alpha_sigma(torch.tensor(7, dtype=kind)) for kind in (torch.long, torch.float64))
    assert all(map(torch.equal, whole, process.schedule.alpha_sigma(torch.tensor(7))))
    assert all(map(torch.equal, real, process.schedule.alpha_sigma(torch.tensor(7.0, dtype=torch.float64))))
    learned = GaussianDiffusion(LearnedBetas(even_betas(10, 1e-3)))
    before = learned.alpha_sigma(torch.tensor(5))[1].item()
    with torch.no_grad():
        next(learned.parameters()).add_(1)
    assert learned.alpha_sigma(torch.tensor(5))[1].item() != before


def test_a_remembered_level_still_has_its_derivative_in_time() -> None:
    process, t = GaussianDiffusion(C.VP()), torch.tensor(0.3, dtype=torch.float64, requires_grad=True)
    process.alpha_sigma(t.detach())
    (slope,) = torch.autograd.grad(process.alpha_sigma(t)[0], t)
    around = torch.tensor([0.3 - 1e-6, 0.3 + 1e-6], dtype=torch.float64)
    expected = process.schedule.alpha_sigma(around)[0].diff() / 2e-6
    torch.testing.assert_close(slope, expected[0], rtol=1e-6, atol=0)
