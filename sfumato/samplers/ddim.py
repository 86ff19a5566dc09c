"""DDIM: the sampler of denoising diffusion implicit models (Song, Meng & Ermon 2020, eq. 12 and 16).

It runs towards noise as well (s > t), which encodes images (section 5.4); latents are interpolated on the sphere
(appendix D.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion, remembered
from sfumato.core.sampling import NO_NOISE, Kernel, Move, Past, Step, descend
from sfumato.core.schedules import Steps, like
from sfumato.samplers.grids import OnGrid


@dataclass(frozen=True)
class DDIMStep:
    """DDIM's reverse step: keep the predicted noise instead of drawing it anew (eq. 12, with the sigma of eq. 16).

    eta = 0 is deterministic and, for s > t, encodes; eta = 1 is the ancestral step with the fixed small variance.
    """

    process: GaussianDiffusion
    denoise: Denoise
    eta: float = 0.0

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction = self.denoise(x, t)
        of_x0, of_eps, std = (like(c, x) for c in coefficients(self.process, t, s, eta=self.eta))
        return Step(Gaussian(of_x0 * prediction.x0 + of_eps * prediction.eps, std), prediction)


@remembered
def coefficients(process: GaussianDiffusion, t: Tensor, s: Tensor, *, eta: float) -> tuple[Tensor, Tensor, Tensor]:
    """(of_x0, of_eps, std) in float64 of a step of DDIM from t to s (eq. 12, with the sigma of eq. 16)."""
    alpha_s, sigma_s = process.alpha_sigma(s)
    if not eta:
        return alpha_s, sigma_s, NO_NOISE
    std = eta * process.posterior_coefficients(t, s)[2]
    return alpha_s, (sigma_s**2 - std**2).clamp(min=0).sqrt(), std


@dataclass(frozen=True)
class DDIM(OnGrid):
    """DDIM (Song et al. 2020); on a flow model, Euler's method. eta adds noise: 0 is deterministic, 1 ancestral."""

    eta: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.eta <= 1:
            raise ValueError(f"eta lies between 0 and 1, not {self.eta:g}")

    @property
    def draws(self) -> bool:
        return self.eta > 0

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return DDIMStep(process, denoise, self.eta)


def encoding(process: GaussianDiffusion, denoise: Denoise, steps: Steps = None) -> list[Move]:
    """DDIM inversion: moves from clean data to noise, the sampler's levels the other way (section 5.4).

    Clean data have no level of their own (sigma is 0), so it starts at the first noisy level with the image itself.
    """
    up = process.schedule.times(steps).flip(0)
    up[0] = up.new_tensor(process.schedule.first)
    return descend(DDIMStep(process, denoise), up.unique())


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """Spherical interpolation of latents a and b, (B, ...) each, image by image (appendix D.5, eq. 67).

    A mixture of Gaussian latents on the circle has the length that latents have; on the chord it would be too short.
    """
    dot = (a * b).flatten(1).sum(1)
    cosine = dot / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    angle = cosine.clamp(-1, 1).acos().clamp(min=1e-6).reshape(-1, *(1,) * (a.ndim - 1))
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
