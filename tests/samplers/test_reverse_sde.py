"""Reverse diffusion, Heun's steps and predictor-corrector plans where the answer is known; the published tables."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core import VE, VP, GaussianDiffusion, SubVP, descend, finish, from_betas, from_sigmas, ode
from sfumato.core.betas import geometric_sigmas, linear_betas
from sfumato.core.exact import gaussian, gaussian_flow
from sfumato.core.sampling import DenoiseToZero
from sfumato.core.schedules import strided
from sfumato.samplers.ddim import DDIM, DDIMStep
from sfumato.samplers.heun import HeunStep
from sfumato.samplers.langevin import CorrectorStep, all_retained, retained_by
from sfumato.samplers.predictor_corrector import WithoutNoise, correct_predict, published_pairs
from sfumato.samplers.reverse_sde import (
    EulerMaruyamaStep,
    ReverseDiffusionStep,
    published_sub_vp,
    published_ve,
    published_vp,
)

MEAN, STD = torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)


@pytest.mark.parametrize(
    "table", [from_betas(linear_betas(1000)), from_sigmas(geometric_sigmas(400, 0.1, 5.0))], ids=["VP", "VE"]
)
def test_heun_goes_down_tables_at_second_order_to_clean_data(table: Any) -> None:
    process = GaussianDiffusion(table)
    denoise, x = gaussian(MEAN, STD).denoise(process), torch.randn(64, 2, dtype=torch.float64)
    x = process.level(torch.tensor(table.T), x).sigma * x
    errors = []
    for n in (20, 40, 80):
        times = strided(table.T, n)[:-1]
        ends = [process.level(t, x) for t in (times[0], times[-1])]
        truth = gaussian_flow(MEAN, STD, x, *ends)
        heun, ddim = (
            float((finish(x, descend(k(process, denoise), times)) - truth).abs().max()) for k in (HeunStep, DDIMStep)
        )
        assert heun < ddim
        errors.append(heun)
    assert errors[0] / errors[2] > 8
    t, clean = torch.tensor(5), torch.tensor(0)
    assert torch.equal(HeunStep(process, denoise)(x, t, clean).to.mean, DDIMStep(process, denoise)(x, t, clean).to.mean)


def test_exact_steps_leave_the_marginals_of_unit_gaussian_data_alone() -> None:
    """Between any two levels, data that are N(0, 1) under VP keep variance 1 but for the square of the step."""
    process = GaussianDiffusion(VP())
    unit = gaussian(torch.zeros(2).double(), torch.ones(2).double())
    kernel = ReverseDiffusionStep(process, unit.denoise(process))
    t, s = torch.tensor(0.5, dtype=torch.float64), torch.tensor(0.49, dtype=torch.float64)
    step, other = (kernel(torch.full((1, 2), x, dtype=torch.float64), t, s).to for x in (0.0, 1.0))
    variance = (other.mean - step.mean) ** 2 + step.std**2
    alpha = float(process.between(s, t).alpha)
    assert float(variance[0, 0] - 1) == pytest.approx((2 - alpha - 1 + alpha**2) ** 2 - alpha**2, rel=1e-9)
    assert abs(float(variance[0, 0] - 1)) < 4 * (1 - alpha) ** 2


@pytest.mark.parametrize("name", ["VE", "VP", "sub-VP"])
def test_published_steps_tend_to_the_exact_ones(name: str) -> None:
    schedule, gaps = {"VE": VE(), "VP": VP(), "sub-VP": SubVP()}[name], []
    for N in (500, 1000, 2000):
        make: Any = {"VE": published_ve, "VP": published_vp, "sub-VP": lambda N: published_sub_vp()}[name]
        step = make(N)
        t = torch.linspace(0.1, 0.9, 9, dtype=torch.float64)
        ours, exact = step(t - 1 / N, t), GaussianDiffusion(schedule).between(t - 1 / N, t)
        gaps.append(float(((ours.sigma - exact.sigma) / exact.sigma).abs().max()))
    assert gaps[2] < gaps[1] < gaps[0] < 0.02


def test_the_quirks_of_the_published_tables() -> None:
    t = torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)
    levels = geometric_sigmas(10, 0.01, 50.0)
    step = published_ve(10)(t, t)
    expected = torch.stack([levels[9] ** 2 - levels[8] ** 2, levels[4] ** 2 - levels[3] ** 2, levels[0] ** 2])
    assert torch.allclose(step.sigma**2, expected)  # below the last level lie clean data
    assert float(published_vp(20)(t, t).alpha[0]) == 0  # beta reaches 1
    with pytest.raises(ValueError, match="betas lie"):
        published_vp(19)


def test_a_table_has_no_drift() -> None:
    process = GaussianDiffusion(from_betas(linear_betas(10)))
    denoise = gaussian(MEAN, STD).denoise(process)
    x, t = torch.zeros(1, 2), torch.tensor(3)
    with pytest.raises(ValueError, match="separate noise levels"):
        EulerMaruyamaStep(process, denoise)(x, t, t - 1)
    with pytest.raises(ValueError, match="separate noise levels"):
        ode.probability_flow(process, denoise)


def test_grids_fall_strictly_and_end_at_clean_data() -> None:
    assert torch.equal(from_betas(linear_betas(10)).times(5), strided(10, 5))
    for n in (1, 2, 50):
        times = VP().times(n)
        assert len(times) == n + 1
        assert times[0] == 1
        assert times[-1] == 0
        assert bool((times.diff() < 0).all())
    assert len(VP().times()) == 1001
    with pytest.raises(ValueError, match="between 1 and"):
        VP().times(0)


def test_the_official_loop_corrects_first_and_ends_without_noise() -> None:
    process = GaussianDiffusion(VP())
    denoise = gaussian(torch.zeros(4), torch.ones(4)).denoise(process)
    down, stay = ReverseDiffusionStep(process, denoise, published_vp(25)), CorrectorStep(denoise)
    moves = correct_predict(down, stay, published_pairs(25), n=2)
    assert len(moves) == 75
    assert [kernel for kernel, _, _ in moves[:3]] == [stay, stay, down]
    assert moves[-1][0] == WithoutNoise(down)
    assert moves[0][1] == moves[2][1] == 1
    assert float(moves[2][2]) == pytest.approx(1 - 1 / 25)
    assert [k for k, _, _ in correct_predict(None, stay, published_pairs(3))] == [stay] * 3
    draws: list[Tensor] = []
    finish(torch.zeros(2, 4), moves, lambda x: draws.append(x) or torch.randn_like(x))
    assert len(draws) == 74


@pytest.mark.parametrize("schedule", [VP(), VE(0.01, 10.0)], ids=["VP", "VE"])
@pytest.mark.parametrize("stays", [0, 1])
def test_predictor_corrector_samples_have_the_moments_of_the_data(schedule: Any, stays: int) -> None:
    torch.manual_seed(0)
    process = GaussianDiffusion(schedule)
    data = gaussian(torch.full((64,), 0.4), torch.full((64,), 0.5))
    denoise = data.denoise(process)
    step = published_vp(200) if isinstance(schedule, VP) else published_ve(200, 0.01, 10.0)
    retained = retained_by(step) if isinstance(schedule, VP) else all_retained
    moves = correct_predict(
        ReverseDiffusionStep(process, denoise, step),
        CorrectorStep(denoise, 0.1, retained),
        published_pairs(200),
        stays,
    )
    with torch.inference_mode():
        x = finish(process.prior((200, 64)).sample(), moves)
    assert float(x.mean()) == pytest.approx(0.4, abs=0.02)
    assert float(x.std()) == pytest.approx(0.5, rel=0.06)


def test_a_plan_that_would_end_on_a_noisy_level_ends_clean() -> None:
    for schedule, kind in ((VE(), DenoiseToZero), (VP(), DDIMStep)):
        process = GaussianDiffusion(schedule)
        denoise = gaussian(MEAN, STD).denoise(process)
        moves = DDIM().plan(process, denoise, 4)
        assert isinstance(moves[-1][0], kind)
        assert all(isinstance(kernel, DDIMStep) for kernel, _, _ in moves[:-1])
