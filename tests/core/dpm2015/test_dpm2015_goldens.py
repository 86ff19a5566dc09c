"""The model of 2015 against its recorded numbers: schedules, bumps over time, one term of the bound, samplers, bits.

These numbers were derived anew from the authors' formulas, not run. Their index t is our level t + 1.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.core.betas import jsd_betas
from sfumato.core.denoisers import Denoiser, predict_x0
from sfumato.core.distributions import Gaussian
from sfumato.core.dpm2015 import nonequilibrium as noneq
from sfumato.core.dpm2015.binomial import BinomialDiffusion, FlipStep, believe_exactly, coin_entropy
from sfumato.core.dpm2015.products import Known, Multiplied, Observed
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Past, Step, descend, finish
from sfumato.core.schedules import from_betas
from sfumato.networks.dpm2015 import temporal_basis
from sfumato.samplers.ancestral import AncestralStep
from tests.golden.song import Case, compare, load, sources


def cases(kind: str) -> Any:
    return pytest.mark.parametrize(("source", "name"), sources(kind, group="dpm2015"))


def reverse_of_normal(x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
    """Data N(0, 1) stay so at every level: no step is asked for here."""
    raise AssertionError


def process(recipe: dict[str, Any]) -> GaussianDiffusion:
    return GaussianDiffusion(from_betas(noneq.published_betas(recipe["T"], recipe["step1_beta"])))


@cases("dpm_schedules")
def test_schedules_and_what_a_perfect_model_of_normal_data_scores(source: str, name: str) -> None:
    case = load(source, name)
    for about in case.recipe["cases"]:
        T, q, key = about["T"], process(about), f"T{about['T']}"
        expected = case.recipe["recorded"][key]
        compare(case, f"{key}/beta", noneq.published_betas(T, about["step1_beta"]), 1e-12)
        levels = torch.arange(1, T + 1)
        compare(case, f"{key}/alpha_cum", q.schedule.alpha_sigma(levels)[0] ** 2, 1e-12)
        # data N(0, 1) and the reverse step that is the forward one: the expectation over x_0 and x_t in closed form
        t = levels[1:]
        step = q.between(t - 1, t)
        of_x, of_x0, std = q.posterior_coefficients(t, t - 1)
        alpha, sigma = q.schedule.alpha_sigma(t)
        away = ((of_x - step.alpha) * alpha + of_x0) ** 2 + ((of_x - step.alpha) * sigma) ** 2
        kl = (step.sigma / std).log() + (std**2 + away) / (2 * step.sigma**2) - 0.5
        compare(case, f"{key}/expected_KL_gaussian_nats_t1_to_Tm1", kl, 1e-9)
        one = torch.zeros(1, 1, dtype=torch.float64)
        prior_entropy = 0.5 * math.log(2 * math.pi * math.e)
        ends = noneq.Chain(q, reverse_of_normal, T).ends(one) + prior_entropy
        assert ends.item() == pytest.approx(expected["H_end_minus_H_start_nats"], abs=1e-12)
        for terms, wanted in ((T, "code_factor_T"), (T - 1, "factor_Tminus1")):
            bits = (terms * kl.mean() - ends).item() / math.log(2)
            wanted = f"expected_objective_gaussian_bits_per_dim_{wanted}"
            assert bits == pytest.approx(expected[wanted], abs=1e-9)


@cases("dpm_basis")
def test_bumps_over_time(source: str, name: str) -> None:
    case = load(source, name)
    for about in case.recipe["cases"]:
        T, n = about["T"], about["n_basis"]
        basis = temporal_basis(T, n)
        compare(case, f"T{T}_n{n}/basis", basis, 1e-12)
        for t in case.recipe["t"]:
            weights = noneq.weights_of_levels(torch.tensor(t), T)
            compare(case, f"T{T}_n{n}/t_weights_{t}", weights, 1e-12)
            compare(case, f"T{T}_n{n}/readout_weights_{t}", basis @ weights, 1e-12)


@cases("dpm_objective")
def test_one_term_of_the_objective(source: str, name: str) -> None:
    case = load(source, name)
    recipe, T = case.recipe, case.recipe["T"]
    q, t = process(recipe), torch.tensor(int(recipe["t"]) + 1)
    x0 = case.input("x0").double() + recipe["uniform_noise"] * (case.input("uniform").double() - 0.5)
    eps, Z = case.input("noise").double(), case.input("Z").double()
    readout = temporal_basis(T, recipe["n_temporal_basis"])[:, t - 1]
    move, spread = (Z @ readout).permute(4, 0, 3, 1, 2)  # (2, B, C, H, W)

    x = q.marginal(x0, t).sample(lambda _: eps)
    network = lambda x, t: torch.cat([move, spread], dim=1)  # noqa: E731
    kernel = AncestralStep(q, Denoiser(network, q, noneq.predict_perturbation), noneq.perturbed)
    reverse, posterior = kernel(x, t, t - 1).to, q.posterior(x, x0, t, t - 1)
    compare(case, "x_noisy", x, 1e-12)
    compare(case, "mu_posterior", posterior.mean, 1e-12)
    compare(case, "sigma_posterior", posterior.std, 1e-12)
    compare(case, "mu_coeff", move, 1e-12)
    compare(case, "beta_coeff", spread, 1e-12)
    compare(case, "mu", reverse.mean, 1e-9)
    compare(case, "sigma", reverse.std, 1e-9)
    compare(case, "KL_nats", posterior.kl(reverse), 1e-9)

    recorded, one = recipe["recorded"], torch.tensor(1)
    entropy = [q.marginal(x0, level).entropy().item() for level in (one, torch.tensor(T))]
    assert entropy == pytest.approx([recorded["H_startpoint_nats"], recorded["H_endpoint_nats"]], abs=1e-12)
    nats = noneq.Chain(q, kernel, T).objective(x0, t, lambda _: eps, terms=T)  # the published number of terms
    pixels = x0[0].numel() / recipe["n_colors"]
    ours = nats.mean().item() / math.log(2) / pixels + noneq.gaussian_null(recipe["n_colors"])
    assert ours == pytest.approx(recorded["objective_bits_per_pixel"], rel=1e-9)


def reverse_of(case: Case) -> AncestralStep:
    """The recording's stand-in for a network, read out as 2015 does."""
    T, q = case.recipe["T"], process(case.recipe)
    network = lambda x, t: torch.cat([0.3 * x.tanh(), 0.5 * x.sin()], dim=1)  # noqa: E731
    assert q.schedule.end == T
    return AncestralStep(q, Denoiser(network, q, noneq.predict_perturbation), noneq.perturbed)


