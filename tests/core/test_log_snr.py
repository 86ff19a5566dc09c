"""Schedules by their log SNR: closed forms, what is left at the ends, a table against the curve that it stands for."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.core.betas import linear_betas
from sfumato.core.log_snr import LinearBetas, NoisyCosine, Tabulated
from sfumato.core.schedules import Continuous, from_betas

TIMES = torch.linspace(0, 1, 41, dtype=torch.float64)


def test_linear_betas_are_ddpms_in_continuous_time() -> None:
    """-log alpha^2 = 1e-4 + 10 t^2; Ho et al.'s thousand betas sum to nearly that."""
    alpha, variance = LinearBetas().alpha_variance(TIMES)
    torch.testing.assert_close(-2 * alpha.log(), 1e-4 + 10 * TIMES**2)
    torch.testing.assert_close(alpha**2 + variance, torch.ones_like(alpha))
    table = from_betas(linear_betas(1000))
    mine, ho = LinearBetas().log_snr(TIMES[1:]), table.log_snr((1000 * TIMES[1:]).round().long())
    assert float((mine - ho).abs().max()) < 0.35  # theirs begins at 1e-4 a step and not at 0


def test_the_cosine_has_noise_at_time_0_and_a_finite_end() -> None:
    schedule = NoisyCosine()
    log_snr = schedule.log_snr(TIMES)
    expected = -torch.log(torch.tan((TIMES[:-1] + 0.008) / 1.008 * math.pi / 2) ** 2)
    torch.testing.assert_close(log_snr[:-1], expected)
    assert float(log_snr[0]) == pytest.approx(8.769, abs=1e-3)
    assert float(log_snr[-1]) == pytest.approx(-33.891, abs=1e-3)  # as single precision has it
    assert bool((log_snr.diff() < 0).all())


def curve(t: Tensor) -> Tensor:
    return 9 - 18 * t - 1.5 * torch.sin(2 * math.pi * t)


def test_a_tables_error_falls_with_the_third_power_of_its_length() -> None:
    errors = []
    for n in (17, 33, 65):
        table = Tabulated(curve(torch.linspace(0, 1, n, dtype=torch.float64)).tolist())
        errors.append(float((table.curve(TIMES) - curve(TIMES)).abs().max()))
    assert errors[1] < errors[0] / 6
    assert errors[2] < errors[1] / 6


@pytest.mark.parametrize("values", [(3.0, -3.0), (9.0, 8.9, -5.0), (9.0, 1.0, 0.99, 0.98, -8.0, -30.0)])
def test_a_table_is_monotone_and_goes_through_its_numbers(values: tuple[float, ...]) -> None:
    table = Tabulated(values)
    at = torch.linspace(0, 1, len(values), dtype=torch.float64)
    torch.testing.assert_close(table.curve(at), torch.tensor(values, dtype=torch.float64))
    assert bool((table.curve(torch.linspace(0, 1, 2001, dtype=torch.float64)).diff() < 0).all())
    torch.testing.assert_close(table.log_snr(at), torch.tensor(values, dtype=torch.float64))


@pytest.mark.parametrize("values", [(), (1.0,), (1.0, 2.0), (1.0, 1.0, 0.0), (1.0, float("nan"))])
def test_what_does_not_descend_is_refused(values: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="each below the one before"):
        Tabulated(values)


@pytest.mark.parametrize("schedule", [LinearBetas(), NoisyCosine(), Tabulated(curve(TIMES).tolist())])
def test_times_are_found_by_their_log_snr(schedule: Continuous) -> None:
    wanted = schedule.log_snr(TIMES[1:-1]) / 2
    torch.testing.assert_close(schedule.at(wanted), TIMES[1:-1], atol=1e-9, rtol=0)
