"""Schedules: closed forms of the continuous ones, what every table keeps, and what is refused.

Drift and diffusion are checked against the SDEs as the papers state them (Song et al. 2021, eq. 30 to 35).
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core import VE, VP, Continuous, Cosine, LinearFlow, SubVP, Table, from_betas, from_sigmas, geometric_sigmas
from sfumato.core import betas as B
from sfumato.core import continuous as C
from sfumato.core import schedules as S
from sfumato.core.log_snr import LinearBetas, NoisyCosine, Tabulated

T01 = torch.tensor([0.0, 1e-4, 0.1, 0.5, 0.9, 1.0], dtype=torch.float64)
BETAS = [B.linear_betas, B.quad_betas, B.const_betas, B.warmup_betas, B.jsd_betas, B.sigmoid_betas, B.cosine_betas]


@pytest.mark.parametrize("betas", BETAS)
@given(T=st.integers(20, 300))
def test_tables_preserve_variance_and_only_grow_noisier(betas: object, T: int) -> None:
    table = from_betas(betas(T))  # type: ignore[operator]
    alpha, sigma = table.alpha_sigma(torch.arange(T + 1))
    assert torch.allclose(alpha**2 + sigma**2, torch.ones(T + 1, dtype=torch.float64), atol=1e-12)
    assert (alpha[0], sigma[0]) == (1, 0)  # level 0 is clean data
    assert bool((sigma.diff() > 0).all()) or float(alpha[-1]) < 1e-6


def test_known_ends() -> None:
    """alpha-bar at T = 1000: 4.04e-5 on linear betas, 2.43e-9 on cosine."""
    end = torch.tensor(1000)
    assert math.isclose(float(from_betas(B.linear_betas(1000)).alpha_sigma(end)[0] ** 2), 4.036e-5, rel_tol=1e-3)
    assert math.isclose(float(from_betas(B.cosine_betas(1000)).alpha_sigma(end)[0] ** 2), 2.4288e-9, rel_tol=1e-3)


def test_warmup_rises_then_stays() -> None:
    betas = B.warmup_betas(100, 1e-4, 0.02, fraction=0.5)
    assert torch.allclose(betas[:50], torch.linspace(1e-4, 0.02, 50, dtype=torch.float64))
    assert bool((betas[50:] == 0.02).all())


def test_jsd_erases_the_same_share_each_level() -> None:
    """alpha-bar falls along a straight line: 1 - t / T."""
    alpha, _ = from_betas(B.jsd_betas(10)).alpha_sigma(torch.arange(11))
    assert torch.allclose(alpha**2, 1 - torch.arange(11).double() / 10, atol=1e-12)


def test_geometric_sigmas() -> None:
    sigmas = geometric_sigmas(10, 0.01, 1.0)
    ratios = sigmas[1:] / sigmas[:-1]
    assert torch.allclose(ratios, ratios[0].expand(9))
    assert math.isclose(float(sigmas[0]), 0.01)
    alpha, sigma = from_sigmas(sigmas).alpha_sigma(torch.tensor([0, 10]))
    assert alpha.tolist() == [1, 1]
    assert sigma.tolist() == pytest.approx([0, 1])


def test_vp_is_the_sde_of_the_paper() -> None:
    beta = 0.1 + 19.9 * T01
    f, g2 = VP().drift_diffusion(T01)
    assert torch.allclose(f, -beta / 2)
    assert torch.allclose(g2, beta)


def test_sub_vp_is_the_sde_of_the_paper() -> None:
    """g^2 = beta (1 - exp(-2 B)) with B the integral of beta."""
    beta, B = 0.1 + 19.9 * T01, 0.1 * T01 + 9.95 * T01**2
    f, g2 = SubVP().drift_diffusion(T01)
    assert torch.allclose(f, -beta / 2)
    assert torch.allclose(g2, beta * -torch.expm1(-2 * B), atol=1e-12)
    assert bool((SubVP().alpha_sigma(T01)[1] <= VP().alpha_sigma(T01)[1]).all())


def test_ve_is_the_sde_of_the_paper() -> None:
    sigma = 0.01 * 5000**T01
    f, g2 = VE().drift_diffusion(T01)
    assert torch.equal(f, torch.zeros(6, dtype=torch.float64))
    assert torch.allclose(g2.sqrt(), sigma * math.sqrt(2 * math.log(5000)))


def test_linear_flow() -> None:
    inside = T01[:-1]
    f, g2 = LinearFlow().drift_diffusion(inside)
    assert torch.allclose(f, -1 / (1 - inside))
    assert torch.allclose(g2, 2 * inside + 2 * inside**2 / (1 - inside))


def test_shift_multiplies_sigma_over_alpha() -> None:
    """Esser et al. 2024, eq. 23; the resolutions' root of 16 makes 4 of 1."""
    t = T01[1:-1]
    (alpha, sigma), (alpha_4, sigma_4) = LinearFlow().alpha_sigma(t), LinearFlow(4.0).alpha_sigma(t)
    assert torch.allclose(alpha_4 + sigma_4, torch.ones_like(t))
    assert torch.allclose(sigma_4 / alpha_4, 4 * sigma / alpha)


