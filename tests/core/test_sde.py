"""Score-based kernels on data whose answer is known: order of convergence, stationary correctors, exact projections.

For Gaussian data every predictor is affine in x, so its mean and variance are carried exactly, without a sample.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.core import langevin, sde
from sfumato.core.denoisers import Prediction, predict_eps
from sfumato.core.distributions import Gaussian
from sfumato.core.exact import GaussianMixture, gaussian, gaussian_flow
from sfumato.core.kernels import DDIM, Clean
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.projection import GREY, Projection, departing, greyness, imputed, projected, turn
from sfumato.core.sampling import anneal, descend, finish, walk
from sfumato.core.schedules import (
    VE,
    VP,
    Schedule,
    SubVP,
    from_betas,
    from_sigmas,
    geometric_sigmas,
    linear_betas,
)
from sfumato.core.times import strided

SCHEDULES: dict[str, Schedule] = {"VE": VE(0.1, 5.0), "VP": VP(), "sub-VP": SubVP()}
PREDICTORS: dict[str, Any] = {
    "Euler-Maruyama": sde.EulerMaruyama,
    "reverse diffusion": sde.ReverseDiffusion,
    "Euler flow": partial(sde.EulerMaruyama, flow=True),
    "reverse-diffusion flow": partial(sde.ReverseDiffusion, flow=True),
    "Heun": sde.Heun,
}
MEAN, STD = torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)
MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-0.6, 0.2], [0.5, 0.4]], dtype=torch.float64),
    torch.tensor([[0.2, 0.3], [0.25, 0.15]], dtype=torch.float64),
)


def moments(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule.alpha_sigma(t)
    return alpha * MEAN, (alpha * STD) ** 2 + sigma**2


def carried(kernel: Any, times: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance at the end of a chain of affine kernels."""
    for t, s in pairwise(times):
        at_0, at_1 = (kernel(torch.full((1, 2), x, dtype=torch.float64), t, s) for x in (0.0, 1.0))
        slope = at_1.mean[0] - at_0.mean[0]
        mean, variance = slope * mean + at_0.mean[0], slope**2 * variance + at_0.std**2
    return mean, variance


