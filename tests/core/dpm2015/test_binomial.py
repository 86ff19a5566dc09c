"""Binomial diffusion against brute force: marginals, posteriors and reverse steps over all states, and its errors."""

from __future__ import annotations

import pytest
import torch

from sfumato.core.betas import jsd_betas
from sfumato.core.dpm2015.binomial import Bernoulli, BinomialDiffusion, FlipStep, believe_exactly, states
from sfumato.core.sampling import descend, finish

T = 6


def chain(process: BinomialDiffusion, betas: torch.Tensor) -> torch.Tensor:
    """(T + 1, 2, 2): the product of the transition matrices, q(x_t = j | x_0 = i), step by step."""
    powers = [torch.eye(2, dtype=torch.float64)]
    coin = torch.tensor([1 - process.pi, process.pi], dtype=torch.float64)
    for beta in betas.double():
        powers.append(powers[-1] @ ((1 - beta) * powers[0] + beta * coin.expand(2, 2)))
    return torch.stack(powers)


@pytest.mark.parametrize("pi", [0.5, 0.2])
@pytest.mark.parametrize(("t", "s"), [(6, 5), (5, 4), (5, 1), (4, 2), (2, 1), (3, 0)])
def test_posterior_and_marginal_are_those_of_the_whole_chain(pi: float, t: int, s: int) -> None:
    """Sum over every path from x_0 to x_t: the joint of (x_s, x_t) given x_0, normalised."""
    betas = jsd_betas(T) * 0.9
    process = BinomialDiffusion(betas, pi)
    table = chain(process, betas)
    steps = torch.linalg.solve(table[s], table[t])  # from s to t
    for x0 in (0, 1):
        joint = table[s][x0][:, None] * steps  # (x_s, x_t)
        bit = torch.tensor([[float(x0)]], dtype=torch.float64)
        ours = process.marginal(bit, torch.tensor(t)).p
        assert ours.item() == pytest.approx(table[t][x0, 1].item(), abs=1e-12)
        for x_t in (0, 1):
            if joint[:, x_t].sum() == 0:
                continue
            brute = joint[1, x_t] / joint[:, x_t].sum()
            ours = process.posterior(torch.full_like(bit, x_t), bit, torch.tensor(t), torch.tensor(s)).p
            assert ours.item() == pytest.approx(brute.item(), abs=1e-12)


def test_reverse_at_the_exact_belief_is_the_marginal_of_the_exact_reverse_over_all_states() -> None:
    """p(x_s^i = 1 | x_t), by enumeration of all 2^4 states of x_s and the data, bit by bit."""
    process = BinomialDiffusion(jsd_betas(T))
    data = torch.tensor([[1.0, 0, 0, 1], [0, 1, 1, 0], [1, 1, 0, 0]], dtype=torch.float64)
    every = states(4)
    t, s = torch.tensor(4), torch.tensor(2)

    def log_q(x: torch.Tensor, given: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        p = process.pi + (given[:, None] - process.pi) * kept  # (G, 1, D)
        return torch.where(x[None] > 0.5, p, 1 - p).log().sum(-1)

    before = log_q(every, data, process.keep[s]).exp().mean(0)  # q(x_s), (16,)
    step = log_q(every, every, process.keep[t] / process.keep[s]).exp()  # q(x_t | x_s), (16 x_s, 16 x_t)
    joint = before[:, None] * step
    brute = (joint / joint.sum(0)).T @ every  # (16 x_t, 4)
    ours = FlipStep(process, believe_exactly(process, data))(every, t, s).to.p
    assert torch.allclose(ours, brute, atol=1e-12)


def test_divergence_entropy_and_log_prob_are_sums_over_two_states() -> None:
    p, q = torch.tensor([0.1, 0.5, 0.9, 0.0]), torch.tensor([0.3, 0.5, 0.2, 0.4])
    both = torch.stack([p, 1 - p]), torch.stack([q, 1 - q])
    expected = torch.where(both[0] > 0, both[0] * (both[0] / both[1]).log(), 0.0).sum(0)
    assert torch.allclose(Bernoulli(p).kl(Bernoulli(q)), expected, atol=1e-6)
    x = torch.tensor([1.0, 0.0, 1.0, 0.0])
    assert torch.allclose(Bernoulli(q).log_prob(x).exp(), torch.tensor([0.3, 0.5, 0.2, 0.6]))
    assert torch.allclose(Bernoulli(p[:3]).entropy(), -(both[0] * both[0].log()).sum(0)[:3], atol=1e-6)


def test_samples_follow_the_noise_and_come_as_often_as_said() -> None:
    torch.manual_seed(0)
    p = torch.full((20_000, 3), 0.3)
    sample = Bernoulli(p).sample()
    assert set(sample.unique().tolist()) == {0.0, 1.0}
    assert abs(sample.mean() - 0.3) < 0.006
    fixed = torch.randn(5, 3)
    assert torch.equal(Bernoulli(p[:5]).sample(lambda _: fixed), Bernoulli(p[:5]).sample(lambda _: fixed))


def test_the_walk_of_an_exact_belief_ends_at_the_data() -> None:
    """From throws of a coin to one of the sequences, each about as often: the loop is the one of every paper."""
    torch.manual_seed(1)
    data = torch.eye(4).repeat(1, 2)
    process = BinomialDiffusion(jsd_betas(200))
    flip = FlipStep(process, believe_exactly(process, data))
    x = finish(process.prior((2000, 8)).sample(), descend(flip, torch.arange(200, -1, -1)))
    which = (x[:, None] == data).all(-1)
    assert which.any(1).float().mean() > 0.97
    assert torch.allclose(which.float().mean(0), torch.full((4,), 0.25), atol=0.04)


@pytest.mark.parametrize("betas", [[0.1, 0.0], [0.5, 1.1], [-0.1, 0.5]])
def test_a_schedule_that_leaves_the_interval_is_refused(betas: list[float]) -> None:
    with pytest.raises(ValueError, match=r"lie in \(0, 1\]"):
        BinomialDiffusion(torch.tensor(betas))


def test_a_coin_that_cannot_fall_and_data_that_are_no_bits_are_refused() -> None:
    with pytest.raises(ValueError, match="coin"):
        BinomialDiffusion(jsd_betas(3), 1.0)
    process = BinomialDiffusion(jsd_betas(3))
    with pytest.raises(ValueError, match="bits, 0 or 1"):
        process.marginal(torch.tensor([[0.5, 1.0]]), torch.tensor(1))
    with pytest.raises(ValueError, match="2\\^20"):
        states(20)
