"""Langevin dynamics: kernels that stay at a noise level and follow the score with noise.

Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1; 2020, algorithm 1 with a last denoising step) and the
correctors of Song et al. 2021 (algorithms 4 and 5), whose step depends on the noise that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import DenoiseToZero, Kernel, Move, Past, Sampler, Step
from sfumato.core.schedules import Schedule, Steps, like
from sfumato.samplers.reverse_sde import ForwardStep

Size = Callable[[Prediction, Tensor], Tensor]
"""(prediction at x_t, t) -> the size d of a Langevin step x + d score + sqrt(2 d) noise; the papers' alpha is 2 d."""

RetainedVariance = Callable[[Tensor], Tensor]
"""t -> the share of variance that the forward step into t retains, by which a corrector's step shrinks: 1 for VE."""


def all_retained(t: Tensor) -> Tensor:
    """1: variance-exploding steps retain everything."""
    return torch.ones_like(t, dtype=torch.float64)


def retained_by(forward: ForwardStep) -> RetainedVariance:
    """alpha^2 of a published step, which for the VP SDE is 1 - beta (algorithm 5)."""
    return lambda t: forward(t, t).alpha ** 2


@dataclass(frozen=True)
class RetainedBelow:
    """alpha^2 of the exact step from the next less noisy level into t: a `RetainedVariance`."""

    process: GaussianDiffusion

    def __call__(self, t: Tensor) -> Tensor:
        return self.process.between(self.process.schedule.below(t), t).alpha ** 2


def constant(size: float) -> Size:
    """The same size everywhere: plain Langevin dynamics."""
    return lambda prediction, t: torch.tensor(size, dtype=torch.float64)


def annealed(eps: float, last: float) -> Size:
    """eps (sigma / last)^2, with last the smallest sigma (Song & Ermon 2019, algorithm 1).

    With the published eps it is twice the paper's step, as it is in their code.
    """
    return lambda prediction, t: eps * (prediction.level.sigma / last) ** 2


def ratio(
    snr: float, retained: RetainedVariance = all_retained, sigma: Callable[[Tensor], Tensor] | None = None
) -> Size:
    """2 retained (snr sigma)^2: the annealed corrector of Song et al. 2021, appendix G. sigma is the level's or t's."""

    def size(prediction: Prediction, t: Tensor) -> Tensor:
        noise = prediction.level.sigma if sigma is None else like(sigma(t), prediction.x)
        return 2 * like(retained(t), prediction.x) * (snr * noise) ** 2

    return size


@dataclass(frozen=True)
class LangevinStep:
    """Langevin dynamics: stay at the level, x + d score + sqrt(2 d) noise (Song & Ermon 2019, eq. 4)."""

    denoise: Denoise
    size: Size

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction = self.denoise(x, t)
        size = self.size(prediction, t)
        return Step(Gaussian(x + size * prediction.score, (2 * size).sqrt()), prediction)


Length = Callable[[Tensor], Tensor]
"""x (B, ...) -> the length of each image, broadcasting against x."""


def image_lengths(x: Tensor) -> Tensor:
    """Of each image by itself, (B, 1, ...)."""
    return x.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.ndim - 1))


def mean_length(x: Tensor) -> Tensor:
    """The mean over the batch, (), as published: an image then depends on its company."""
    return x.flatten(1).norm(dim=1).mean()


@dataclass(frozen=True)
class Corrected:
    """Where a corrector may end: like a Gaussian, but its step follows the length of the noise that is drawn.

    Attributes:
        x, score: (B, ...) where it starts, and the score there.
        size: the size of a step whose noise has this length.
        length: how lengths are measured.
    """

    x: Tensor
    score: Tensor
    size: Callable[[Tensor], Tensor]
    length: Length

    @property
    def mean(self) -> Tensor:
        """Where it ends without noise, after a step for noise of the usual length, the root of the dimension."""
        usual = self.length(torch.ones_like(self.x))
        return self.x + self.size(usual) * self.score

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        z = noise(self.x)
        size = self.size(self.length(z))
        return self.x + size * self.score + (2 * size).sqrt() * z

    def kl(self, other: Gaussian) -> Tensor:
        raise ValueError("a corrector's step depends on its noise, so it has no density in closed form")


@dataclass(frozen=True)
class CorrectorStep:
    """A corrector, Langevin dynamics with steps of 2 (snr |noise| / |score|)^2 (Song et al. 2021, algorithms 4 and 5).

    Attributes:
        snr: the paper's r.
        retained: by which a step shrinks; for VP and sub-VP.
        length: of each image by itself, or the official mean over the batch, `mean_length`.
    """

    denoise: Denoise
    snr: float = 0.16
    retained: RetainedVariance = all_retained
    length: Length = image_lengths

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction = self.denoise(x, t)
        score = prediction.score
        of_score = self.length(score)
        scale = 2 * like(self.retained(t), x) * (of_score > 0).to(score.dtype)  # an untrained network may answer 0
        of_score = of_score + (of_score == 0)
        return Step(
            Corrected(x, score, lambda of_noise: scale * (self.snr * of_noise / of_score) ** 2, self.length), prediction
        )


@dataclass(frozen=True)
class AnnealedLangevin(Sampler):
    """Annealed Langevin dynamics (Song & Ermon 2019 and 2020). A number of steps counts its moves in all.

    step_size is eps of the size eps (sigma / last)^2, per_level the moves at each level; denoise ends with one more
    evaluation that takes out the last level's noise.
    """

    step_size: float = 0.1
    last: float = 1.0
    per_level: int = 5
    denoise: bool = True
    order = 0

    def __post_init__(self) -> None:
        if self.per_level < 1 or not self.step_size > 0:
            raise ValueError(
                f"step_size is above 0 and per_level at least 1, not {self.step_size:g} and {self.per_level}"
            )

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        levels = times[:-1] if times[-1] == 0 else times
        return self._moves(process, denoise, levels, [self.per_level] * len(levels))

    def plan(self, process: GaussianDiffusion, denoise: Denoise, steps: Steps = None) -> list[Move]:
        """A number of moves is spread over all levels or, if there are fewer, over as many evenly spaced ones.

        A grid names the levels and gives each `per_level` moves, as does None to every level.
        """
        schedule = process.schedule
        if not isinstance(steps, int):
            return self.moves(process, denoise, schedule.times(steps))
        if steps < 1:
            raise ValueError(f"steps are at least 1, not {steps}")
        n = steps - 1 if self.denoise and steps > 1 else steps
        levels = self._levels(schedule, n)
        ends = [(i + 1) * n // len(levels) for i in range(len(levels))]
        return self._moves(process, denoise, levels, [b - a for a, b in zip([0, *ends], ends, strict=False)])

    @staticmethod
    def _levels(schedule: Schedule, n: int) -> Tensor:
        every = schedule.times(None)
        return every[:-1] if n >= len(every) - 1 else schedule.times(n)[:-1]

    def _moves(self, process: GaussianDiffusion, denoise: Denoise, levels: Tensor, counts: list[int]) -> list[Move]:
        kernel: Kernel = LangevinStep(denoise, annealed(self.step_size, self.last))
        plan = [(kernel, t, t) for t, count in zip(levels, counts, strict=True) for _ in range(count)]
        if self.denoise:
            plan.append((DenoiseToZero(denoise), levels[-1], torch.zeros_like(levels[-1])))
        return plan
