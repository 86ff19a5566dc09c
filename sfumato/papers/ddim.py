"""DDIM: Denoising diffusion implicit models (Song, Meng & Ermon 2020), a sampler for every Gaussian model.

Beside the PDF: one step is eq. 12 with the sigma of eq. 16 (`core.kernels.DDIM`); eta 0 is the deterministic sampler of
section 4.1, and the grids of appendix D.2 stand in `core.times` as `ddim_uniform` and `ddim_quadratic`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.kernels import DDIM
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, descend
from sfumato.core.times import strided


def moves(
    process: GaussianDiffusion,
    denoise: Denoise,
    steps: int,
    eta: float = 0.0,
    spacing: Callable[[int, int], Tensor] = strided,
) -> list[Move]:
    """Generate: from the last level to clean data in the given number of steps."""
    return descend(DDIM(process, denoise, eta), spacing(int(process.schedule.end), steps))


def encoding_moves(
    process: GaussianDiffusion, denoise: Denoise, steps: int, spacing: Callable[[int, int], Tensor] = strided
) -> list[Move]:
    """Encode: the same levels the other way, from the first noisy level to the last (section 5.4).

    Clean data have no level of their own (sigma is 0), so the walk starts at level 1 with the image itself.
    """
    up = spacing(int(process.schedule.end), steps).flip(0)
    up[0] = 1
    return descend(DDIM(process, denoise), up.unique())


def slerp(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The point at this share of the great circle from a to b, (B, ...) each, image by image (appendix D.5, eq. 67).

    A mixture of Gaussian latents on the circle has the length that latents have; on the chord it would be too short.
    """
    dot = (a * b).flatten(1).sum(1)
    cosine = dot / (a.flatten(1).norm(dim=1) * b.flatten(1).norm(dim=1))
    angle = cosine.clamp(-1, 1).acos().clamp(min=1e-6).reshape(-1, *(1,) * (a.ndim - 1))
    return (torch.sin((1 - share) * angle) * a + torch.sin(share * angle) * b) / torch.sin(angle)
