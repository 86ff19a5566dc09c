"""Explorative modelling (forward XM, Gladstone et al. 2026) as denoising-diffusion-pytorch 2.3.4 has it, on a spiral.

Every point meets several noises at one time, and the least of their losses is trained on (`noising.Explorative`).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import normal, sliced_distance, spiral
from sfumato.core.continuous import LinearFlow
from sfumato.core.denoisers import Denoiser, predict_u
from sfumato.core.losses import flow_weight, weighted
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import descend, finish
from sfumato.samplers.ddim import DDIMStep

PROCESS = GaussianDiffusion(LinearFlow())
HIDDEN, BATCH = 96, 256


class Perceptron(nn.Module):
    """Three hidden layers of SiLU, told the time by sines and cosines: (B, 2) and (B,) -> (B, 2)."""

    def __init__(self) -> None:
        super().__init__()
        layers = [nn.Linear(10, HIDDEN), nn.SiLU()]
        layers += [layer for _ in range(2) for layer in (nn.Linear(HIDDEN, HIDDEN), nn.SiLU())]
        self.layers = nn.Sequential(*layers, nn.Linear(HIDDEN, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        angles = math.pi / 2 * t[:, None] * 2.0 ** torch.arange(4)
        drawn: Tensor = self.layers(torch.cat([x, angles.sin(), angles.cos()], 1))
        return drawn


def trained(candidates: int, seed: int, steps: int, batch: int = BATCH) -> Denoiser:
    """A velocity by the least loss of so many noises an image, at one time an image."""
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    network = Perceptron()
    denoise = Denoiser(network, PROCESS, predict_u)
    optimizer = torch.optim.Adam(network.parameters(), 2e-3)
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = 2e-3 * (1 + math.cos(math.pi * step / steps)) / 2
        x0 = spiral().sample(batch, generator).float().repeat_interleave(candidates, 0)
        t = torch.rand(batch, generator=generator, dtype=torch.float64).repeat_interleave(candidates)
        eps = torch.randn(x0.shape, generator=generator)
        losses = weighted(denoise(PROCESS.level(t, x0).noise(x0, eps), t), x0, eps, flow_weight)
        optimizer.zero_grad()
        losses.view(batch, candidates).amin(1).mean().backward()
        optimizer.step()
    return denoise


@torch.no_grad()
def bias(denoise: Denoiser, seed: int, n: int = 4000) -> float:
    """Root mean square error of the velocity against that of the exact mean, over times and noise."""
    exact = spiral().denoise(PROCESS)
    x0, eps = spiral().sample(n, torch.Generator().manual_seed(seed + 7)), normal(seed + 8, n, 2)
    t = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    x = PROCESS.level(t, x0).noise(x0, eps)
    mine, true = denoise(x.float(), t), exact(x, t)
    return float(((mine.eps - mine.x0).double() - (true.eps - true.x0)).square().sum(1).mean().sqrt())


def least_of_several(seed: int, fast: bool) -> Measured:
    """One candidate against four: at as many updates, and at as many evaluations."""
    steps, n, values = (400 if fast else 2000), 2000, dict[str, float]()
    data = spiral().sample(n, torch.Generator().manual_seed(seed + 99)).float()
    runs = {"1 candidate": (1, BATCH), "4 candidates": (4, BATCH), "1 candidate, batch x 4": (1, 4 * BATCH)}
    for name, (candidates, batch) in runs.items():
        denoise = trained(candidates, seed, steps, batch)
        values[f"{name}: error of the velocity"] = bias(denoise, seed)
        for moves in (1, 4, 50):
            with torch.no_grad():
                times = torch.linspace(1, 0, moves + 1, dtype=torch.float64)
                points = finish(normal(seed, n, 2).float(), descend(DDIMStep(PROCESS, denoise), times))
            values[f"{name}: distance, {moves} steps"] = sliced_distance(points, data)
    for moves in (1, 4, 50):
        key = f"distance, {moves} steps"
        least = min(values[f"1 candidate: {key}"], values[f"1 candidate, batch x 4: {key}"])
        values[f"4 candidates over 1, {moves} steps"] = values[f"4 candidates: {key}"] / least
    return Measured(values)


CLAIMS = (
    Claim(
        "explorative/few-steps",
        "denoising-diffusion-pytorch 2.3.4, README, section Explorative Modeling, after Gladstone et al. 2026",
        "The least loss of four noises makes samples of few steps better; those of many steps become worse.",
        least_of_several,
        {"4 candidates over 1, 1 steps": (0, 0.7), "4 candidates over 1, 50 steps": (1.15, 4)},
        seeds=1,
        seconds=20,
        note="Beside the better of one noise at as many updates or evaluations: its velocity is not the mean's.",
    ),
)
