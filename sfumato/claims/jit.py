"""Claims of JiT, "back to basics: let denoising generative models denoise" (Li & He 2025), on its toy of section 3.

Two-dimensional data lie in a plane of a space of many dimensions, as natural images are taken to lie near a manifold
of low dimension in the space of large patches; the network is narrower than the space.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import normal, sliced_distance, spiral
from sfumato.core.continuous import LinearFlow
from sfumato.core.denoisers import Denoiser, Parameterization, predict_eps, predict_u, predict_x0
from sfumato.core.losses import flow_weight, velocity_of_x0, weighted
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import descend, finish
from sfumato.samplers.ddim import DDIMStep

PROCESS = GaussianDiffusion(LinearFlow())
FEW, MANY, HIDDEN = 2, 256, 64
"""Dimensions of the spaces, and the width of the network."""
FIRST, LAST = 0.02, 0.98
"""The times of training and sampling: at 1 the noise says nothing of the data, at 0 the data nothing of the noise."""
PREDICTIONS: dict[str, Parameterization] = {"x0": predict_x0, "eps": predict_eps, "u": predict_u}
CALMEST = 0.05
"""The least divisor of an error (Li & He 2025, section 4.2)."""


class Perceptron(nn.Module):
    """Five layers of ReLU, told the time by its sines and cosines: (B, D) and (B,) -> (B, D)."""

    def __init__(self, dimensions: int) -> None:
        super().__init__()
        self.first, self.time = nn.Linear(dimensions, HIDDEN), nn.Linear(8, HIDDEN)
        inner = [layer for _ in range(3) for layer in (nn.Linear(HIDDEN, HIDDEN), nn.ReLU())]
        self.rest = nn.Sequential(nn.ReLU(), *inner, nn.Linear(HIDDEN, dimensions))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = math.pi / 2 * t[:, None] * 2.0 ** torch.arange(4)
        drawn: Tensor = self.rest(self.first(x) + self.time(torch.cat([angles.sin(), angles.cos()], 1)))
        return drawn


def plane(dimensions: int, seed: int) -> Tensor:
    """Two orthonormal directions of the space, (2, D)."""
    return torch.linalg.qr(normal(seed, dimensions, 2)).Q.T.float()


def trained(name: str, dimensions: int, seed: int, steps: int, batch: int = 128) -> Denoiser:
    """A denoiser by the squared error in u, whatever its network returns (Li & He 2025, table 1, row of v-loss)."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network, axes = Perceptron(dimensions), plane(dimensions, seed)
    denoise = Denoiser(network, PROCESS, PREDICTIONS[name])
    optimizer = torch.optim.Adam(network.parameters(), 1e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 1e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        x0 = spiral().sample(batch, generator).float() @ axes
        eps = torch.randn(x0.shape, generator=generator)
        t = FIRST + (LAST - FIRST) * torch.rand(batch, generator=generator, dtype=torch.float64)
        prediction = denoise(PROCESS.level(t, x0).noise(x0, eps), t)
        by_x0 = name == "x0"
        loss = velocity_of_x0(prediction, x0, CALMEST) if by_x0 else weighted(prediction, x0, eps, flow_weight)
        optimizer.zero_grad()
        loss.mean().backward()
        optimizer.step()
    return denoise


def sampled(denoise: Denoiser, dimensions: int, n: int, seed: int, moves: int = 50) -> Tensor:
    """n points by Euler's steps from noise, (n, D)."""
    with torch.no_grad():
        times = torch.cat([torch.linspace(LAST, FIRST, moves, dtype=torch.float64), torch.zeros(1)])
        return finish(normal(seed, n, dimensions).float(), descend(DDIMStep(PROCESS, denoise), times))


def large_patches(seed: int, fast: bool) -> Measured:
    """Sliced distance to the data in the plane, and the distance from the plane, of three predictions in two spaces."""
    steps, n = (400, 500) if fast else (1000, 1000)
    values: dict[str, float] = {}
    data: dict[str, Tensor] = {"data": spiral().sample(n, torch.Generator().manual_seed(seed + 99)).float()}
    for dimensions in (FEW, MANY):
        axes = plane(dimensions, seed)
        for name in PREDICTIONS:
            points = sampled(trained(name, dimensions, seed, steps), dimensions, n, seed)
            inside = points @ axes.T
            key = f"{name} in {dimensions} dimensions"
            data[key] = inside
            values[f"{key}: distance to the data"] = sliced_distance(inside, data["data"])
            values[f"{key}: distance from the plane"] = float((points - inside @ axes).norm(dim=1).mean())
    for what in ("distance to the data", "distance from the plane"):
        of = f"in {MANY} dimensions: {what}"
        for name in ("eps", "u"):
            values[f"{name} over x0 {of}"] = values[f"{name} {of}"] / values[f"x0 {of}"]
    return Measured(values, data)


FAR = f"in {MANY} dimensions"
CLAIMS = (
    Claim(
        "jit/large-patches",
        "Li & He 2025, section 3 and figure 2",
        "Where data of few dimensions lie in more than the network is wide, only predicting clean data works.",
        large_patches,
        {
            f"x0 {FAR}: distance to the data": (0, 0.15),
            f"x0 {FAR}: distance from the plane": (0, 0.2),
            f"u over x0 {FAR}: distance from the plane": (20, 1e6),
            f"u over x0 {FAR}: distance to the data": (1.3, 1e6),
            f"eps over x0 {FAR}: distance to the data": (20, 1e6),
            f"u in {FEW} dimensions: distance to the data": (0, 0.15),
        },
        seeds=1,
        seconds=40,
        note=f"A spiral in a plane of {MANY} dimensions, a network {HIDDEN} wide, the loss an error in the velocity.",
    ),
)
