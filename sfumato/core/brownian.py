"""Brownian noise of a sampler: each move draws the increment of one path, so that every number of steps follows it.

The path's time is the signal-to-noise ratio: in alpha x / sigma^2 the noise of the reverse SDE, and of posterior steps
on any schedule, is that of a Brownian motion in it, so the noise of two steps is exactly that of the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.core.distributions import Distribution, Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Kernel, Move, Past, Step


@dataclass(frozen=True)
class OnPath:
    """A distribution whose noise is the increment of the images' Brownian paths over [start, end]."""

    to: Distribution
    start: float
    end: float

    @property
    def mean(self) -> Tensor:
        """That of the distribution."""
        return self.to.mean

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        """Drawn along the paths. ValueError for noise that is not of images."""
        if not isinstance(noise, ImageNoise):
            raise ValueError(
                "Brownian noise follows from the seed of each image, so it needs core.randomness.ImageNoise as its "
                "noise; noise that is recorded, mixed or drawn by an exported model has no path"
            )
        return self.to.sample(lambda x: noise.paths.increment(x, self.start, self.end))

    def kl(self, other: Any, /) -> Tensor:
        """That of the distribution."""
        return self.to.kl(other)


@dataclass(frozen=True)
class BrownianStep:
    """A kernel's step with Brownian noise over an interval of the signal-to-noise ratio."""

    kernel: Kernel
    start: float
    end: float

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        to, prediction = self.kernel(x, t, s, past)
        return Step(OnPath(to, self.start, self.end), prediction)


def brownian(moves: Sequence[Move], process: GaussianDiffusion) -> list[Move]:
    """The same moves with Brownian noise, so that two numbers of steps share one path (a common Wiener process).

    ValueError where a move does not go down in noise: Langevin corrections, churn and restarts draw noise of their own.
    """
    if not all(bool(s < t) for _, t, s in moves):
        raise ValueError(
            "Brownian noise needs a sampler whose moves all go down: without corrections, churn, restarts or a grid "
            "that repeats levels"
        )
    snr = process.schedule.log_snr
    return [(BrownianStep(kernel, *(float(snr(time).exp()) for time in (t, s))), t, s) for kernel, t, s in moves]
