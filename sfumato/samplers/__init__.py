"""Samplers: one file a family, and the one table of their names that everything else reads.

`run` samples any denoiser, of this package or of one's own. A sampler is a frozen value that plans moves for the
sampling loop (`core.sampling`); a new one is a class with a `step` or a `moves`, and a row of `SAMPLERS`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato import spec
from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Sampler, finish
from sfumato.core.schedules import Steps
from sfumato.samplers.adams_bashforth import AdamsBashforth
from sfumato.samplers.adaptive import Adaptive
from sfumato.samplers.ancestral import Ancestral
from sfumato.samplers.consistency import Consistency
from sfumato.samplers.ddim import DDIM
from sfumato.samplers.dpm_solver import (
    DPMSolverPP2M,
    DPMSolverPP2S,
    DPMSolverPP3M,
    DPMSolverPP3MPublished,
    SDEDPMSolverPP2M,
)
from sfumato.samplers.grids import karras
from sfumato.samplers.heun import Heun
from sfumato.samplers.langevin import AnnealedLangevin
from sfumato.samplers.mean_flow import MeanFlowSampler
from sfumato.samplers.predictor_corrector import PredictorCorrector
from sfumato.samplers.restart import Restart
from sfumato.samplers.reverse_sde import EulerMaruyama, EulerODE, ReverseDiffusion
from sfumato.samplers.sa_solver import SASolver
from sfumato.samplers.sit import SiT
from sfumato.samplers.unipc import UniPC

SAMPLERS: dict[str, type[Sampler]] = {
    "ddim": DDIM,
    "consistency": Consistency,
    "mean-flow": MeanFlowSampler,
    "ancestral": Ancestral,
    "heun": Heun,
    "dpmpp-2m": DPMSolverPP2M,
    "dpmpp-2s": DPMSolverPP2S,
    "dpmpp-3m": DPMSolverPP3M,
    "dpmpp-3m-published": DPMSolverPP3MPublished,
    "sde-dpmpp-2m": SDEDPMSolverPP2M,
    "sa-solver": SASolver,
    "unipc": UniPC,
    "ab": AdamsBashforth,
    "restart": Restart,
    "adaptive": Adaptive,
    "reverse-diffusion": ReverseDiffusion,
    "euler-maruyama": EulerMaruyama,
    "euler-ode": EulerODE,
    "sit": SiT,
    "predictor-corrector": PredictorCorrector,
    "annealed-langevin": AnnealedLangevin,
}
"""Every sampler by the name that the command line, `evaluate`, `compare` and export know it by."""


FAST, FAST_STEPS = DPMSolverPP2M(grid=karras), 10
"""What measurement recommends wherever a schedule reaches clean data: `benchmarks/samplers.py`, docs/samplers.md."""


def by_name(text: str) -> Sampler:
    """The sampler of a spec string such as "heun?churn=40". ValueError names what is unknown."""
    return spec.construct(SAMPLERS, text, "sampler")


def name(chosen: Sampler) -> str:
    """The spec string of a sampler, with the options that were changed; a paper's own is "own"."""
    return spec.written(SAMPLERS, chosen) if type(chosen) in SAMPLERS.values() else "own"


def listed() -> str:
    """A line for each sampler: its name and what it is."""
    return spec.listed(SAMPLERS)


def run(
    sampler: Sampler | str,
    process: GaussianDiffusion,
    denoise: Denoise,
    x: Tensor,
    *,
    steps: Steps = None,
    times: Tensor | None = None,
    noise: Noise = torch.randn_like,
) -> Tensor:
    """Sample with any sampler and any denoiser: the state after the last move, like x.

    Args:
        sampler: a value, or a spec string such as "heun?churn=40".
        process: the forward process, `GaussianDiffusion(schedule)`.
        denoise: (x, t) -> Prediction; `Denoiser` makes one from a network.
        x: (B, ...) noise at the first time, for example `process.prior(shape).sample()`.
        steps: so many evenly spaced moves, or a grid; every level of the schedule where None.
        times: instead of steps, times of the schedule, (n + 1,) strictly descending, the last perhaps 0, clean data.

    Raises: ValueError for unknown names, for times that do not descend or lie outside the schedule, and where the
        schedule has no such sampler.
    """
    chosen = by_name(sampler) if isinstance(sampler, str) else sampler
    if times is None:
        plan = chosen.plan(process, denoise, steps)
    elif steps is not None:
        raise ValueError("either steps or times, not both")
    else:
        plan = chosen.along(process, denoise, _descending(times, process.schedule.end))
    return finish(x, plan, noise)


def _descending(times: Tensor, end: float) -> Tensor:
    host = times.detach().cpu()
    if host.ndim != 1 or len(host) < 2 or not bool((host.diff() < 0).all()):
        raise ValueError("times are (n + 1,) with n >= 1 and strictly descending")
    if host[-1] < 0 or host[0] > end:
        raise ValueError(f"times lie between 0, clean data, and {end:g}; these run from {host[0]:g} to {host[-1]:g}")
    return host.double() if host.is_floating_point() else host.long()


def evaluations(chosen: Sampler, process: GaussianDiffusion, steps: Steps = None) -> int:
    """How often a sampler evaluates the network for one picture: counted, on a picture of one number."""
    asked = 0

    def count(x: Tensor, t: Tensor) -> Prediction:
        nonlocal asked
        asked += 1
        return Prediction(x, process.level(t, x), 0 * x, x, variance=0 * x)

    finish(torch.zeros(1, 1), chosen.plan(process, count, steps), ImageNoise(0, [0]))
    return asked
