"""Any model through any lens: samplers that walk every recipe's process, whichever paper they come from.

A DDPM by predictor and corrector or by Heun's flow, an NCSN by DDIM, a score SDE by ancestral steps: a kernel needs two
levels, and where the mathematics asks for more, a ValueError says what. Each function makes a `model.Sampler`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import pairwise

from sfumato.core import langevin, sde
from sfumato.core.denoisers import Denoise
from sfumato.core.guidance import Gradient, score_shifted
from sfumato.core.kernels import DDIM, Ancestral, Clean, Std, small
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Move, descend
from sfumato.core.schedules import Table
from sfumato.core.times import Steps
from sfumato.model import Sampler
from sfumato.papers.recipe import Recipe

Lens = Callable[[GaussianDiffusion, Denoise], Kernel]
"""(process, denoise) -> a kernel that goes down."""


def guided(denoise: Denoise, gradient: Gradient | None) -> Denoise:
    """The denoiser, its score shifted where a classifier guides (Dhariwal & Nichol 2021, algorithm 2)."""
    return denoise if gradient is None else score_shifted(denoise, gradient)


def descending(lens: Lens) -> Sampler:
    """One kernel down the levels or times, to clean data."""

    return partial(_descending, lens)


def _descending(
    lens: Lens, recipe: Recipe, denoise: Denoise, steps: Steps = None, gradient: Gradient | None = None
) -> list[Move]:
    process, denoise = recipe.process(), guided(denoise, gradient)
    plan = descend(lens(process, denoise), sde.grid(process.schedule, steps))
    return sde.ending_clean(plan, process, denoise)


def ddim(eta: float = 0.0) -> Sampler:
    """DDIM on levels or in continuous time (Song et al. 2020)."""
    return descending(partial(DDIM, eta=eta))


def ancestral(std: Std = small) -> Sampler:
    """Ancestral steps with the given spread; in continuous time they are exact as well (Kingma et al. 2021)."""
    return descending(partial(Ancestral, std=std))


def heun() -> Sampler:
    """The probability flow at second order, two evaluations a step (Karras et al. 2022)."""
    return descending(sde.Heun)


def reverse_diffusion(flow: bool = False) -> Sampler:
    """Reverse diffusion, or with `flow` its half of the score without noise (Song et al. 2021)."""
    return descending(partial(sde.ReverseDiffusion, flow=flow))


def euler_maruyama(flow: bool = False) -> Sampler:
    """Euler-Maruyama steps of the reverse SDE, or Euler's of its flow; continuous time only."""
    return descending(partial(sde.EulerMaruyama, flow=flow))


def predictor_corrector(
    lens: Lens = sde.ReverseDiffusion, snr: float = 0.16, n: int = 1, length: langevin.Length = langevin.image_lengths
) -> Sampler:
    """n Langevin corrections at each level or time before the prediction (Song et al. 2021, algorithm 1)."""

    return partial(_predicting_correcting, lens, snr, n, length)


def _predicting_correcting(
    lens: Lens, snr: float, n: int, length: langevin.Length, recipe: Recipe, denoise: Denoise, steps: Steps = None,
    gradient: Gradient | None = None,
) -> list[Move]:  # fmt: skip
    process, denoise = recipe.process(), guided(denoise, gradient)
    pairs = list(pairwise(sde.grid(process.schedule, steps)))
    below = 1 if isinstance(process.schedule, Table) else 1e-3
    kept = langevin.kept(lambda s, t: process.between((t - below).clamp(min=0), t))
    plan = sde.correct_predict(lens(process, denoise), langevin.Corrector(denoise, snr, kept, length), pairs, n)
    return sde.ending_clean(plan, process, denoise)


def annealed_langevin(eps: float = 0.1, per_level: int = 5) -> Sampler:
    """Langevin steps of eps sigma^2 at each level or time, then one to clean data (Song & Ermon 2019 and 2020)."""

    return partial(_annealed, eps, per_level)


def _annealed(
    eps: float, per_level: int, recipe: Recipe, denoise: Denoise, steps: Steps = None, gradient: Gradient | None = None
) -> list[Move]:
    process, denoise = recipe.process(), guided(denoise, gradient)
    times = sde.grid(process.schedule, steps)
    kernel = langevin.Langevin(denoise, langevin.annealed(eps, 1.0))
    plan: list[Move] = [(kernel, t, t) for t in times[:-1] for _ in range(per_level)]
    return [*plan, (Clean(denoise), times[-2], times[-1])]