@cases("dpm_sampler")
def test_samplers(source: str, name: str) -> None:
    case = load(source, name)
    mode, noise = case.recipe["mode"], case.noises()
    x_true = case.input("x_true").double()
    kernel: Kernel = reverse_of(case)
    x = noise(x_true).double()
    known = torch.arange(4) >= 2
    if mode == "inpaint":
        x = torch.where(known, x_true, x)
        kernel = Multiplied(kernel, Known(x_true, known))
    elif mode == "denoise":
        x = x_true + case.recipe["denoise_sigma"] * x  # what is observed, and where the published sampling starts
        kernel = Multiplied(kernel, Observed(x, case.recipe["denoise_sigma"]))
    times = torch.arange(case.recipe["T"], 0, -1)  # down to level 1: the published sampler never takes the last step
    compare(case, "xT", x, 1e-7)
    compare(case, "x", finish(x, descend(kernel, times), lambda x: noise(x).double()), 1e-6)


@cases("dpm_binomial")
def test_a_bit_with_its_exact_reverse_has_a_tight_bound(source: str, name: str) -> None:
    case = load(source, name)
    T, p0 = case.recipe["T"], case.recipe["p0"]
    betas = jsd_betas(T)
    q = BinomialDiffusion(betas)
    # p(x_0 = 1) = 0.2: one of five sequences of one bit
    data = torch.tensor([[1.0], [0], [0], [0], [0]], dtype=torch.float64)
    flip = FlipStep(q, believe_exactly(q, data))
    compare(case, "beta", betas, 1e-12)
    compare(case, "keep", q.keep[1:], 1e-12)
    marginals = torch.stack([q.marginal(data, torch.tensor(t)).p.mean() for t in range(T + 1)])
    compare(case, "marginals", marginals, 1e-12)

    both = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    levels = [torch.tensor(t) for t in range(T + 1)]
    table = torch.stack([flip(both, t, t - 1).to.p[:, 0] for t in levels[1:]])
    compare(case, "reverse_prob_one_given_xt_0_1", table, 1e-12)

    weight = torch.tensor([1 - p0, p0], dtype=torch.float64)  # of x_0

    def expected(t: Tensor, values: Any) -> Tensor:
        """The mean over x_0 and x_t of values(x_t, x_0), each (2 x_0, 2 x_t)."""
        to_one = q.marginal(both, t).p  # (2, 1)
        share = torch.cat([1 - to_one, to_one], dim=1) * weight[:, None]
        every = values(both.T.expand(2, 2).reshape(4, 1), both.expand(2, 2).reshape(4, 1)).reshape(2, 2)
        return torch.where(share > 0, share * every, 0.0).sum() / math.log(2)

    kl = torch.stack([
        expected(t, lambda x, x0, t=t: q.posterior(x, x0, t, t - 1).kl(flip(x, t, t - 1).to)) for t in levels[2:]
    ])  # fmt: skip
    compare(case, "KL_bits_t2_to_T", kl, 1e-9)
    recorded = case.recipe["recorded"]
    decoder = expected(levels[1], lambda x, x0: flip(x, levels[1], levels[0]).to.log_prob(x0))
    assert decoder.item() == pytest.approx(recorded["reconstruction_bits"], abs=1e-9)
    end = q.marginal(both, levels[T]).entropy().mean().item() / math.log(2)
    assert end == pytest.approx(recorded["H_q_xT_given_x0_bits"], abs=1e-12)
    assert (decoder - kl.sum() + end - coin_entropy(0.5)).item() == pytest.approx(recorded["K_bits"], abs=1e-9)
    assert coin_entropy(p0) == pytest.approx(recorded["H_x0_bits"], abs=1e-12)


