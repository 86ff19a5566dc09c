"""Predictor-corrector sampling of score-based models (Song et al. 2021, section 4.2 and algorithm 1).

Each prediction by the reverse SDE is accompanied by Langevin corrections at a level; the official loop corrects first.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Kernel, Move, Past, Sampler, Step, denoise_to_zero
from sfumato.core.schedules import Schedule, Steps
from sfumato.samplers.grids import OnGrid
from sfumato.samplers.langevin import CorrectorStep, Length, RetainedBelow, image_lengths, mean_length
from sfumato.samplers.reverse_sde import ReverseDiffusionStep

Pairs = list[tuple[Tensor, Tensor]]
"""Where each move begins and ends."""


@dataclass(frozen=True)
class WithoutNoise:
    """A kernel's mean: the last move of a plan, on which noise would stay (Song et al. 2021, appendix G)."""

    kernel: Kernel

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        to, prediction = self.kernel(x, t, s, past)
        return Step(Gaussian(to.mean, NO_NOISE), prediction)


def published_pairs(N: int, last: float = 1e-3) -> Pairs:
    """The official times: N of them evenly from 1 to `last`, each with a step of 1 / N, which passes the next one."""
    return [(t, t - 1 / N) for t in torch.linspace(1, last, N, dtype=torch.float64)]


def correct_predict(predictor: Kernel | None, corrector: Kernel | None, pairs: Pairs, n: int = 1) -> list[Move]:
    """The official loop: at each time n corrections, then the prediction, the last of which goes without noise.

    Algorithm 1 of Song et al. 2021 in the order of their code. None leaves out the one or the other.
    """
    moves: list[Move] = []
    for t, s in pairs:
        if corrector is not None:
            moves.extend((corrector, t, t) for _ in range(n))
        if predictor is not None:
            moves.append((predictor, t, s))
    if predictor is not None and moves:
        kernel, t, s = moves[-1]
        moves[-1] = (WithoutNoise(kernel), t, s)
    return moves


@dataclass(frozen=True)
class PredictorCorrector(OnGrid):
    """Predictor-corrector sampling: reverse diffusion and Langevin corrections of any model (Song et al. 2021).

    snr is the corrector's step beside the noise, corrections how many precede each prediction, length `image` or, as
    published, the mean over the `batch`.
    """

    snr: float = 0.16
    corrections: int = 1
    length: Length = image_lengths
    evaluations = 2
    words: ClassVar[dict[str, dict[str, Any]]] = {"length": {"image": image_lengths, "batch": mean_length}}

    def __post_init__(self) -> None:
        if not self.snr > 0 or self.corrections < 0:
            raise ValueError(f"snr is above 0 and corrections not negative, not {self.snr:g} and {self.corrections}")

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        corrector = CorrectorStep(denoise, self.snr, RetainedBelow(process), self.length)
        pairs = list(pairwise(times))
        plan = correct_predict(ReverseDiffusionStep(process, denoise), corrector, pairs, self.corrections)
        return denoise_to_zero(plan, process, denoise)


Predict = Callable[[GaussianDiffusion, Denoise, int], Kernel]
"""(process, denoiser, N) -> the predictor of the official loop in N steps."""

Correct = Callable[[GaussianDiffusion, Denoise, int], Kernel]
"""(process, denoiser, N) -> its corrector."""


@dataclass(frozen=True)
class OfficialPredictorCorrector(Sampler):
    """Predictor-corrector sampling as the official code of Song et al. 2021 runs it.

    Attributes:
        predictor, corrector: how each is made; None leaves it out.
        corrections: at each time.
        last: in continuous time, the least noisy time; the times run evenly from 1 to it, and each step is 1 / N long,
            which passes the next time. None on separate levels.
    """

    predictor: Predict | None
    corrector: Correct | None = None
    corrections: int = 1
    last: float | None = None
    N: int | None = None
    """How many predictions where no number of steps is asked for; as many as the schedule has by itself where None."""
    evaluations = 2

    def times(self, schedule: Schedule, steps: Steps = None) -> Tensor:
        return schedule.times(self.N if steps is None else steps)

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        N = len(times) - 1
        pairs = list(pairwise(times)) if self.last is None else published_pairs(N, self.last)
        predictor, corrector = (
            None if make is None else make(process, denoise, N) for make in (self.predictor, self.corrector)
        )
        return correct_predict(predictor, corrector, pairs, self.corrections)