# ---------------------------------------------------------------- predictors


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", PREDICTORS)
def test_order_of_convergence(name: str, schedule: Schedule) -> None:
    """The error of the moments falls as steps^-order."""
    process = GaussianDiffusion(schedule)
    kernel = PREDICTORS[name](process, gaussian(MEAN, STD).denoise(process))
    order = getattr(kernel, "order", 1)
    counts, errors = (48, 96, 192, 384), []
    for n in counts:
        times = torch.linspace(0.98, 0.02, n + 1, dtype=torch.float64)
        mean, variance = carried(kernel, times, *moments(schedule, times[0]))
        truth = moments(schedule, times[-1])
        errors.append(float(torch.cat([mean - truth[0], variance.sqrt() - truth[1].sqrt()]).abs().max()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.25, (slope, errors)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("name", "order"), [("Euler flow", 1), ("Heun", 2)])
def test_the_flow_of_a_mixture_is_followed_at_that_order(name: str, order: int, schedule: Schedule) -> None:
    """Point by point, beside a fine solution of the ODE by Runge-Kutta."""
    process = GaussianDiffusion(schedule)
    denoise = MIXTURE.denoise(process)
    x = process.prior((64, 2)).sample(lambda m: torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).double())
    truth = sde.follow(process, denoise, x, 0.98, 0.02, sde.runge_kutta(400))
    kernel, counts, errors = PREDICTORS[name](process, denoise), (50, 100, 200), []
    for n in counts:
        times = torch.linspace(0.98, 0.02, n + 1, dtype=torch.float64)
        errors.append(float((finish(x, descend(kernel, times)) - truth).square().mean().sqrt()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - order) < 0.3, (slope, errors)


def test_runge_kutta_solves_the_flow_at_order_four() -> None:
    process = GaussianDiffusion(VP())
    denoise, x = gaussian(MEAN, STD).denoise(process), torch.randn(16, 2, dtype=torch.float64)
    ends = [process.level(torch.tensor(t, dtype=torch.float64), x) for t in (0.9, 0.05)]
    truth = gaussian_flow(MEAN, STD, x, *ends)
    counts = (8, 16, 32, 64)
    errors = [
        float((sde.follow(process, denoise, x, 0.9, 0.05, sde.runge_kutta(n)) - truth).abs().max()) for n in counts
    ]
    assert abs(-np.polyfit(np.log(counts), np.log(errors), 1)[0] - 4) < 0.4


def test_steps_even_in_the_root_of_time_suit_a_flow_that_starts_at_clean_data() -> None:
    """A network's noise does not vanish at clean data as the exact one does, so its flow begins like sqrt(t)."""
    process = GaussianDiffusion(VP())

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return predict_eps((2 * x).sin(), x, t, process)

    x = torch.randn(64, 2, dtype=torch.float64)
    fine, good, poor = (
        sde.follow(process, denoise, x, 1e-5, 1.0, sde.runge_kutta(n, power))
        for n, power in ((800, 2), (50, 2), (50, 1))
    )
    assert float((good - fine).abs().max()) < 1e-4
    assert float((poor - fine).abs().max()) > 100 * float((good - fine).abs().max())


@pytest.mark.parametrize(
    "table", [from_betas(linear_betas(1000)), from_sigmas(geometric_sigmas(400, 0.1, 5.0))], ids=["VP", "VE"]
)
def test_heun_walks_tables_at_second_order_down_to_clean_data(table: Any) -> None:
    process = GaussianDiffusion(table)
    denoise, x = gaussian(MEAN, STD).denoise(process), torch.randn(64, 2, dtype=torch.float64)
    x = process.level(torch.tensor(table.T), x).sigma * x
    errors = []
    for n in (10, 20, 40):
        times = strided(table.T, n)[:-1]
        ends = [process.level(t, x) for t in (times[0], times[-1])]
        truth = gaussian_flow(MEAN, STD, x, *ends)
        heun, ddim = (
            float((finish(x, descend(k(process, denoise), times)) - truth).abs().max()) for k in (sde.Heun, DDIM)
        )
        assert heun < ddim
        errors.append(heun)
    assert errors[0] / errors[2] > 6
    t, clean = torch.tensor(5), torch.tensor(0)
    assert torch.equal(sde.Heun(process, denoise)(x, t, clean).mean, DDIM(process, denoise)(x, t, clean).mean)


def test_exact_steps_leave_the_marginals_of_unit_gaussian_data_alone() -> None:
    """Between any two levels, data that are N(0, 1) under VP keep variance 1 but for the square of the step."""
    process = GaussianDiffusion(VP())
    unit = gaussian(torch.zeros(2).double(), torch.ones(2).double())
    kernel = sde.ReverseDiffusion(process, unit.denoise(process))
    t, s = torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.49, dtype=torch.float64)
    _, variance = carried(kernel, torch.stack([t, s]), torch.zeros(2), torch.ones(2))
    alpha = float(process.between(s, t).alpha)
    assert float(variance[0] - 1) == pytest.approx((2 - alpha - 1 + alpha**2) ** 2 - alpha**2, rel=1e-9)
    assert abs(float(variance[0] - 1)) < 4 * (1 - alpha) ** 2


@pytest.mark.parametrize("name", ["VE", "VP", "sub-VP"])
def test_published_steps_tend_to_the_exact_ones(name: str) -> None:
    schedule, gaps = {"VE": VE(), "VP": VP(), "sub-VP": SubVP()}[name], []
    for N in (500, 1000, 2000):
        step = {"VE": sde.published_ve, "VP": sde.published_vp, "sub-VP": lambda N: sde.published_sub_vp()}[name](N)
        t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
        ours, exact = step(t - 1 / N, t), GaussianDiffusion(schedule).between(t - 1 / N, t)
        gaps.append(float(((ours.sigma - exact.sigma) / exact.sigma).abs().max()))
    assert gaps[2] < gaps[1] < gaps[0] < 0.02