@cases("dpm_entropies")
def test_entropies(source: str, name: str) -> None:
    from sfumato.data.toys import HEARTBEATS, heartbeat_null

    case = load(source, name)
    recorded = case.recipe["recorded"]["heartbeat"]
    ours = np.asarray(sorted(HEARTBEATS.tolist()))
    if source == "full":
        expected = case.numbers["heartbeat_sequences"].reshape(5, 20)
        assert np.array_equal(ours, np.asarray(sorted(expected.tolist())))
    assert len(ours) == recorded["phases"]
    assert ours.mean() == recorded["mean_of_each_bit"]
    assert heartbeat_null() == pytest.approx(recorded["independent_binomial_L_null_bits_per_sequence"], abs=1e-12)
    assert heartbeat_null() == pytest.approx(-14.4386, abs=1e-4)
    assert -math.log2(len(ours)) == recorded["log2_likelihood_true"]
    unit = Gaussian(torch.zeros(1), torch.ones(())).entropy().item() / math.log(2)
    assert unit == pytest.approx(case.recipe["recorded"]["gaussian"]["entropy_bits_per_dim_unit_variance"], abs=1e-6)
    assert noneq.gaussian_null(2) == pytest.approx(-2 * unit, abs=1e-6)


@cases("dpm_lr")
def test_the_published_learning_rate(source: str, name: str) -> None:
    from sfumato.papers.dpm import published_rate

    case = load(source, name)
    epochs = case.recipe["recorded"]["epochs_1_based"]
    rates = np.asarray([published_rate(epoch, case.recipe["start"]) for epoch in epochs])
    compare(case, "lr_after_epoch", rates, 1e-6)


def test_predictions_other_than_the_read_out_have_no_perturbed_spread() -> None:
    q = GaussianDiffusion(from_betas(noneq.published_betas(10)))
    kernel = AncestralStep(q, Denoiser(lambda x, t: x, q, predict_x0), noneq.perturbed)
    with pytest.raises(ValueError, match="variance head"):
        kernel(torch.zeros(1, 1), torch.tensor(5), torch.tensor(4))
