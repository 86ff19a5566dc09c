"""Learned training times (VDM): the expected loss stays, the variance falls, and the schedule is monotone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.core.betas import cosine_betas
from sfumato.core.continuous import VP, LinearFlow
from sfumato.core.learned_times import LearnedTimes, learned_interval, learned_levels
from sfumato.core.monotone import LearnedVP, Monotone
from sfumato.core.schedules import Schedule, from_betas, from_sigmas
from sfumato.core.times import UniformLevels

LEVELS = from_betas(cosine_betas(200))
KINDS: dict[str, Schedule] = {"flow": LinearFlow(), "vp": VP(), "levels": LEVELS}


def fresh(kind: str) -> tuple[Schedule, LearnedTimes]:
    """A schedule, and times of it that have learned nothing yet."""
    schedule = KINDS[kind]
    first = 0.0 if kind == "flow" else 1e-5
    return schedule, learned_levels(schedule, 200) if kind == "levels" else learned_interval(schedule, first, 1.0)


def least(schedule: Schedule, t: Tensor, variance: float = 1.0) -> Tensor:
    """The least expected error in eps at time t, of data N(0, variance)."""
    alpha, sigma = schedule.alpha_sigma(t)
    return alpha**2 * variance / (alpha**2 * variance + sigma**2)


def grid(n: int) -> Tensor:
    return (torch.arange(n, dtype=torch.float64) + 0.5) / n


def learn(times: LearnedTimes, schedule: Schedule, updates: int = 400, variance: float = 1.0) -> None:
    generator = torch.Generator().manual_seed(0)
    for _ in range(updates):
        t, _ = times.draw(torch.rand(64, generator=generator, dtype=torch.float64))
        times.update(t, least(schedule, t, variance))


def disturbed(times: LearnedTimes, seed: int = 0) -> None:
    """Other parameters, some of which are negative, as a training might leave them."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in times.network.parameters():
        drawn = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        parameter.data = parameter.data * (1 + drawn)
    times.updates.fill_(times.history)


@pytest.mark.parametrize("kind", KINDS)
def test_the_expected_loss_is_that_of_even_times_whatever_was_learned(kind: str) -> None:
    schedule, times = fresh(kind)
    even, one = times.draw(grid(100_000))
    assert bool((one == 1).all())
    disturbed(times)
    t, weight = times.draw(grid(100_000))
    assert float(weight.std()) > 0.1
    expected = float(least(schedule, even).mean())
    assert float((weight * least(schedule, t)).mean()) == pytest.approx(expected, rel=2e-3)
    assert float(weight.mean()) == pytest.approx(1, rel=2e-3)
    assert 0 < float(weight.max()) <= 1 / times.uniform + 1e-9


def test_a_closed_form() -> None:
    """The integral of (1 - t)^2 / ((1 - t)^2 + t^2) over [0, 1] is 1/2."""
    times = learned_interval(LinearFlow(), 0.0, 1.0)
    disturbed(times, 3)
    t, weight = times.draw(grid(100_000))
    assert float((weight * least(LinearFlow(), t)).mean()) == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_variance_falls(kind: str) -> None:
    schedule, times = fresh(kind)
    even = least(schedule, times.draw(grid(50_000))[0])
    learn(times, schedule)
    t, weight = times.draw(grid(50_000))
    assert float((weight * least(schedule, t)).var()) < 0.15 * float(even.var())


def test_the_density_becomes_the_root_of_the_mean_square() -> None:
    """Of a loss that is noisy itself: the second moment comes near the least there is, (integral of the root)^2."""
    times, generator = learned_interval(VP(), 1e-5, 1.0), torch.Generator().manual_seed(1)
    for _ in range(1500):
        t, _ = times.draw(torch.rand(64, generator=generator, dtype=torch.float64))
        times.update(t, least(VP(), t) * torch.randn(64, generator=generator, dtype=torch.float64).square())
    even = least(VP(), times.base.draw(grid(50_000))[0])
    t, weight = times.draw(grid(50_000))
    found, best = float((weight * least(VP(), t)).square().mean()), float(even.mean() ** 2)
    assert found < 1.15 * best < 0.5 * float(even.square().mean())


def test_an_update_goes_down_the_second_moment() -> None:
    """The gradient of the density alone is that of log E[(w loss)^2], before and after draws follow the network."""
    for updates in (0, 50):
        times = learned_levels(LEVELS, 200)
        times.updates.fill_(updates)
        times.network.weight.data[:8] *= 3
        t, _ = times.draw(grid(400_000))
        exact = ((least(LEVELS, torch.arange(1, 201)) / 200) ** 2 / times.probabilities).sum().log()
        wanted = torch.autograd.grad(exact, list(times.network.parameters()))
        times.update(t, least(LEVELS, t))
        for parameter, expected in zip(times.network.parameters(), wanted, strict=True):
            assert parameter.grad is not None
            torch.testing.assert_close(parameter.grad, expected, rtol=0.02, atol=float(0.01 * expected.abs().max()))


