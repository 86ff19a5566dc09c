"""Mean flows: the closed form for Gaussian data, the forward derivative against differences, and a learned toy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers, samplers
from sfumato.conditioning import Augmented, Labels, Together
from sfumato.core import GaussianDiffusion, LinearFlow
from sfumato.core.exact import gaussian, gaussian_flow
from sfumato.core.mean_flow import (
    FEATURES,
    MeanDenoiser,
    adaptive,
    features,
    guided_velocity,
    mean_target,
    mean_velocity,
)
from sfumato.core.sampling import finish
from sfumato.models import Model
from sfumato.networks.ncsnpp import DDPMpp
from sfumato.networks.unet import HoUNet
from sfumato.noising import Explorative
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.mean_flow import MeanFlow

NET = HoUNet(channels=32, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0)
MEAN, STD = torch.tensor([0.4, -0.6]), torch.tensor([0.5, 0.3])
PROCESS = GaussianDiffusion(LinearFlow())


def exact(z: Tensor, t: Tensor, length: Tensor) -> Tensor:
    """u = (z - phi(z)) / (t - r) of Gaussian data, phi being the flow from t to r."""
    t, r = t[:, None], (t - length)[:, None]
    spread, below = (((1 - time) ** 2 * STD**2 + time**2).sqrt() for time in (t, r))
    return (z - (1 - r) * MEAN - below / spread * (z - (1 - t) * MEAN)) / length[:, None]


def test_the_exact_average_velocity_is_its_own_target() -> None:
    """u = v - (t - r) du/dt with the marginal velocity v (eq. 6), through the forward derivative."""
    t = torch.tensor([0.9, 0.6, 0.999, 0.3])
    length, z = t * torch.tensor([0.5, 0.9, 1.0, 0.1]), torch.randn(4, 2)
    prediction = gaussian(MEAN, STD).denoise(PROCESS)(z, t.double())
    target = mean_target(exact, z, prediction.eps - prediction.x0, t, length)
    torch.testing.assert_close(target, exact(z, t, length), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("net", [NET, DDPMpp(channels=16, multipliers=(1, 1), blocks=1, attention=(2,), dropout=0.0)])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_the_forward_derivative_is_that_of_differences(net: Any, layout: torch.memory_format) -> None:
    """Through attention and group norms, whatever fused kernel is at hand; inside inference mode and bfloat16, too."""
    network: Any = replace(MeanFlow((1, 8, 8), net)).model().eval()
    with torch.no_grad():
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    network.to(memory_format=layout)
    z, v = (torch.randn(3, 1, 8, 8).to(memory_format=layout) for _ in range(2))
    t, length, h = torch.tensor([0.9, 0.5, 0.3]), torch.tensor([0.7, 0.2, 0.0]), 1e-4
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        target = mean_target(mean_velocity(network, {}), z, v, t, length)
    double = network.double()
    u, zd, vd, td, ld = mean_velocity(double, {}), *(value.double() for value in (z, v, t, length))
    with torch.no_grad():
        slope = (u(zd + h * vd, td + h, ld + h) - u(zd - h * vd, td - h, ld - h)) / (2 * h)
    expected = vd - ld[:, None, None, None] * slope
    assert float(slope.abs().max()) > 0.05
    torch.testing.assert_close(target.double(), expected, rtol=3e-2, atol=3e-2 * float(slope.abs().max()))
    assert torch.equal(target[2], v[2])


def test_features_begin_as_nothing() -> None:
    assert features(torch.zeros(2)).abs().max() == 0
    assert features(torch.rand(3)).shape == (3, FEATURES)
    flow, mean = FlowMatching((1, 8, 8), NET), MeanFlow((1, 8, 8), NET, time_scale=1000.0)
    torch.manual_seed(0)
    network = mean.model().eval()
    fewer: Any = flow.model().eval()
    missing = fewer.load_state_dict(network.state_dict(), strict=False)
    assert missing.unexpected_keys == ["numbers_embedding.weight"]
    x, t = torch.randn(2, 1, 8, 8), torch.tensor(0.6).double()
    a, b = mean.build().denoise(network, {}), flow.build().denoise(fewer, {})
    torch.testing.assert_close(a(x, t).x0, b(x, t).x0)


def test_pairs_of_times() -> None:
    t, z = torch.rand(1000).double(), torch.randn(1000, 2)
    for recipe in (MeanFlow(), MeanFlow(swap=False, equal=0.75)):
        now, r = recipe.pairs(t, z)
        assert bool((r <= now).all())
        assert float((r == now).double().mean()) >= recipe.equal - 0.05
        assert bool((now >= t).all() if recipe.swap else (now == t).all())
    assert torch.equal(adaptive(torch.tensor([4.0]), 0.0, 1e-3), torch.tensor([4.0]))
    square = torch.tensor([4.0], requires_grad=True)
    adaptive(square, 1.0, 0.0).sum().backward()
    assert square.grad is not None
    assert float(square.grad) == 0.25


class Exact(nn.Module):
    """The average velocity of Gaussian data, read off the network's inputs."""

    def forward(self, x: Tensor, t: Tensor, numbers: Tensor) -> Tensor:
        return exact(x.flatten(1), t / 100, numbers[:, 0]).view_as(x)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_any_number_of_exact_steps_is_the_whole_flow(n: int) -> None:
    z, denoise = torch.randn(6, 2, 1, 1), MeanDenoiser(Exact(), PROCESS)
    start, end = (PROCESS.level(torch.tensor(time).double(), MEAN) for time in (1.0, 0.0))
    made = samplers.run("mean-flow", PROCESS, denoise, z, steps=n)
    ideal = gaussian_flow(MEAN, STD, z[..., 0, 0], start, end)
    torch.testing.assert_close(made[..., 0, 0], ideal, rtol=1e-4, atol=1e-4)


