"""Resolution shift of log-SNR: its closed forms in levels and in continuous time, and that downsampling undoes it."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.betas import cosine_betas, linear_betas, shifted, zero_terminal_snr
from sfumato.core.continuous import VP, Cosine, LinearFlow, Shifted
from sfumato.core.schedules import from_betas
from sfumato.papers.adm import ADM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.iddpm import ImprovedDDPM


@pytest.mark.parametrize("betas", [cosine_betas(1000), linear_betas(1000)])
@pytest.mark.parametrize(("clean", "noisy"), [(2.0, 2.0), (0.25, 0.25), (1.0, 4.0), (1.0, 0.5)])
def test_log_snr_of_levels_is_moved(betas: Tensor, clean: float, noisy: float) -> None:
    """By -2 log of the factor, interpolated in t between the two."""
    t = torch.arange(1, 1001)
    before, after = (from_betas(b).log_snr(t) for b in (betas, shifted(betas, clean, noisy)))
    expected = before - 2 * ((1 - t / 1000) * math.log(clean) + t / 1000 * math.log(noisy))
    torch.testing.assert_close(after, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("schedule", [Cosine(), VP()])
def test_log_snr_of_continuous_time_is_moved(schedule: Any) -> None:
    t = torch.linspace(1e-3, 0.999, 50, dtype=torch.float64)
    moved = Shifted(schedule, 1.5, 6.0)
    expected = schedule.log_snr(t) - 2 * ((1 - t) * math.log(1.5) + t * math.log(6.0))
    torch.testing.assert_close(moved.log_snr(t), expected)
    alpha, sigma = moved.alpha_sigma(t)
    torch.testing.assert_close(alpha**2 + sigma**2, torch.ones_like(t))
    torch.testing.assert_close(moved.at(moved.log_snr(t) / 2), t, atol=1e-9, rtol=1e-9)
    f, g = moved.drift_diffusion(t)  # of a variance-preserving process
    torch.testing.assert_close(g, -2 * f)


def test_it_is_the_shift_of_flow_matching() -> None:
    """sigma / alpha is multiplied, as Esser et al. 2024, eq. 23, do with t / (1 - t)."""
    t = torch.linspace(0.01, 0.99, 9, dtype=torch.float64)
    one, three = LinearFlow().log_snr(t), LinearFlow(3.0).log_snr(t)
    cosine = Cosine()
    torch.testing.assert_close(one - three, cosine.log_snr(t) - Shifted(cosine, 3.0, 3.0).log_snr(t))


def test_levels_and_continuous_time_agree() -> None:
    table = from_betas(shifted(cosine_betas(1000), 1.0, 4.0))
    k = torch.arange(100, 950, 50)
    torch.testing.assert_close(table.log_snr(k), Shifted(Cosine(), 1.0, 4.0).log_snr(k / 1000), atol=1e-3, rtol=1e-3)


def test_a_smaller_picture_is_as_noisy_as_it_was_meant_to_be() -> None:
    """The mean over 2 x 2 pixels halves the noise; shifted by 2, a level is the unshifted one of the small picture."""
    k, plain = torch.tensor(400), from_betas(cosine_betas(1000))
    alpha, sigma = from_betas(shifted(cosine_betas(1000), 2.0, 2.0)).alpha_sigma(k)
    of_small = torch.randn(2000, 1, 8, 8, dtype=torch.float64).mul(sigma)
    measured = torch.nn.functional.avg_pool2d(of_small, 2).std() / alpha
    expected = plain.alpha_sigma(k)[1] / plain.alpha_sigma(k)[0]
    assert float(measured / expected) == pytest.approx(1, abs=0.02)


def test_no_signal_stays_none_and_what_would_fall_is_refused() -> None:
    betas = shifted(zero_terminal_snr(linear_betas(100)), 1.0, 3.0)
    assert float(betas[-1]) == 1
    with pytest.raises(ValueError, match="less noisy than those below"):
        shifted(linear_betas(1000), 1000.0, 0.001)


@pytest.mark.parametrize("recipe", [DDPM(steps=100), ImprovedDDPM(steps=100), ADM(steps=100)])
def test_recipes_train_and_sample_on_the_same_shifted_levels(recipe: Any) -> None:
    t = torch.arange(1, 101)
    plain, same, moved = (replace(recipe, shift=s).build() for s in ((1.0,), (1.0, 1.0), (2.0,)))
    assert torch.equal(plain.gaussian.schedule.log_snr(t), same.gaussian.schedule.log_snr(t))
    torch.testing.assert_close(
        moved.gaussian.schedule.log_snr(t), plain.gaussian.schedule.log_snr(t) - 2 * math.log(2), rtol=1e-6, atol=1e-5
    )
    seen: list[Tensor] = []

    class Kept(torch.nn.Module):
        def forward(self, x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
            seen.append(x)
            return torch.zeros(len(x), x.shape[1] * (1 if isinstance(recipe, DDPM) else 2), *x.shape[2:])

    labels = {"y": torch.zeros(4, dtype=torch.long)} if recipe.conditioning.classes else {}
    x0 = torch.zeros(4, 3, 8, 8)
    moved.loss(Kept(), x0, torch.full((4,), 30), torch.ones_like, **labels)
    assert float(seen[0].mean()) == pytest.approx(float(moved.gaussian.schedule.alpha_sigma(torch.tensor(30))[1]))


@pytest.mark.parametrize("shift", [(), (0.0,), (1.0, 2.0, 3.0), (float("nan"),)])
def test_bad_shifts_end_in_one_line(shift: Any) -> None:
    with pytest.raises(ValueError, match="shift is"):
        DDPM(shift=shift)