def test_the_network_is_monotone_from_0_to_1() -> None:
    x = torch.linspace(0, 1, 2001, dtype=torch.float64)
    assert float((Monotone()(x) - x).detach().abs().max()) < 0.02
    for seed in range(5):
        times = learned_interval(VP(), 1e-5, 1.0)
        disturbed(times, seed)
        g = times.network(x).detach()
        assert g[[0, -1]].tolist() == pytest.approx([0, 1])
        assert bool((g.diff() > 0).all())
        assert bool((times.draw(grid(5000))[0].diff() > 0).all())


def test_levels_are_as_likely_as_they_are_said_to_be() -> None:
    times = learned_levels(LEVELS, 200)
    disturbed(times)
    t, _ = times.draw(grid(1_000_000))
    counted = torch.bincount(t, minlength=201)[1:] / 1_000_000
    torch.testing.assert_close(counted.double(), times.probabilities.detach(), rtol=0, atol=2e-6)
    single = learned_levels(from_betas(torch.tensor([0.5])), 1)
    single.updates.fill_(99)
    assert single.draw(grid(4))[0].tolist() == [1] * 4


def test_what_is_not_finite_is_left_out_and_zeros_teach_nothing() -> None:
    times = learned_levels(LEVELS, 200)
    before = {name: value.clone() for name, value in times.state_dict().items()}
    for losses in ([float("nan"), float("inf")], [0.0, 0.0]):
        times.update(torch.tensor([3, 7]), torch.tensor(losses))
    assert all(torch.equal(value, times.state_dict()[name]) for name, value in before.items() if name != "updates")
    times.update(torch.tensor([3, 7]), torch.tensor([float("nan"), 1.0]))
    assert bool(times.network.weight.isfinite().all())
    assert not torch.equal(before["weight"], times.network.weight)


def test_it_goes_on_as_it_was() -> None:
    one, two = learned_levels(LEVELS, 200), learned_levels(LEVELS, 200)
    learn(one, LEVELS, 60)
    two.load_state_dict({name: value.clone() for name, value in one.state_dict().items()})
    assert torch.equal(one.draw(grid(100))[1], two.draw(grid(100))[1])
    learn(one, LEVELS, 10)
    learn(two, LEVELS, 10)
    assert all(torch.equal(value, two.state_dict()[name]) for name, value in one.state_dict().items())
    with pytest.raises(ValueError, match="no learned times of 32 units: see weight"):
        two.load_state_dict({**two.state_dict(), "weight": torch.zeros(3)})


def test_its_grid_is_even_in_what_it_learned() -> None:
    schedule, times = fresh("vp")
    learn(times, schedule, 100)
    t = schedule.at(times.half_log_snr(10))
    assert float(t[0]) == pytest.approx(1.0)
    assert bool((t.diff() < 0).all())
    below = [(times.draw(grid(100_000))[0] <= one).double().mean() for one in t]
    assert below == pytest.approx([k / 10 for k in range(10, 0, -1)], abs=1e-3)
    with pytest.raises(ValueError, match=r"trained with --recipe\.times learned"):
        UniformLevels(10).half_log_snr(5)


def test_any_schedule_of_levels_has_them() -> None:
    no_signal_left = from_betas(torch.cat([torch.full((9,), 0.1), torch.ones(1)]))
    for schedule in (from_sigmas(torch.logspace(-2, 1, 30)), no_signal_left):
        times = learned_levels(schedule, schedule.T)
        disturbed(times)
        t, weight = times.draw(grid(10_000))
        assert bool(weight.isfinite().all())
        assert (int(t.min()), int(t.max())) == (1, schedule.T)


def test_a_learned_schedule_preserves_variance() -> None:
    schedule = LearnedVP(Monotone(), 10.0, -8.0)
    t = torch.linspace(0, 1, 101, dtype=torch.float64)
    assert schedule.log_snr(t)[[0, -1]].tolist() == pytest.approx([10, -8])
    alpha, sigma = schedule.alpha_sigma(t)
    assert torch.allclose(alpha**2 + sigma**2, torch.ones_like(t))
    drift, diffusion = schedule.drift_diffusion(t)
    assert torch.allclose(diffusion, -2 * drift)  # the SDE of variance-preserving schedules
    assert bool((diffusion > 0).all())
    with pytest.raises(ValueError, match="falls with time"):
        LearnedVP(Monotone(), -1.0, 1.0)
