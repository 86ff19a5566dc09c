"""Shortcut models: self-consistency of the closed form of Gaussian data, lengths and beginnings, and a learned toy."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.conditioning import Augmented, Labels, Together
from sfumato.core import GaussianDiffusion, LinearFlow
from sfumato.core.exact import gaussian, gaussian_flow
from sfumato.core.mean_flow import FEATURES
from sfumato.core.sampling import finish
from sfumato.models import Model
from sfumato.networks.unet import HoUNet
from sfumato.noising import Explorative
from sfumato.papers.shortcut import Shortcut

NET = HoUNet(channels=32, multipliers=(1, 2), blocks=1, attention=(2,), dropout=0.0)
MEAN, STD = torch.tensor([0.4, -0.6]), torch.tensor([0.5, 0.3])
PROCESS = GaussianDiffusion(LinearFlow())


def exact(z: Tensor, t: Tensor, length: Tensor) -> Tensor:
    """(z - phi(z)) / d of Gaussian data, phi being the flow from t to t - d; the velocity itself for d = 0."""
    velocity = gaussian(MEAN, STD).denoise(PROCESS)(z, t.double())
    t, r = t[:, None], (t - length)[:, None]
    spread, below = (((1 - time) ** 2 * STD**2 + time**2).sqrt() for time in (t, r))
    jump = z - (1 - r) * MEAN - below / spread * (z - (1 - t) * MEAN)
    return torch.where(length[:, None] > 0, jump / length[:, None].clamp(min=1e-9), velocity.eps - velocity.x0)


def test_the_exact_jumps_are_their_own_targets() -> None:
    """At every length, and to first order at the shortest, whose halves are told to be velocities."""
    recipe = Shortcut((2, 1, 1))
    for k in range(recipe.halvings):
        length = torch.full((4,), 0.5**k)
        t, z = torch.full((4,), 1.0), torch.randn(4, 2)
        target = recipe.target(exact, z, torch.zeros(4, 2), t, length)
        close = 1e-4 if k < recipe.halvings - 1 else 0.5 ** (recipe.halvings + 1)
        torch.testing.assert_close(target, exact(z, t, length), rtol=close, atol=close)
    v = torch.randn(4, 2)
    assert torch.equal(recipe.target(exact, z, v, t, torch.zeros(4)), v)


def test_lengths_are_powers_of_two_and_jumps_stay_inside() -> None:
    for recipe in (Shortcut(), Shortcut(halvings=3, consistent=1.0), Shortcut(consistent=0.0)):
        drawn = torch.rand(4000).double()
        begin, length = recipe.jumps(drawn, torch.randn(4000, 2))
        jumps = length > 0
        assert float(jumps.double().mean()) == pytest.approx(recipe.consistent, abs=0.03)
        assert torch.equal(begin[~jumps], drawn[~jumps])
        found = set(length[jumps].tolist())
        assert found == ({0.5**k for k in range(recipe.halvings)} if recipe.consistent else set())
        assert bool((begin <= 1).all() and (begin - length >= 0).all())
        places = begin[jumps] / length[jumps]
        assert torch.equal(places, places.round())


class Perceptron(nn.Module):
    """Of points in the plane, their time and the features of a length."""

    def __init__(self) -> None:
        super().__init__()
        widths = ((3 + FEATURES, 64), (64, 64), (64, 2))
        self.layers = nn.ModuleList(nn.Linear(*width) for width in widths)

    def forward(self, x: Tensor, t: Tensor, numbers: Tensor) -> Tensor:
        h = torch.cat([x.flatten(1), t[:, None] / 100, numbers], dim=1)
        for layer in self.layers[:-1]:
            h = torch.nn.functional.silu(layer(h))
        return self.layers[-1](h).view_as(x)


@pytest.mark.slow
def test_a_toy_reaches_the_closed_form_in_one_step_and_in_many() -> None:
    """To 3.3 % of the deviation in one evaluation, 1.6 % in four and 1.5 % in sixteen."""
    recipe = Shortcut((2, 1, 1), halvings=5, consistent=0.5)
    torch.manual_seed(0)
    built, network, average = recipe.build(), Perceptron(), Perceptron()
    average.load_state_dict(network.state_dict())
    optimizer, steps = torch.optim.Adam(network.parameters(), 5e-3), 3000
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        x0 = (MEAN + STD * torch.randn(512, 2))[..., None, None]
        optimizer.zero_grad()
        built.loss(network, x0, built.times.draw(torch.rand(512))[0]).mean().backward()
        optimizer.step()
        scheduler.step()
        with torch.no_grad():
            for held, now in zip(average.parameters(), network.parameters(), strict=True):
                held.lerp_(now, 0.005)
    z = torch.randn(2000, 2, 1, 1)
    start, end = (PROCESS.level(torch.tensor(time).double(), MEAN) for time in (1.0, 0.0))
    ideal = gaussian_flow(MEAN, STD, z[..., 0, 0], start, end)
    for n in (1, 4, 16):
        with torch.no_grad():
            made = finish(z, built.sampler.plan(PROCESS, built.denoise(average, {}), n))[..., 0, 0]
        error = float((made - ideal).square().mean().sqrt() / STD.square().mean().sqrt())
        assert error < (0.06 if n == 1 else 0.03), (n, error)


def test_recipe_sampler_and_conditioning() -> None:
    recipe = Shortcut((1, 8, 8), NET, Together((Labels(3, 0.1), Augmented())), consistent=0.5)
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe
    network, given = recipe.model(), {"y": torch.tensor([0, 2])}
    recipe.build().loss(network, torch.rand(2, 1, 8, 8), torch.tensor([0.3, 0.8]), **given).mean().backward()
    assert any(p.grad is not None for p in network.parameters())
    model = Model(recipe, network.eval(), ("a", "b", "c"))
    assert model.sample(2).shape == (2, 1, 8, 8)
    assert model.sample(2, steps=4).shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="one draw of noise"):
        Shortcut((1, 8, 8), noising=Explorative(2)).build()
