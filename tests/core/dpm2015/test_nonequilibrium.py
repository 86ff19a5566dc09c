"""The bound K against closed forms and brute force, for numbers and for bits; learned betas; schedules and the edge."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.core.betas import jsd_betas
from sfumato.core.denoisers import Denoiser
from sfumato.core.distributions import Gaussian
from sfumato.core.dpm2015 import nonequilibrium as noneq
from sfumato.core.dpm2015.beliefs import BelievedStep, Stay, of_bits, of_gaussians
from sfumato.core.dpm2015.binomial import Bernoulli, BinomialDiffusion, FlipStep, believe_exactly, coin_entropy, states
from sfumato.core.exact import gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Past, Step
from sfumato.core.schedules import from_betas
from sfumato.core.variances import fixed_small
from sfumato.samplers.ancestral import AncestralStep

T = 30


def normal_chain(betas: Tensor, std: float) -> noneq.Chain:
    """Data N(0, std^2) with the exact reverse steps q(x_s | x_t)."""
    process = GaussianDiffusion(from_betas(betas))

    def kernel(x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        alpha_s, sigma_s = process.schedule.alpha_sigma(s)
        step = process.between(s, t)
        before = (alpha_s * std) ** 2 + sigma_s**2  # of x_s
        after = step.alpha**2 * before + step.sigma**2
        gain = step.alpha * before / after
        spread = (before * step.sigma**2 / after).sqrt()
        as_x = [c.reshape(-1, 1) if c.ndim else c for c in (gain, spread)]
        return Step(Gaussian(as_x[0] * x, as_x[1]), None)

    return noneq.Chain(process, kernel, len(betas))


@pytest.mark.parametrize("std", [0.3, 1.0])
def test_K_of_the_exact_model_is_minus_the_entropy_of_level_1(std: float) -> None:
    """Up to what x_T still knows of x_0, KL(q(x_T) || prior), and its second moment, both computed here."""
    chain = normal_chain(noneq.published_betas(T, 0.01), std)
    torch.manual_seed(0)
    x0 = std * torch.randn(20_000, 1, dtype=torch.float64)
    bound = chain.lower_bound(x0)
    process = chain.process
    assert isinstance(process, GaussianDiffusion)
    alpha, sigma = process.schedule.alpha_sigma(torch.tensor([1, T]))
    first, last = ((alpha * std) ** 2 + sigma**2).tolist()
    # sum of divergences: H(x_T | x_0) - H(x_1 | x_0) - H(x_T) + H(x_1), so that K = H(x_T) - H_p(x_T) - H(x_1)
    expected = 0.5 * math.log2(last) - 0.5 * math.log2(2 * math.pi * math.e * first)
    K = bound.K
    assert K.mean().item() == pytest.approx(expected, abs=4 * K.std().item() / 20_000**0.5)
    if std == 1:
        assert K.mean().item() == pytest.approx(noneq.gaussian_null(1), abs=0.02)


def test_one_level_of_each_estimates_the_sum_over_all() -> None:
    chain = normal_chain(noneq.published_betas(T, 0.01), 0.5)
    torch.manual_seed(0)
    x0 = 0.5 * torch.randn(30_000, 2, dtype=torch.float64)
    t = torch.randint(2, T + 1, (len(x0),))
    nats = chain.objective(x0, t)
    assert -nats.mean().item() / math.log(2) == pytest.approx(chain.lower_bound(x0[:5000]).K.mean().item(), abs=0.1)
    more = chain.objective(x0[:1], t[:1], lambda x: x * 0, terms=T) - chain.objective(x0[:1], t[:1], lambda x: x * 0)
    assert more.item() == pytest.approx(chain.divergence(x0[:1], t[:1], lambda x: x * 0).item())


@pytest.mark.parametrize("edge", [0, 1])
def test_K_of_bits_with_the_exact_reverse_by_summing_over_all_states(edge: int) -> None:
    """The bound's expectation over every x_t of a chain of 3 bits, where the sequences are known."""
    data = torch.tensor([[1.0, 0, 0], [0, 1, 1]], dtype=torch.float64)
    process = BinomialDiffusion(jsd_betas(8))
    flip = FlipStep(process, believe_exactly(process, data))
    chain = noneq.Chain(process, flip, 8, edge)
    every = states(3)
    brute = torch.zeros((), dtype=torch.float64)
    for t in torch.arange(edge + 1, 9):
        for x0 in data:
            weight = process.marginal(x0.expand(8, 3), t).log_prob(every).sum(1).exp()  # q(x_t | x_0)
            kl = process.posterior(every, x0.expand(8, 3), t, t - 1).kl(flip(every, t, t - 1).to).sum(1)
            brute += (torch.where(weight > 1e-9, kl, 0.0) * weight).sum() / 2
    entropy = 3 * (process.keep[edge] < 1) * coin_entropy(float((1 + process.keep[edge]) / 2))
    expected = -brute.item() / math.log(2) - float(entropy)
    torch.manual_seed(0)
    K = chain.lower_bound(data.repeat(4000, 1)).K
    assert K.mean().item() == pytest.approx(expected, abs=5 * K.std().item() / 8000**0.5)
    assert expected <= -1  # two sequences: no bound is above -1 bit
    assert expected > (-1.6 if edge == 0 else -3)


def test_a_bound_over_some_levels_stands_for_all() -> None:
    chain = normal_chain(noneq.published_betas(T, 0.01), 0.5)
    x0 = torch.zeros(4, 2, dtype=torch.float64)
    some = chain.lower_bound(x0, levels=torch.tensor([5, 10]))
    assert torch.allclose(some.K, some.ends - (T - 1) * some.divergences.mean(1))
    for wrong in (1, T + 1):
        with pytest.raises(ValueError, match="levels 2 to 30"):
            chain.lower_bound(x0, levels=torch.tensor([wrong]))