def test_the_quirks_of_the_published_tables() -> None:
    t = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    levels = geometric_sigmas(10, 0.01, 50.0)
    step = sde.published_ve(10)(t, t)
    expected = torch.stack([levels[9] ** 2 - levels[8] ** 2, levels[4] ** 2 - levels[3] ** 2, levels[0] ** 2])
    assert torch.allclose(step.sigma**2, expected)  # below the last level lie clean data
    assert float(sde.published_vp(20)(t, t).alpha[0]) == 0  # beta reaches 1
    with pytest.raises(ValueError, match="betas lie"):
        sde.published_vp(19)


def test_a_table_has_no_drift() -> None:
    process = GaussianDiffusion(from_betas(linear_betas(10)))
    denoise = gaussian(MEAN, STD).denoise(process)
    x, t = torch.zeros(1, 2), torch.tensor(3)
    with pytest.raises(ValueError, match="separate noise levels"):
        sde.EulerMaruyama(process, denoise)(x, t, t - 1)
    with pytest.raises(ValueError, match="separate noise levels"):
        sde.probability_flow(process, denoise)


def test_grids_fall_strictly_and_end_at_clean_data() -> None:
    assert torch.equal(sde.grid(from_betas(linear_betas(10)), 5), strided(10, 5))
    for n in (1, 2, 50):
        times = sde.grid(VP(), n)
        assert len(times) == n + 1
        assert times[0] == 1
        assert times[-1] == 0
        assert bool((times.diff() < 0).all())
    assert len(sde.grid(VP())) == 1001
    with pytest.raises(ValueError, match="at least 1"):
        sde.grid(VP(), 0)


# ---------------------------------------------------------------- correctors


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_langevin_dynamics_is_stationary_but_for_its_step(schedule: Schedule) -> None:
    """The variance that it settles on exceeds the level's by d / (2 variance - d), for each coordinate."""
    process, t = GaussianDiffusion(schedule), torch.tensor(0.4, dtype=torch.float64)
    size = 0.02
    kernel = langevin.Langevin(gaussian(MEAN, STD).denoise(process), langevin.constant(size))
    truth = moments(schedule, t)
    mean, variance = carried(kernel, t.expand(3000), truth[0] + 1, 2 * truth[1])
    assert torch.allclose(mean, truth[0], atol=1e-9)
    assert torch.allclose(variance / truth[1] - 1, size / (2 * truth[1] - size), rtol=1e-6)


@pytest.mark.parametrize("length", [langevin.image_lengths, langevin.mean_length], ids=["image", "batch"])
@pytest.mark.parametrize("name", ["langevin", "annealed"])
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_correctors_bring_a_wrong_state_to_the_level(schedule: Schedule, name: str, length: Any) -> None:
    """In 200 dimensions, from twice the deviation: both correctors end at the level's mean and variance."""
    torch.manual_seed(0)
    process, t = GaussianDiffusion(schedule), torch.tensor(0.3, dtype=torch.float64)
    data = gaussian(torch.full((200,), 0.3), torch.full((200,), 0.4))
    denoise = data.denoise(process)
    kept = langevin.kept(lambda s, t: process.between(t - 0.001, t)) if name == "langevin" else langevin.whole
    kernel = langevin.Corrector(denoise, 0.1, kept, length)
    if name == "annealed":
        kernel = langevin.Langevin(denoise, langevin.ratio(0.1, kept))  # type: ignore[assignment]
    alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
    variance = (0.4 * alpha) ** 2 + sigma**2
    x = 0.3 * alpha + 2 * variance**0.5 * torch.randn(100, 200)
    x = finish(x, [(kernel, t, t)] * 400)
    assert float(x.mean()) == pytest.approx(0.3 * alpha, abs=0.02 * variance**0.5)
    assert float(x.var()) == pytest.approx(variance, rel=0.03)