def test_even_times_of_edm_are_the_published_levels() -> None:
    """Karras et al. 2022, eq. 5 with rho 7, from 80 to 0.002 in 18 levels."""
    schedule = C.PowerVE()
    sigmas = schedule.alpha_sigma(schedule.times(18))[1]
    published = [80, 57.59, 40.79, 28.37, 19.35, 12.91, 8.401, 5.315, 3.257, 1.923, 1.088, .5853, .2964, .1395, .0599,
                 .0229, .0075, .002, 0]  # fmt: skip
    assert sigmas.tolist() == pytest.approx(published, rel=4e-4, abs=5e-5)
    grid = schedule.alpha_sigma(schedule.times(lambda T: torch.tensor([T, 1, 0])))[1]
    assert grid.tolist() == pytest.approx([80, 0.002, 0])


@pytest.mark.parametrize("schedule", [C.PowerVE(), C.PowerVE(rho=1.0), LinearFlow(), LinearFlow(3.0)])
def test_times_in_closed_form_are_those_of_bisection(schedule: Continuous) -> None:
    half_log_snr = torch.tensor([-4.0, 0.0, 4.0], dtype=torch.float64)
    assert torch.allclose(schedule.at(half_log_snr), Continuous.at(schedule, half_log_snr), atol=1e-12)
    assert torch.allclose(schedule.log_snr(schedule.at(half_log_snr)) / 2, half_log_snr)
    assert schedule.at(torch.tensor(-99.0)) == pytest.approx(schedule.end)


def test_cosine_follows_the_discrete_one() -> None:
    """The continuous cosine at t = i / T is the table of the same cosine before its betas are capped."""
    T = 1000
    alpha, _ = from_betas(B.cosine_betas(T)).alpha_sigma(torch.arange(T + 1))
    continuous, _ = Cosine().alpha_sigma(torch.arange(T + 1).double() / T)
    assert torch.allclose(alpha[:-1], continuous[:-1], atol=1e-12)


@pytest.mark.parametrize("schedule", [VP(), SubVP(), VE(), Cosine(), LinearFlow(), C.LinearFlow(0.5)])
def test_drift_and_diffusion_move_the_moments(schedule: Continuous) -> None:
    """Integrating dm = f m and dV = 2 f V + g^2 (by Heun's rule) gives alpha and sigma^2 again."""
    t = torch.linspace(0.01, 0.9, 4001, dtype=torch.float64)
    alpha, sigma = schedule.alpha_sigma(t)
    f, g2 = schedule.drift_diffusion(t)
    m, V = alpha[0], sigma[0] ** 2
    for i in range(len(t) - 1):
        h = t[i + 1] - t[i]
        k1, l1 = f[i] * m, 2 * f[i] * V + g2[i]
        k2, l2 = f[i + 1] * (m + h * k1), 2 * f[i + 1] * (V + h * l1) + g2[i + 1]
        m, V = m + h * (k1 + k2) / 2, V + h * (l1 + l2) / 2
    assert math.isclose(float(m), float(alpha[-1]), rel_tol=1e-5)
    assert math.isclose(float(V), float(sigma[-1] ** 2), rel_tol=1e-5)


