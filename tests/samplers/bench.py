"""Every sampler, every schedule and Gaussian data: what the matrix and the order test run over, and how they measure.

For Gaussian data and the exact denoiser nearly every sampler is affine in where it starts and in the noise it draws.
So one trajectory, of a batch in which each row has a single one among zeros, carries the spread exactly.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core import VE, VP, Cosine, GaussianDiffusion, LinearFlow, Schedule, SubVP, finish, from_betas, from_sigmas
from sfumato.core.betas import geometric_sigmas
from sfumato.core.continuous import PowerVE
from sfumato.core.dpm2015.nonequilibrium import even_betas, published_betas
from sfumato.core.exact import gaussian
from sfumato.core.sampling import Move
from sfumato.core.schedules import Levels
from sfumato.papers import ddpm, iddpm

SAMPLERS = [
    "ddim", "ddim?eta=0.5", "ddim?eta=1", "ancestral", "ancestral?variance=large", "heun", "heun?churn=20",
    "dpmpp-2m", "dpmpp-2m?grid=karras", "dpmpp-2m?grid=log-snr", "dpmpp-2s", "dpmpp-3m", "dpmpp-3m-published",
    "sde-dpmpp-2m", "sde-dpmpp-2m?grid=log-snr", "sa-solver", "sa-solver?tau=0", "sa-solver?grid=log-snr", "unipc",
    "unipc?order=2", "unipc?grid=log-snr", "ab", "ab?order=4", "restart", "adaptive", "reverse-diffusion",
    "reverse-diffusion?ode=true", "euler-maruyama", "euler-ode", "sit", "sit?w=constant", "sit?w=sin2", "sit?w=g2",
    "predictor-corrector", "annealed-langevin?step_size=0.3",
]  # fmt: skip
"""Every row of `samplers.SAMPLERS`, and its variants."""

NOT_AFFINE = {"predictor-corrector": 200, "adaptive": 16}
"""Their steps follow the length of the noise, or the error; so they are measured by so many pictures."""

STD, WIDTH_1 = 0.5, ("NCSN", "NCSNv2", "VE", "VE levels")
"""The deviation of CIFAR-10's pixels in [-1, 1]; half as much on schedules that are meant for images 1 wide."""


@cache
def schedules() -> dict[str, Schedule]:
    """Every table of every paper, and every schedule in continuous time."""
    tables = {f"DDPM {name}": from_betas(betas(1000)) for name, betas in ddpm.BETAS.items()}
    tables |= {f"Improved DDPM {name}": from_betas(betas(4000)) for name, betas in iddpm.BETAS.items()}
    return tables | {
        "DPM published": from_betas(published_betas(1000)),
        "DPM even": from_betas(even_betas(1000, 1e-3)),
        "NCSN": from_sigmas(geometric_sigmas(10, 0.01, 1.0)),
        "NCSNv2": from_sigmas(geometric_sigmas(232, 0.01, 50.0)),
        "VE levels": from_sigmas(geometric_sigmas(1000, 0.01, 50.0)),
        "VP levels": from_betas(torch.linspace(0.1 / 1000, 20 / 1000, 1000, dtype=torch.float64)),
        "VE": VE(),
        "VP": VP(),
        "sub-VP": SubVP(),
        "cosine": Cosine(),
        "flow": LinearFlow(),
        "EDM": PowerVE(),
    }


class Data(NamedTuple):
    """Independent N(mean, std^2)."""

    mean: Tensor
    std: Tensor

    def moments(self, schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
        """The mean and the deviation of x_t."""
        alpha, sigma = schedule.alpha_sigma(t)
        return alpha * self.mean, ((alpha * self.std) ** 2 + sigma**2).sqrt()


def data(std: float = STD, dims: int = 1) -> Data:
    """Data whose mean is not 0."""
    one = torch.ones(dims, dtype=torch.float64)
    return Data(0.8 * std * one, std * one)


def planned(spec: str, schedule: Schedule, of: Data, steps: int) -> list[Move]:
    """The moves of a sampler with the exact denoiser: so many, or every level where there are fewer."""
    process = GaussianDiffusion(schedule)
    n = min(steps, int(schedule.end)) if isinstance(schedule, Levels) and "langevin" not in spec else steps
    return samplers.by_name(spec).plan(process, gaussian(*of).denoise(process), n)


def carried(moves: list[Move], schedule: Schedule, of: Data) -> tuple[Tensor, Tensor]:
    """The mean and the deviation at the end, from the exact ones at the first level: exact where moves are affine."""
    x = torch.zeros(2 * len(moves) + 2, len(of.std), dtype=torch.float64)
    x[1] = 1
    drawn = 0

    def one_at_a_time(like: Tensor) -> Tensor:
        nonlocal drawn
        z = torch.zeros_like(like)
        z[2 + drawn] = 1
        drawn += 1
        return z

    end = finish(x, moves, one_at_a_time)
    slopes = end[1 : 2 + drawn] - end[0]
    mean, std = of.moments(schedule, moves[0][1])
    return end[0] + slopes[0] * mean, torch.cat([slopes[:1] * std, slopes[1:]]).norm(dim=0)


def drawn(moves: list[Move], schedule: Schedule, of: Data, n: int) -> float:
    """The deviation of n pictures of as many numbers as the data have."""
    generator = torch.Generator().manual_seed(0)

    def noise(x: Tensor) -> Tensor:
        return torch.randn(x.shape, generator=generator, dtype=x.dtype)

    mean, std = of.moments(schedule, moves[0][1])
    start = mean + std * noise(torch.empty(n, len(of.std), dtype=torch.float64))
    return float(finish(start, moves, noise).std())


@cache
def spread(spec: str, name: str, steps: int = 50) -> float:
    """The relative error of the deviation of what a sampler makes, from the schedule's own first level."""
    schedule, std = schedules()[name], STD / 2 if name in WIDTH_1 else STD
    if spec in NOT_AFFINE:
        of = data(std, dims=64)
        return drawn(planned(spec, schedule, of, steps), schedule, of, NOT_AFFINE[spec]) / std - 1
    of = data(std)
    return float(carried(planned(spec, schedule, of, steps), schedule, of)[1]) / std - 1
