"""SiT's stochastic sampler: a probability flow with any amount of noise, w(t) >= 0 (Ma et al. 2024, section 2.4).

x - u dt + w score dt / 2 + sqrt(w dt) z has the marginals of the path for every w, the diffusion coefficient: 0 is the
flow alone, g^2 the reverse SDE of Song et al. 2021. The flow's part is the exact move of constant x0 and eps, which is
Euler's on a straight path.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Kernel, Past, Step
from sfumato.core.schedules import like
from sfumato.fields import Range, check
from sfumato.samplers.grids import OnGrid

STABLE = 0.5
"""The largest w dt of a move, in units of its last sigma^2: beyond 4 Euler's step of the score's part is unstable. All
w have the same marginals, so a smaller one changes the way and not the distribution at its end."""


def constant(process: GaussianDiffusion, t: Tensor, s: Tensor) -> Tensor:
    """1 in units of the whole time: w dt of the move from t to s."""
    return (t - s) / process.schedule.end


def by_sigma(process: GaussianDiffusion, t: Tensor, s: Tensor) -> Tensor:
    """sigma(t) dt, the choice of Ma et al. for their straight path."""
    return process.schedule.alpha_sigma(t)[1] * constant(process, t, s)


def sin_squared(process: GaussianDiffusion, t: Tensor, s: Tensor) -> Tensor:
    """sin^2(pi t) dt: none at both ends."""
    return torch.sin(math.pi * t / process.schedule.end) ** 2 * constant(process, t, s)


def of_sde(process: GaussianDiffusion, t: Tensor, s: Tensor) -> Tensor:
    """g^2 dt of the forward SDE, as the variance that it adds between s and t; finite without signal, too."""
    return process.between(s, t).sigma ** 2


DIFFUSIONS = {"constant": constant, "sigma": by_sigma, "sin2": sin_squared, "g2": of_sde}
"""w dt by the name of w."""


@dataclass(frozen=True)
class SiTStep:
    """One move of the SDE with w, and of the flow alone into clean data (Ma et al. 2024, eq. 4 with their eq. 9)."""

    process: GaussianDiffusion
    denoise: Denoise
    w: str = "sigma"
    scale: float = 1.0

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction, there = self.denoise(x, t), self.process.level(s, x)
        flow = there.noise(prediction.x0, prediction.eps)
        if self.scale == 0 or not bool((there.sigma > 0).all()):
            return Step(Gaussian(flow, NO_NOISE), prediction)
        most = STABLE * self.process.schedule.alpha_sigma(s)[1] ** 2
        added = torch.minimum(self.scale * DIFFUSIONS[self.w](self.process, t, s).double(), most)
        return Step(Gaussian(flow + like(added / 2, x) * prediction.score, like(added.sqrt(), x)), prediction)


@dataclass(frozen=True)
class SiT(OnGrid):
    """SiT's SDE sampler (Ma et al. 2024). w, the diffusion coefficient: constant, sigma, sin2 or g2, times scale."""

    w: Literal["constant", "sigma", "sin2", "g2"] = "sigma"
    scale: Annotated[float, Range(0, 1000)] = 1.0
    order = 1

    def __post_init__(self) -> None:
        check(self)

    @property
    def draws(self) -> bool:
        return self.scale > 0

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return SiTStep(process, denoise, self.w, self.scale)