def test_log_snr_falls() -> None:
    for schedule in (VP(), SubVP(), VE(), Cosine(), LinearFlow(), LinearFlow(3.0), C.PowerVE()):
        values = schedule.log_snr(torch.linspace(0.01, 0.99, 50))
        assert bool((values.diff() < 0).all())


def test_levels_broadcast_and_keep_precision() -> None:
    table = from_betas(B.linear_betas(10))
    x = torch.zeros(3, 1, 2, 2)
    many = table.level(torch.tensor([0, 5, 10]), x)
    assert many.alpha.shape == (3, 1, 1, 1)
    assert many.alpha.dtype == torch.float32
    one = table.level(torch.tensor(5), x)
    assert one.alpha.dtype == torch.float64  # a host number, which leaves x's precision alone
    assert one.noise(x, x).dtype == torch.float32


def test_refusals() -> None:
    for wrong in (torch.tensor([0.1, 1.2]), torch.tensor([0.0, 0.1]), torch.tensor([-0.1])):
        with pytest.raises(ValueError, match="betas lie in"):
            from_betas(wrong)
    with pytest.raises(ValueError, match="ascend"):
        from_sigmas(torch.tensor([2.0, 1.0]))
    with pytest.raises(ValueError, match="T >= 1"):
        Table(torch.ones(2), torch.ones(3))


def test_a_table_goes_on_between_its_levels() -> None:
    """Exact at the levels, and between the published levels of the VP SDE near the SDE itself."""
    table = S.from_betas(B.linear_betas(1000, 0.1 / 1000, 20 / 1000))
    levels = torch.arange(1, 1001)
    for whole, real in zip(table.alpha_sigma(levels), table.alpha_sigma(levels.double()), strict=True):
        assert torch.allclose(whole, real, atol=1e-12)
    continued, vp = S.Interpolated(table), C.VP(0.1, 20.0)
    t = torch.linspace(0.01, 1, 777, dtype=torch.float64)
    for ours, limit in zip(continued.alpha_sigma(t), vp.alpha_sigma(t), strict=True):
        assert torch.allclose(ours, limit, atol=3e-3)
    for ours, limit in zip(continued.drift_diffusion(t), vp.drift_diffusion(t), strict=True):
        assert torch.allclose(ours, limit, rtol=0.02, atol=0.02)
    fine = continued.alpha_sigma(torch.linspace(0, 1, 50_001, dtype=torch.float64))[0]
    assert bool((fine.diff() < 0).all())
    capped = S.Interpolated(S.from_betas(B.cosine_betas(100)))
    assert bool((capped.alpha_sigma(torch.linspace(0, 1, 5_001, dtype=torch.float64))[0].diff() < 0).all())


@pytest.mark.parametrize(
    "table",
    [S.from_sigmas(torch.tensor([1.0, 2.0, 3.0])), S.from_betas(torch.tensor([0.5, 1.0]))],
)
def test_a_table_that_does_not_preserve_has_nothing_between(table: S.Table) -> None:
    with pytest.raises(ValueError, match="no continuous time between"):
        S.Interpolated(table)


# ---------------------------------------------------------------- the seam: times, first, below, continuous, rate


CONTINUOUS = [
    C.VP(), C.SubVP(), C.VE(), C.Cosine(), C.LinearFlow(), C.LinearFlow(shift=3.0), C.PowerVE(),
    LinearBetas(), NoisyCosine(), Tabulated((9.0, 4.0, 1.0, -2.0, -9.0)),
]  # fmt: skip