# ---------------------------------------------------------------- schedules


def test_even_betas_are_even_in_the_signal_to_noise_ratio() -> None:
    table = from_betas(noneq.even_betas(T, 1e-5))
    steps = table.log_snr(torch.arange(1, T + 1)).diff()
    assert torch.allclose(steps, steps[:1].expand_as(steps), rtol=1e-6)
    assert table.alpha_sigma(torch.tensor(1))[1] ** 2 == pytest.approx(1e-5)


def test_learned_betas_begin_as_the_table_and_level_1_stays() -> None:
    betas = noneq.published_betas(T, 1e-3)
    learned, table = noneq.LearnedBetas(betas), from_betas(betas)
    t = torch.arange(T + 1)
    for ours, theirs in zip(learned.alpha_sigma(t), table.alpha_sigma(t), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)
    learned.alpha_sigma(t)[1].sum().backward()
    assert learned.logits.grad is not None
    assert (learned.logits.grad != 0).all()
    assert len(list(learned.parameters())) == 1  # beta_1 is none of them


def test_training_the_betas_with_frozen_noise_raises_K() -> None:
    """On data N(0, 0.1^2) read as if they were forward steps, the best schedule spends its steps elsewhere."""
    torch.manual_seed(0)
    schedule = noneq.LearnedBetas(noneq.published_betas(8, 0.01))
    process = GaussianDiffusion(schedule)
    silent = Denoiser(lambda x, t: torch.cat([x * 0, x * 0], 1), process, noneq.predict_perturbation)
    chain = noneq.Chain(process, BelievedStep(of_gaussians(process, silent, noneq.perturbed)), 8)
    x0, noise = 0.1 * torch.randn(256, 2), torch.randn(256, 2)
    optimiser = torch.optim.Adam(schedule.parameters(), lr=0.1)
    values = []
    for _ in range(40):
        optimiser.zero_grad()
        K = chain.lower_bound(x0, lambda x: noise).K.mean()
        (-K).backward()
        optimiser.step()
        values.append(K.item())
    assert values[-1] > values[0] + 0.1
    assert schedule.betas[0].item() == pytest.approx(noneq.published_betas(8, 0.01)[0].item())


@pytest.mark.parametrize(("make", "message"), [
    (lambda: noneq.LearnedBetas(torch.tensor([0.1, 1.0])), r"lie in \(0, 1\)"),
    (lambda: noneq.published_betas(1), "at least 2"),
    (lambda: noneq.published_betas(10, 2.0), r"lie in \(0, 1\)"),
    (lambda: noneq.even_betas(10, 0.0), "noise grows"),
])  # fmt: skip
def test_a_schedule_that_leaves_the_interval_is_refused(make: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()  # type: ignore[operator]


# ---------------------------------------------------------------- reading and stepping


def test_an_attractor_at_the_truth_steps_as_the_posterior_and_its_spread_is_its_own() -> None:
    process = GaussianDiffusion(from_betas(noneq.even_betas(T, 1e-3)))
    x0, x, t = torch.randn(3, 1, 1, 2), torch.randn(3, 1, 1, 2), torch.tensor([5, 10, 30])
    says = Denoiser(lambda x, t: torch.cat([x0, x0 * 0], 1), process, noneq.predict_attractor)
    step = AncestralStep(process, says, noneq.perturbed)(x, t, t - 1).to
    assert torch.allclose(step.mean, process.posterior(x, x0, t, t - 1).mean, atol=1e-5)
    assert torch.allclose(step.std**2, torch.tensor(0.5), atol=1e-4)
    with pytest.raises(ValueError, match="variance head"):
        noneq.perturbed(process, gaussian(torch.zeros(2), torch.ones(2)).denoise(process)(x.flatten(1), t), t, t - 1)


def test_a_silent_network_steps_backwards_as_the_forward_process_steps_also_over_many_levels() -> None:
    process = GaussianDiffusion(from_betas(noneq.published_betas(T)))
    silent = Denoiser(lambda x, t: torch.cat([x * 0, x * 0], 1), process, noneq.predict_perturbation)
    x = torch.randn(3, 2)
    for s in (19, 5):
        step = AncestralStep(process, silent, noneq.perturbed)(x, torch.tensor(20), torch.tensor(s)).to
        assert torch.allclose(step.std, process.between(torch.tensor(s), torch.tensor(20)).sigma.float(), rtol=1e-5)
    one = AncestralStep(process, silent, noneq.perturbed)(x, torch.tensor(20), torch.tensor(19)).to
    assert torch.allclose(one.mean, process.between(torch.tensor(19), torch.tensor(20)).alpha.float() * x, atol=1e-6)


def test_predictions_of_numbers_and_of_bits_know_their_steps() -> None:
    process = GaussianDiffusion(from_betas(noneq.published_betas(T)))
    exact = of_gaussians(process, gaussian(torch.ones(2), torch.ones(2) / 2).denoise(process), fixed_small)
    x, t, s = torch.randn(3, 2), torch.tensor(20), torch.tensor(19)
    to, prediction = BelievedStep(exact)(x, t, s)
    assert torch.equal(prediction.x0, exact(x, t).x0)
    assert torch.allclose(to.mean, process.posterior(x, prediction.x0, t, s).mean)
    bits = BinomialDiffusion(jsd_betas(T))
    toss = BelievedStep(of_bits(bits, lambda x, evidence: x))(torch.tensor([[0.0, 1.0]]), t, s).to
    assert isinstance(toss, Bernoulli)
    assert set(toss.sample().flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(Stay()(x, t, s).to.sample(), x)
