"""Langevin dynamics on data whose score is known: what it settles on, and what it needs annealing for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core import VE, VP, Gaussian, GaussianDiffusion, GaussianMixture, Schedule, SubVP, finish, from_sigmas
from sfumato.core.betas import geometric_sigmas
from sfumato.core.exact import gaussian
from sfumato.core.schedules import strided
from sfumato.samplers import langevin

SCHEDULES: dict[str, Schedule] = {"VE": VE(0.1, 5.0), "VP": VP(), "sub-VP": SubVP()}
MEAN, STD = torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)


def moments(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule.alpha_sigma(t)
    return alpha * MEAN, (alpha * STD) ** 2 + sigma**2


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_langevin_dynamics_is_stationary_but_for_its_step(schedule: Schedule) -> None:
    """The variance that it settles on exceeds the level's by d / (2 variance - d), for each coordinate."""
    process, t = GaussianDiffusion(schedule), torch.tensor(0.4, dtype=torch.float64)
    size = 0.02
    kernel = langevin.LangevinStep(gaussian(MEAN, STD).denoise(process), langevin.constant(size))
    truth = moments(schedule, t)
    mean, variance = truth[0] + 1, 2 * truth[1]
    at_0, at_1 = (kernel(torch.full((1, 2), x, dtype=torch.float64), t, t).to for x in (0.0, 1.0))
    slope = (at_1.mean - at_0.mean)[0]
    for _ in range(3000):
        mean, variance = slope * mean + at_0.mean[0], slope**2 * variance + at_0.std**2
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
    below = langevin.retained_by(lambda s, t: process.between(t - 0.001, t))
    retained = below if name == "langevin" else langevin.all_retained
    kernel = langevin.CorrectorStep(denoise, 0.1, retained, length)
    if name == "annealed":
        kernel = langevin.LangevinStep(denoise, langevin.ratio(0.1, retained))  # type: ignore[assignment]
    alpha, sigma = (float(c) for c in schedule.alpha_sigma(t))
    variance = (0.4 * alpha) ** 2 + sigma**2
    x = 0.3 * alpha + 2 * variance**0.5 * torch.randn(100, 200)
    x = finish(x, [(kernel, t, t)] * 400)
    assert float(x.mean()) == pytest.approx(0.3 * alpha, abs=0.02 * variance**0.5)
    assert float(x.var()) == pytest.approx(variance, rel=0.03)


def test_a_corrected_image_does_not_depend_on_its_company() -> None:
    process = GaussianDiffusion(VP())
    denoise, t = gaussian(torch.zeros(8), torch.ones(8)).denoise(process), torch.tensor(0.5, dtype=torch.float64)
    x, z = torch.randn(4, 8), torch.randn(4, 8)
    alone = langevin.CorrectorStep(denoise)(x[:1], t, t).to.sample(lambda _: z[:1])
    together = langevin.CorrectorStep(denoise)(x, t, t).to.sample(lambda _: z)
    assert torch.equal(alone, together[:1])
    official = langevin.CorrectorStep(denoise, length=langevin.mean_length)
    assert not torch.equal(
        official(x[:1], t, t).to.sample(lambda _: z[:1]), official(x, t, t).to.sample(lambda _: z)[:1]
    )
    step = langevin.CorrectorStep(denoise)(x, t, t).to
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

    plain = finish(start, [(langevin.LangevinStep(denoise, langevin.constant(0.1)), last, last)] * 1000)
    annealed = langevin.LangevinStep(denoise, langevin.annealed(0.1, 1.0))
    found = finish(start, [(annealed, t, t) for t in strided(10, 10)[:-1] for _ in range(100)])
    assert share(plain) < 0.6
    assert share(found) == pytest.approx(0.8, abs=0.06)
