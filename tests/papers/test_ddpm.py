"""The DDPM recipe: its loss against Ho et al.'s formula, every choice of prediction, and sampling to known ends.

The network is replaced by exact or trivial ones, so that each check has a known answer.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.conditioning import Labels
from sfumato.core.exact import gaussian
from sfumato.core.losses import WEIGHTS
from sfumato.core.sampling import finish
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.samplers import DDIM

NETWORK = HoUNet(channels=32, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0)
TINY = DDPM(shape=(1, 8, 8), network=NETWORK, steps=50)


class Constant(nn.Module):
    """Answers with the same number everywhere."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        return torch.full_like(x, self.value)


def test_simple_loss_is_the_squared_error_in_eps() -> None:
    x0, eps = torch.rand(4, 1, 8, 8) * 2 - 1, torch.randn(4, 1, 8, 8)
    t = torch.tensor([1, 10, 30, 50])
    loss = TINY.build().loss(Constant(0.25), x0, t, lambda _: eps)
    assert torch.allclose(loss, ((eps - 0.25) ** 2).mean((1, 2, 3)), rtol=1e-4)


@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_a_perfect_network_has_no_loss_in_any_parameterisation(prediction: Any) -> None:
    recipe = replace(TINY, prediction=prediction, weight=prediction, betas="cosine")
    x0, eps = torch.rand(4, 1, 8, 8) * 2 - 1, torch.randn(4, 1, 8, 8)
    t = torch.tensor([1, 10, 30, 49])
    diffusion = recipe.build()
    level = diffusion.gaussian.level(t, x0)
    answer = {"eps": eps, "x0": x0, "v": level.v(x0, eps)}[prediction]

    class Perfect(nn.Module):
        def forward(self, x: Tensor, seen: Tensor) -> Tensor:
            assert torch.equal(seen, (t - 1).float())  # the network sees the paper's 0-based index
            return answer

    assert diffusion.loss(Perfect(), x0, t, lambda _: eps).max() < 1e-6


def test_the_loss_reaches_every_parameter() -> None:
    recipe = replace(TINY, conditioning=Labels(3))
    network = recipe.model()
    for parameter in network.parameters():  # away from the zero initialisation, which hides what lies behind it
        nn.init.normal_(parameter, std=0.1)
    t = torch.tensor([1, 25, 50])
    recipe.build().loss(network, torch.zeros(3, 1, 8, 8), t, y=torch.tensor([0, 1, 2])).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_sampling_of_point_data_lands_on_the_point(variance: Any) -> None:
    """Where the data are one grey, the exact x0 prediction is that grey, and the chain ends there."""
    diffusion = replace(TINY, prediction="x0", variance=variance).build()
    denoise = diffusion.denoise(Constant(0.5), {})
    x = finish(torch.randn(2, 1, 8, 8), diffusion.own.plan(diffusion.gaussian, denoise))
    assert torch.allclose(x, torch.full_like(x, 0.5))


def test_clipping_holds_the_sample_inside_the_range_and_can_be_left_out() -> None:
    noise = torch.randn(2, 1, 8, 8)
    inside = replace(TINY, prediction="x0")
    outside = replace(inside, clip=False)
    for recipe, expected in ((inside, 1.0), (outside, 3.0)):
        diffusion = recipe.build()
        denoise = diffusion.clipped(diffusion.denoise(Constant(3.0), {}))
        x = finish(noise, diffusion.sampler.plan(diffusion.gaussian, denoise, 10))
        assert torch.allclose(x, torch.full_like(x, expected))


@pytest.mark.parametrize("steps", [0, 51, -3])
def test_steps_outside_the_levels_are_refused(steps: int) -> None:
    diffusion = TINY.build()
    denoise = diffusion.denoise(Constant(0.0), {})
    with pytest.raises(ValueError, match="between 1 and 50"):
        diffusion.sampler.plan(diffusion.gaussian, denoise, steps)


@pytest.mark.parametrize("prediction", ["v", "x0"])
@pytest.mark.parametrize("weight", [*WEIGHTS, "bound"])
def test_every_weight_is_finite_where_no_signal_is_left(prediction: Any, weight: Any) -> None:
    recipe = replace(TINY, zero_terminal_snr=True, prediction=prediction, weight=weight, variance="small")
    diffusion = recipe.build()
    assert float(diffusion.gaussian.schedule.alpha_sigma(torch.tensor(50))[0]) == 0
    x0, eps = torch.rand(4, 1, 8, 8) * 2 - 1, torch.randn(4, 1, 8, 8)
    loss = diffusion.loss(Constant(0.25), x0, torch.tensor([1, 25, 49, 50]), lambda _: eps)
    assert bool(loss.isfinite().all())


def test_the_mean_of_samples_lacks_what_signal_is_left() -> None:
    """By sqrt(v / (alpha_T^2 v + sigma_T^2)) alpha_T mu of data N(mu, v), unless the last level has none."""
    mu, std = 0.6, 0.5
    for zero in (False, True):
        process = replace(TINY, steps=200, zero_terminal_snr=zero, prediction="v").build().gaussian
        denoise = gaussian(torch.tensor([mu]).double(), torch.tensor([std]).double()).denoise(process)
        found = finish(torch.zeros(1, 1, dtype=torch.float64), DDIM().plan(process, denoise))
        alpha, sigma = (float(c) for c in process.schedule.alpha_sigma(torch.tensor(200)))
        bias = (std**2 / ((alpha * std) ** 2 + sigma**2)) ** 0.5 * alpha * mu
        assert float(found) == pytest.approx(mu - bias, abs=3e-3)
        assert (bias == 0) == zero
        assert zero or bias > 0.05


def test_eps_without_signal_is_refused() -> None:
    with pytest.raises(ValueError, match="set prediction to v or x0"):
        replace(TINY, zero_terminal_snr=True)


def test_the_papers_network_has_the_papers_size() -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in DDPM().model().parameters()) == 35_746_307
