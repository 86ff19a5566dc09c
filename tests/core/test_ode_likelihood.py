"""The likelihood of the probability flow against densities that are known, for VE, VP and sub-VP."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sfumato.core.continuous import VE, VP, SubVP
from sfumato.core.exact import GaussianMixture, gaussian
from sfumato.core.likelihood import bits_per_dim, exact_divergence, flow_log_prob, hutchinson
from sfumato.core.ode import probability_flow, runge_kutta
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Continuous

SCHEDULES: dict[str, Continuous] = {"VE": VE(), "VP": VP(), "sub-VP": SubVP()}
MEAN, STD = torch.tensor([0.4, -0.3], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)
DATA = {
    "Gaussian": gaussian(MEAN, STD),
    "mixture": GaussianMixture(
        torch.tensor([0.3, 0.7], dtype=torch.float64),
        torch.tensor([[-0.6, 0.2], [0.5, -0.4]], dtype=torch.float64),
        torch.tensor([[0.25, 0.3], [0.3, 0.2]], dtype=torch.float64),
    ),
}


def solvers() -> list[Any]:
    """Runge-Kutta steps, and torchdiffeq's adaptive ones where it is installed."""
    try:
        from sfumato.likelihood.flow import adaptive

        return [pytest.param(runge_kutta(200), id="runge-kutta"), pytest.param(adaptive(1e-6, 1e-6), id="adaptive")]
    except ValueError:
        return [pytest.param(runge_kutta(200), id="runge-kutta")]


@pytest.mark.parametrize("solve", solvers())
@pytest.mark.parametrize("data", DATA.values(), ids=DATA)
@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_likelihood_is_true_to_a_thousandth_of_a_bit(schedule: Any, data: GaussianMixture, solve: Any) -> None:
    """On average; and point by point as well, once the prior is exchanged for what the data really become."""
    process, ends = GaussianDiffusion(schedule), torch.tensor([1e-5, 1.0], dtype=torch.float64)
    x = data.sample(500, torch.Generator().manual_seed(0))
    log_prob, z = flow_log_prob(process, data.denoise(process), x, solve)
    assert z.shape == x.shape
    bits = bits_per_dim(log_prob.mean()[None], 2, 1 / 128) - bits_per_dim(data.log_prob(x).mean()[None], 2, 1 / 128)
    assert abs(float(bits)) < 1e-3
    truth, become = data.log_prob(x, process.level(ends[0], x)), data.log_prob(z, process.level(ends[1], x))
    prior = process.prior((500, 2)).log_prob(z).sum(1)
    assert float((log_prob - prior + become - truth).abs().max()) / (2 * math.log(2)) < 1e-4


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_the_exact_divergence_is_the_trace(schedule: Continuous) -> None:
    """For Gaussian data, f + g^2 / (2 variance), summed over coordinates."""
    process, t = GaussianDiffusion(schedule), torch.tensor(0.3, dtype=torch.float64)
    field = probability_flow(process, DATA["Gaussian"].denoise(process))
    x = torch.randn(5, 2, dtype=torch.float64)
    with torch.inference_mode():
        velocity, divergence = exact_divergence(field, x, t)
    f, g2 = schedule.drift_diffusion(t)
    alpha, sigma = schedule.alpha_sigma(t)
    truth = (f + g2 / (2 * ((alpha * STD) ** 2 + sigma**2))).sum()
    assert torch.allclose(divergence, truth.expand(5))
    assert torch.allclose(velocity, field(x, t))


@pytest.mark.parametrize("kind", ["rademacher", "gaussian"])
def test_probes_estimate_the_divergence_without_bias(kind: str) -> None:
    torch.manual_seed(0)
    process, t = GaussianDiffusion(VP()), torch.tensor(0.2, dtype=torch.float64)
    field = probability_flow(process, DATA["mixture"].denoise(process))
    x = torch.randn(1, 2, dtype=torch.float64).repeat(4000, 1)
    probes = torch.randn(2, 4000, 2, dtype=torch.float64)
    estimates = hutchinson(probes.sign() if kind == "rademacher" else probes)(field, x, t)[1]
    truth = exact_divergence(field, x[:1], t)[1]
    assert float(estimates.mean()) == pytest.approx(float(truth), abs=4 * float(estimates.std()) / 4000**0.5 + 1e-9)


def test_bits_of_a_uniform_density_are_eight() -> None:
    """1/2 everywhere in [-1, 1]: each of 256 bins has the same probability."""
    assert float(bits_per_dim(torch.tensor([10 * math.log(0.5)]), 10, 1 / 128)) == pytest.approx(8)
