"""The probability-flow ODE on data whose flow is known: Runge-Kutta, and the steps of samplers beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.core import VE, VP, GaussianDiffusion, Schedule, SubVP, descend, finish, ode
from sfumato.core.denoisers import Prediction, predict_eps
from sfumato.core.exact import GaussianMixture, gaussian, gaussian_flow
from sfumato.samplers.heun import HeunStep
from sfumato.samplers.reverse_sde import EulerODEStep

SCHEDULES: dict[str, Schedule] = {"VE": VE(0.1, 5.0), "VP": VP(), "sub-VP": SubVP()}
MEAN, STD = torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)
MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-0.6, 0.2], [0.5, 0.4]], dtype=torch.float64),
    torch.tensor([[0.2, 0.3], [0.25, 0.15]], dtype=torch.float64),
)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize(("kind", "order"), [(EulerODEStep, 1), (HeunStep, 2)])
def test_the_flow_of_a_mixture_is_followed_at_that_order(kind: Any, order: int, schedule: Schedule) -> None:
    """Point by point, beside a fine solution of the ODE by Runge-Kutta."""
    process = GaussianDiffusion(schedule)
    denoise = MIXTURE.denoise(process)
    x = process.prior((64, 2)).sample(lambda m: torch.randn(64, 2, generator=torch.Generator().manual_seed(0)).double())
    truth = ode.follow(process, denoise, x, 0.98, 0.02, ode.runge_kutta(200))
    kernel, counts, errors = kind(process, denoise), (50, 100), []
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
        float((ode.follow(process, denoise, x, 0.9, 0.05, ode.runge_kutta(n)) - truth).abs().max()) for n in counts
    ]
    assert abs(-np.polyfit(np.log(counts), np.log(errors), 1)[0] - 4) < 0.4


def test_steps_even_in_the_root_of_time_suit_a_flow_that_starts_at_clean_data() -> None:
    """A network's noise does not vanish at clean data as the exact one does, so its flow begins like sqrt(t)."""
    process = GaussianDiffusion(VP())

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        return predict_eps((2 * x).sin(), x, t, process)

    x = torch.randn(64, 2, dtype=torch.float64)
    fine, good, poor = (
        ode.follow(process, denoise, x, 1e-5, 1.0, ode.runge_kutta(n, power))
        for n, power in ((300, 2), (50, 2), (50, 1))
    )
    assert float((good - fine).abs().max()) < 1e-4
    assert float((poor - fine).abs().max()) > 100 * float((good - fine).abs().max())
