"""DDPM in continuous time: its loss beside the paper's formula, exact ancestral steps, and a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.cli import main
from sfumato.core.exact import gaussian
from sfumato.core.sampling import finish
from sfumato.papers import from_json, to_json
from sfumato.papers.continuous import ContinuousDDPM
from sfumato.samplers import Ancestral

SHAPE = (1, 8, 8)


class Affine(nn.Module):
    """A network that keeps what it was given of the noise level."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        self.given = t
        return 0.3 * x + 0.01 * t[:, None, None, None]


@pytest.mark.parametrize("prediction", ["eps", "v"])
@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_loss_is_the_mean_squared_error_of_what_is_predicted(prediction: Any, schedule: Any) -> None:
    recipe = ContinuousDDPM(SHAPE, schedule=schedule, prediction=prediction, weight=prediction, condition="log-snr")
    diffusion, network = recipe.build(), Affine()
    x0, eps = 2 * torch.rand(4, *SHAPE) - 1, torch.randn(4, *SHAPE)
    t = torch.tensor([0.01, 0.3, 0.7, 0.95], dtype=torch.float64)
    loss = diffusion.loss(network, x0, t, lambda like: eps)
    log_snr = diffusion.gaussian.schedule.log_snr(t)
    torch.testing.assert_close(network.given, log_snr.float())
    alpha, sigma = (
        value.float()[:, None, None, None] for value in (log_snr.sigmoid().sqrt(), (-log_snr).sigmoid().sqrt())
    )
    target = eps if prediction == "eps" else alpha * eps - sigma * x0
    expected = ((network(alpha * x0 + sigma * eps, log_snr.float()) - target) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"schedule": "linear"}, {"schedule": "table", "log_snr": (9.0, 2.0, -9.0)}])
def test_ancestral_steps_reach_gaussian_data(options: Any) -> None:
    process = ContinuousDDPM(SHAPE, **options).build().gaussian
    mean, std = torch.tensor([0.4, -0.2]).double(), torch.tensor([0.5, 0.3]).double()
    torch.manual_seed(0)
    found = finish(
        torch.randn(20_000, 2).double(), Ancestral().plan(process, gaussian(mean, std).denoise(process), 200)
    )
    torch.testing.assert_close(found.mean(0), mean, atol=0.02, rtol=0)
    torch.testing.assert_close(found.std(0), std, atol=0.02, rtol=0.02)


def test_a_table_goes_with_its_schedule_alone_and_survives_json() -> None:
    with pytest.raises(ValueError, match="goes with no other"):
        ContinuousDDPM(SHAPE, log_snr=(9.0, -9.0))
    with pytest.raises(ValueError, match="goes with no other"):
        ContinuousDDPM(SHAPE, schedule="table")
    with pytest.raises(ValueError, match="each below"):
        ContinuousDDPM(SHAPE, schedule="table", log_snr=(1.0, 2.0))
    recipe = ContinuousDDPM(SHAPE, schedule="table", log_snr=(9.0, 1.0, -9.0))
    assert from_json(to_json(recipe)) == recipe


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_times_may_be_learned(schedule: Any) -> None:
    diffusion = ContinuousDDPM(SHAPE, schedule=schedule, times="learned").build()
    t, weight = diffusion.times.draw((torch.arange(64) + 0.5) / 64)
    assert diffusion.times.learns
    assert bool(((t >= 0) & (t <= 1)).all() & weight.isfinite().all())
    assert float(weight.mean()) == pytest.approx(1, abs=0.1)  # of a density, weighed by its inverse


def test_a_run_from_training_to_pictures(tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    assert main(["train", "continuous/digits", "--train.images", "128", "--train.batch", "32", "--out", run]) == 0
    for sampler in ("own", "dpmpp-2m"):
        out = str(tmp_path / f"{sampler}.png")
        assert main(["sample", run, "-n", "4", "--steps", "4", "--sampler", sampler, "--out", out]) == 0
    assert main(["likelihood", run, "--method", "ode", "--limit", "2"]) == 0