class Perceptron(nn.Module):
    """An average velocity in the plane, whose embedding of the length begins as nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.length = nn.Linear(3, 96), nn.Linear(FEATURES, 96, bias=False)
        self.rest = nn.Sequential(nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))
        nn.init.zeros_(self.length.weight)

    def forward(self, x: Tensor, t: Tensor, numbers: Tensor) -> Tensor:
        h = self.first(torch.cat([x.flatten(1), t[:, None] / 100], dim=1)) + self.length(numbers)
        return self.rest(h).view_as(x)


@pytest.mark.slow
def test_a_toy_reaches_the_closed_form_in_one_step_and_in_four() -> None:
    """To 6 % of the deviation; a single step of the exact velocity would be off by 1."""
    recipe = MeanFlow((2, 1, 1), t_mean=1.0, t_std=2.0, r_mean=-1.0, r_std=2.0, power=0.0, equal=0.5)
    torch.manual_seed(0)
    built, network, steps = recipe.build(), Perceptron(), 2500
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x0 = (MEAN + STD * torch.randn(512, 2))[..., None, None]
        optimizer.zero_grad()
        built.loss(network, x0, built.times.draw(torch.rand(512))[0]).mean().backward()
        optimizer.step()
        scheduler.step()
    z = torch.randn(2000, 2, 1, 1)
    start, end = (PROCESS.level(torch.tensor(time).double(), MEAN) for time in (1.0, 0.0))
    ideal = gaussian_flow(MEAN, STD, z[..., 0, 0], start, end)
    for n in (1, 4):
        with torch.no_grad():
            made = finish(z, built.sampler.plan(PROCESS, built.denoise(network, {}), n))[..., 0, 0]
        error = float((made - ideal).square().mean().sqrt() / STD.square().mean().sqrt())
        assert error < 0.1, (n, error)
        torch.testing.assert_close(made.std(0), STD, rtol=0.15, atol=0)


def test_sampler_recipe_and_conditioning() -> None:
    both = Together((Labels(3, 0.1), Augmented()))
    recipe = MeanFlow((1, 8, 8), NET, both, steps=2)
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe
    network = recipe.model()
    given = {"y": torch.tensor([0, 2])}
    recipe.build().loss(network, torch.rand(2, 1, 8, 8), torch.tensor([0.3, 0.8]), **given).mean().backward()
    assert any(p.grad is not None for p in network.parameters())
    model = Model(recipe, network.eval(), ("a", "b", "c"))
    assert model.sample(2).shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="not guided"):
        model.sample(2, scale=2.0)
    with pytest.raises(ValueError, match="its own sampler alone"):
        model.sample(2, sampler="heun")


def test_guidance_inside_the_target_is_the_guided_field_of_gaussian_classes() -> None:
    """Its regression on z is w v_c + (1 - w) v_free, both linear in z, to 2 %; w = 1 is the target of before."""
    t, n, scale = 0.6, 200_000, 2.5
    one, free = gaussian(MEAN, STD), gaussian(torch.tensor([0.1, 0.2]), torch.tensor([0.7, 0.6]))

    def velocity(of: Any) -> Any:
        def at(z: Tensor, time: Tensor, length: Tensor) -> Tensor:
            prediction = of.denoise(PROCESS)(z, time[:, None].double())
            return (prediction.eps - prediction.x0).float()

        return at

    x0, eps, times = MEAN + STD * torch.randn(n, 2), torch.randn(n, 2), torch.full((n,), t)
    z = (1 - t) * x0 + t * eps
    target = guided_velocity(velocity(free), z, eps - x0, times, scale)
    basis = torch.cat([z, torch.ones(n, 1)], dim=1)
    found = torch.linalg.lstsq(basis, target).solution
    at = torch.cat([2 * torch.randn(50, 2), torch.ones(50, 1)], dim=1)
    some, zeros = times[:50], torch.zeros(50)
    ideal = scale * velocity(one)(at[:, :2], some, zeros) + (1 - scale) * velocity(free)(at[:, :2], some, zeros)
    assert float((at @ found - ideal).norm() / ideal.norm()) < 0.02
    assert torch.equal(guided_velocity(velocity(free), z, eps - x0, times, 1.0), eps - x0)


def test_guidance_inside_the_target_needs_hidden_labels() -> None:
    with pytest.raises(ValueError, match="hidden in training"):
        MeanFlow((1, 8, 8), NET, Labels(3), guidance=2.0).build()
    recipe, given = MeanFlow((1, 8, 8), NET, Labels(3, 0.1), guidance=2.0), {"y": torch.tensor([0, 2])}
    loss = recipe.build().loss(recipe.model(), torch.rand(2, 1, 8, 8), torch.tensor([0.3, 0.8]), **given)
    assert bool(loss.isfinite().all())
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe


def test_several_draws_of_noise_are_refused() -> None:
    with pytest.raises(ValueError, match="one draw of noise"):
        MeanFlow((1, 8, 8), noising=Explorative(2)).build()
    MeanFlow((1, 8, 8), noising=Explorative(1)).build()


def test_of_another_model_it_is_ddim() -> None:
    denoise, x = gaussian(MEAN, STD).denoise(PROCESS), torch.randn(3, 2)
    ends = [samplers.run(name, PROCESS, denoise, x, steps=5) for name in ("mean-flow", "ddim")]
    assert torch.equal(*ends)
    assert MeanDenoiser(Perceptron(), PROCESS).towards(torch.tensor(0.5)).to == 0.5
