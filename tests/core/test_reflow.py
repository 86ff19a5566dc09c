"""Reflow: a flow trained on the pairs of another has straighter paths, and keeps the pairs in a single step."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfumato import samplers
from sfumato.core import GaussianDiffusion, LinearFlow
from sfumato.core.exact import gaussian
from sfumato.core.reflow import straightness
from sfumato.papers.flow_matching import FlowMatching
from sfumato.samplers import DDIM


class Perceptron(nn.Module):
    """A velocity in the plane."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(3, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.layers(torch.cat([x.flatten(1), t[:, None] / 1000], dim=1)).view_as(x)


def normal(n: int, seed: int) -> Tensor:
    return torch.randn(n, 2, 1, 1, generator=torch.Generator().manual_seed(seed))


def trained(images: Tensor, eps: Tensor | None) -> nn.Module:
    torch.manual_seed(0)
    built, network = FlowMatching((2, 1, 1)).build(), Perceptron()
    optimizer = torch.optim.Adam(network.parameters(), 4e-3)
    for _ in range(1200):
        chosen = torch.randint(len(images), (256,))
        given = {} if eps is None else {"eps": eps[chosen]}
        optimizer.zero_grad()
        built.loss(network, images[chosen], torch.rand(256).double(), torch.randn_like, **given).mean().backward()
        optimizer.step()
    return network


def made(network: nn.Module, z: Tensor, steps: int) -> Tensor:
    built = FlowMatching((2, 1, 1)).build()
    with torch.no_grad():
        return samplers.run(DDIM(), built.gaussian, built.denoise(network, {}), z, steps=steps)


def bent(network: nn.Module) -> float:
    built = FlowMatching((2, 1, 1)).build()
    moves = DDIM().plan(built.gaussian, built.denoise(network, {}), 30)
    return float(straightness(normal(1000, 7), moves).mean())


def test_reflow_straightens_and_keeps_the_pairs() -> None:
    """Two clusters, which the first flow reaches on bent paths."""
    data = 0.1 * normal(4000, 1)
    data[:, 0] += torch.where(torch.arange(4000) % 2 == 0, 0.7, -0.7)[:, None, None]
    first = trained(data, None)
    z = normal(4000, 2)
    second = trained(made(first, z, 50), z)
    assert bent(second) < 0.25 * bent(first)
    fresh = normal(1000, 3)
    truth = made(first, fresh, 50)
    errors = [float((made(network, fresh, 1) - truth).square().mean()) for network in (first, second)]
    assert errors[1] < 0.25 * errors[0]


def test_the_straightness_of_known_paths() -> None:
    """A point mass is reached on straight lines; Gaussian data of unit width on bent ones."""
    process, x = GaussianDiffusion(LinearFlow()), torch.randn(8, 3, dtype=torch.float64)
    zero, one = torch.zeros(3, dtype=torch.float64), torch.ones(3, dtype=torch.float64)
    for width, straight in ((1e-6, True), (1.0, False)):
        moves = DDIM().plan(process, gaussian(zero, width * one).denoise(process), 50)
        assert (float(straightness(x, moves).max()) < 1e-9) == straight


def test_a_given_noise_is_the_one_that_is_taken() -> None:
    built, network = FlowMatching((2, 1, 1)).build(), Perceptron()
    x, eps, t = normal(4, 1), normal(4, 2), torch.full((4,), 0.3).double()
    given = built.loss(network, x, t, torch.randn_like, eps=eps)
    assert torch.equal(given, built.loss(network, x, t, lambda like: eps))
    assert not torch.equal(given, built.loss(network, x, t, lambda like: -eps))