@pytest.mark.parametrize("schedule", CONTINUOUS, ids=lambda s: type(s).__name__)
def test_rates_are_finite_differences_and_finite_without_signal(schedule: Continuous) -> None:
    x, h = torch.zeros(3, 1, dtype=torch.float64), 1e-6
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    rate = schedule.rate(t, x)
    above, below = schedule.level(t + h, x), schedule.level(t - h, x)
    assert torch.allclose(rate.alpha, (above.alpha - below.alpha) / (2 * h), rtol=1e-5, atol=1e-8)
    assert torch.allclose(rate.sigma, (above.sigma - below.sigma) / (2 * h), rtol=1e-5, atol=1e-8)
    end = schedule.rate(torch.tensor(1.0), x)
    assert bool(end.alpha.isfinite().all() & end.sigma.isfinite().all())  # where alpha is 0, too
    with torch.inference_mode():
        assert torch.equal(schedule.rate(t, x).sigma, rate.sigma)


@pytest.mark.parametrize("schedule", [*CONTINUOUS, from_betas(B.linear_betas(1000)), from_sigmas(torch.arange(1.0, 9))])
def test_times_descend_from_the_end_to_clean_data(schedule: S.Schedule) -> None:
    for steps in (1, 2, 7, None):
        times = schedule.times(steps)
        assert len(times) == (int(schedule.end) if schedule.end > 1 else 1000) + 1 if steps is None else steps + 1
        assert bool((times.diff() < 0).all())
        assert float(times[0]) == schedule.end
        assert times[-1] == 0
    assert 0 < schedule.first <= float(schedule.times()[-2])
    with pytest.raises(ValueError, match="steps"):
        schedule.times(0)


def test_the_level_below_ends_at_clean_data() -> None:
    table = from_betas(B.linear_betas(10))
    assert table.below(torch.tensor([10, 1, 0])).tolist() == [9, 0, 0]
    assert C.VP().below(torch.tensor([1.0, 0.0005])).tolist() == pytest.approx([0.999, 0.0])


def test_a_grid_of_levels_is_one_of_thousandths_in_continuous_time() -> None:
    assert C.VP().times(lambda T: S.strided(T, 4)).tolist() == pytest.approx([1, 0.75, 0.5, 0.25, 0])


def test_the_schedule_in_continuous_time() -> None:
    vp, table = C.VP(), from_betas(B.linear_betas(1000))
    assert vp.continuous() is vp
    halfway = table.continuous().alpha_sigma(torch.tensor(0.5, dtype=torch.float64))
    assert torch.allclose(torch.stack(halfway), torch.stack(table.alpha_sigma(torch.tensor(500))))
    with pytest.raises(ValueError, match="no table of a variance-preserving process"):
        from_sigmas(torch.tensor([1.0, 2.0])).continuous()


def test_a_schedule_made_and_asked_in_inference_mode_has_its_rates_outside_as_well() -> None:
    with torch.inference_mode():
        schedule = from_betas(B.linear_betas(100)).continuous()
        inside = schedule.rate(torch.tensor(0.5), torch.zeros(1, 1))
    assert torch.equal(schedule.rate(torch.tensor(0.5), torch.zeros(1, 1)).sigma, inside.sigma)


@pytest.mark.parametrize(("start", "end", "tau"), [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.5)])
def test_the_sigmoid_in_the_signal_is_its_closed_form(start: float, end: float, tau: float) -> None:
    T = 50
    alpha_bar = torch.cumprod(1 - B.sigmoid_signal_betas(T, start, end, tau), 0)
    for t in (1, 20, 49):
        low, high, at = (1 / (1 + math.exp(-u / tau)) for u in (start, end, start + t / T * (end - start)))
        assert alpha_bar[t - 1].item() == pytest.approx((high - at) / (high - low), rel=1e-9)
    same = B.sigmoid_signal_betas(T, 2 * start, 2 * end, 2 * tau)  # ratios alone matter
    assert torch.allclose(same, B.sigmoid_signal_betas(T, start, end, tau))
    with pytest.raises(ValueError, match="start below its end"):
        B.sigmoid_signal_betas(T, 3, -3)