def test_by_default_a_corrected_image_does_not_depend_on_its_company() -> None:
    process = GaussianDiffusion(VP())
    denoise, t = gaussian(torch.zeros(8), torch.ones(8)).denoise(process), torch.tensor(0.5, dtype=torch.float64)
    x, z = torch.randn(4, 8), torch.randn(4, 8)
    alone = langevin.Corrector(denoise)(x[:1], t, t).sample(lambda _: z[:1])
    together = langevin.Corrector(denoise)(x, t, t).sample(lambda _: z)
    assert torch.equal(alone, together[:1])
    official = langevin.Corrector(denoise, length=langevin.mean_length)
    assert not torch.equal(official(x[:1], t, t).sample(lambda _: z[:1]), official(x, t, t).sample(lambda _: z)[:1])
    step = langevin.Corrector(denoise)(x, t, t)
    usual = torch.ones(4, 8) * torch.tensor([1.0, -1.0]).repeat(4)  # of length sqrt(8)
    still = step.sample(lambda _: usual) + step.sample(lambda _: -usual)
    assert torch.allclose(step.mean, still / 2, atol=1e-6)
    with pytest.raises(ValueError, match="closed form"):
        step.kl(Gaussian(x, torch.ones(())))


def test_plain_langevin_misses_the_weights_of_a_mixture_and_annealed_langevin_finds_them() -> None:
    """Song & Ermon 2019, section 3.2.2: with little noise the score does not know how heavy a far mode is."""
    heavy = GaussianMixture(torch.tensor([0.8, 0.2]), torch.tensor([[5.0, 5.0], [-5.0, -5.0]]), torch.ones(2, 2))
    process = GaussianDiffusion(from_sigmas(geometric_sigmas(10, 1.0, 20.0)))
    denoise, last = heavy.denoise(process), torch.tensor(1)
    torch.manual_seed(0)
    start = 16 * torch.rand(1500, 2) - 8

    def share(x: Tensor) -> float:
        return float((x.sum(1) > 0).float().mean())

    plain = finish(start, [(langevin.Langevin(denoise, langevin.constant(0.1)), last, last)] * 1000)
    annealed = langevin.Langevin(denoise, langevin.annealed(0.1, 1.0))
    found = finish(start, anneal(annealed, strided(10, 10)[:-1], 100))
    assert share(plain) < 0.6
    assert share(found) == pytest.approx(0.8, abs=0.06)


# ---------------------------------------------------------------- plans


def test_the_official_loop_corrects_first_and_ends_without_noise() -> None:
    process = GaussianDiffusion(VP())
    denoise = gaussian(torch.zeros(4), torch.ones(4)).denoise(process)
    down, stay = sde.ReverseDiffusion(process, denoise, sde.published_vp(25)), langevin.Corrector(denoise)
    moves = sde.correct_predict(down, stay, sde.published_pairs(25), n=2)
    assert len(moves) == 75
    assert [kernel for kernel, _, _ in moves[:3]] == [stay, stay, down]
    assert moves[-1][0] == sde.WithoutNoise(down)
    assert moves[0][1] == moves[2][1] == 1
    assert float(moves[2][2]) == pytest.approx(1 - 1 / 25)
    assert [k for k, _, _ in sde.correct_predict(None, stay, sde.published_pairs(3))] == [stay] * 3
    draws: list[Tensor] = []
    list(walk(torch.zeros(2, 4), moves, lambda x: draws.append(x) or torch.randn_like(x)))  # type: ignore[func-returns-value]
    assert len(draws) == 74


@pytest.mark.parametrize("schedule", [VP(), VE(0.01, 10.0)], ids=["VP", "VE"])
@pytest.mark.parametrize("stays", [0, 1])
def test_predictor_corrector_samples_have_the_moments_of_the_data(schedule: Any, stays: int) -> None:
    torch.manual_seed(0)
    process = GaussianDiffusion(schedule)
    data = gaussian(torch.full((64,), 0.4), torch.full((64,), 0.5))
    denoise = data.denoise(process)
    step = sde.published_vp(200) if isinstance(schedule, VP) else sde.published_ve(200, 0.01, 10.0)
    kept = langevin.kept(step) if isinstance(schedule, VP) else langevin.whole
    moves = sde.correct_predict(
        sde.ReverseDiffusion(process, denoise, step),
        langevin.Corrector(denoise, 0.1, kept),
        sde.published_pairs(200),
        stays,
    )
    with torch.inference_mode():
        x = finish(process.prior((200, 64)).sample(), moves)
    assert float(x.mean()) == pytest.approx(0.4, abs=0.02)
    assert float(x.std()) == pytest.approx(0.5, rel=0.06)


