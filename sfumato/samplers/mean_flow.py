"""The sampler of mean flows: a step of any length by the average velocity over it (Geng et al. 2025, algorithm 2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.guidance import Gradient
from sfumato.core.mean_flow import MeanDenoiser, towards
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Past, Sampler, Step
from sfumato.samplers.ddim import DDIMStep
from sfumato.samplers.grids import OnGrid


@dataclass(frozen=True)
class MeanFlowStep:
    """x_s = x_t - (t - s) u(x_t, s, t): DDIM's step by a denoiser that is told where it ends."""

    process: GaussianDiffusion
    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        return DDIMStep(self.process, towards(self.denoise, s))(x, t, s, past)


@dataclass(frozen=True)
class MeanFlowSampler(OnGrid):
    """Steps by the average velocity (Geng et al. 2025), for mean flows; of other models, DDIM."""

    two_times = True

    @property
    def draws(self) -> bool:
        return False

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return MeanFlowStep(process, denoise)

    def guided(
        self, denoise: Denoise, gradient: Gradient, clip: Callable[[Denoise], Denoise]
    ) -> tuple[Sampler, Denoise]:
        if not isinstance(denoise, MeanDenoiser):
            return super().guided(denoise, gradient, clip)
        raise ValueError("a step by an average velocity has no level at which a classifier could guide it")