def test_a_walk_that_would_end_on_a_noisy_level_ends_clean() -> None:
    for schedule, kind in ((VE(), Clean), (VP(), DDIM)):
        process = GaussianDiffusion(schedule)
        denoise = gaussian(MEAN, STD).denoise(process)
        moves = sde.ending_clean(descend(DDIM(process, denoise), sde.grid(schedule, 4)), process, denoise)
        assert isinstance(moves[-1][0], kind)
        assert all(isinstance(kernel, DDIM) for kernel, _, _ in moves[:-1])


# ---------------------------------------------------------------- what is known


def test_grey_is_the_first_direction_of_an_orthonormal_basis() -> None:
    assert torch.allclose(GREY.T @ GREY, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(GREY[:, 0], torch.full((3,), 3**-0.5, dtype=torch.float64))
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(turn(turn(x, GREY), GREY.T), x, atol=1e-6)


def test_projection_puts_in_what_is_known_as_noisy_as_the_level() -> None:
    process, t = GaussianDiffusion(VP()), torch.tensor(0.3, dtype=torch.float64)
    x0, x, z = torch.randn(3, 2, 3, 4, 4)
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[:, :2] = True
    step = Projection(process, x0, known)(x, t, t)
    level, sample = process.level(t, x), step.sample(lambda _: z)
    assert torch.equal(sample[..., 2:], x[..., 2:])
    assert torch.allclose(sample[..., :2], level.noise(x0, z)[..., :2])
    assert torch.equal(Projection(process, x0, known, exact=True)(x, t, t).sample(), torch.where(known, x0, x))


def test_colouring_keeps_the_grey_and_nothing_else() -> None:
    process, t = GaussianDiffusion(VP()), torch.tensor(0.3, dtype=torch.float64)
    x0, x = torch.randn(2, 2, 3, 4, 4)
    step = Projection(process, x0, greyness(x0), GREY, exact=True)(x, t, t)
    coloured = step.sample()
    assert torch.equal(coloured, step.mean)
    assert torch.allclose(coloured.mean(1), x0.mean(1), atol=1e-6)
    away = coloured - x
    assert torch.allclose(away, away.mean(1, keepdim=True).expand_as(away), atol=1e-6)
    with pytest.raises(ValueError, match="exact"):
        step.kl(Gaussian(x, torch.ones(())))  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["projected", "imputed"])
def test_what_is_known_decides_what_is_not(kind: str) -> None:
    """Of two points, (1, 1) and (-1, -1), the known first coordinate picks one."""
    torch.manual_seed(0)
    two = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.full((2, 2), 0.1))
    process = GaussianDiffusion(from_betas(linear_betas(200, 5e-4, 0.1)))
    x0, known = torch.ones(300, 2), torch.tensor([True, False])
    x0[150:] = -1
    denoise, times = two.denoise(process), strided(200, 200)
    if kind == "imputed":
        moves = descend(DDIM(process, imputed(denoise, x0, known), eta=1.0), times)
    else:
        projection = Projection(process, x0, known)
        moves = projected(descend(sde.ReverseDiffusion(process, denoise), times), projection)
        assert len(moves) == 400
        assert moves[1][1] == moves[0][2]
        assert projected(descend(Clean(denoise), times), projection, departing)[1][1] == times[0]
    x = finish(torch.randn(300, 2), moves)
    assert torch.allclose(x[:, 0], x0[:, 0])
    assert float((x[:, 1].sign() == x0[:, 1]).float().mean()) > 0.9


def test_uniform_noise_is_uniform_and_its_divergence_is_right() -> None:
    uniform = langevin.Uniform((20_000, 2), -1.0, 3.0)
    x = uniform.sample()
    assert x.min() >= -1
    assert x.max() <= 3
    assert float(x.mean()) == pytest.approx(1, abs=0.05)
    assert float(x.var()) == pytest.approx(16 / 12, rel=0.03)
    other = Gaussian(torch.full((20_000, 2), 0.5), torch.tensor(2.0))
    sampled = -np.log(4.0) - other.log_prob(x).mean()
    assert float(uniform.kl(other).mean()) == pytest.approx(float(sampled), abs=0.02)
