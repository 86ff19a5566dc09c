"""Posterior sampling without derivatives: replacement, RePaint, ILVR, DiffPIR and SDEdit."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, Past, Sampler, Step
from sfumato.core.schedules import Steps
from sfumato.inverse.posterior import Consistent, Measurement, Posterior, Wrap, as_it_is
from sfumato.samplers.heun import ChurnStep


@dataclass(frozen=True)
class Replacement(Posterior):
    """What is known is put back after each step, as noisy as the level (Song et al. 2021, appendix I).

    Biased, however many steps there are: what is unknown sees the known part only through the denoiser.
    """

    until = 0.0

    def arranged(
        self, moves: list[Move], process: GaussianDiffusion, measurement: Measurement, sampler: Sampler
    ) -> list[Move]:
        put, end = Consistent(process, measurement), float(process.schedule.end)
        plan: list[Move] = []
        for kernel, t, s in moves:
            plan.append((kernel, t, s))
            if s >= self.until * end:  # the last by the exact one
                plan.append((replace(put, exact=bool(s == 0)), s, s))
        return plan


@dataclass(frozen=True)
class ILVR(Replacement):
    """Iterative latent variable refinement: what was seen is replaced in x_s, down to a level (Choi et al. 2021)."""

    until: float = 0.0
    """The share of the time below which pictures go their own way: more freedom, less agreement."""

    @property
    def agrees(self) -> bool:
        return self.until == 0

    def __post_init__(self) -> None:
        if not 0 <= self.until < 1:
            raise ValueError(f"until is a share of the time from 0 to below 1, not {self.until:g}")


@dataclass(frozen=True)
class RePaint(Posterior):
    """Replacement that goes back up and down again, so that both parts come to agree (Lugmayr et al. 2022)."""

    jump: int = 10
    """How many moves are taken back at a time."""
    rounds: int = 10
    """How often each stretch is gone down."""
    first: int = 1
    """How many moves are left where the last stretch ends; 1 as published."""

    def __post_init__(self) -> None:
        if min(self.jump, self.rounds, self.first) < 1:
            raise ValueError("the jump, the rounds and the first of repaint are 1 or more")

    def arranged(
        self, moves: list[Move], process: GaussianDiffusion, measurement: Measurement, sampler: Sampler
    ) -> list[Move]:
        if any(a[2] != b[1] for a, b in pairwise(moves)) or sampler.order > sampler.evaluations:
            raise ValueError("repaint takes a sampler that goes straight down and remembers nothing, such as ancestral")
        put, up = Consistent(process, measurement), ChurnStep(process)
        plan: list[Move] = []
        for i in self.visits(len(moves)):
            if i >= 0:
                kernel, t, s = moves[i]
                plan += [(kernel, t, s), (replace(put, exact=bool(s == 0)), s, s)]
            else:
                _, t, s = moves[~i]  # noise for that move, back to where it began
                plan.append((up, s, t))
        return plan

    def visits(self, n: int) -> list[int]:
        """The moves in their order, as numbers 0..n - 1; ~i takes move i back. Those of the official schedule."""
        left = dict.fromkeys(range(self.first, n - self.jump + 1, self.jump), self.rounds - 1)
        order: list[int] = []
        level = n  # how many moves are left
        while level:
            order.append(n - level)
            level -= 1
            if left.get(level, 0) > 0:
                left[level] -= 1
                for _ in range(self.jump):
                    level += 1
                    order.append(~(n - level))
        return order


@dataclass(frozen=True)
class DiffPIR(Posterior):
    """Plug-and-play restoration: x0 moves to the nearest picture that agrees, by the noise (Zhu et al. 2023)."""

    weight: float = 8.0
    """lambda, how much the denoiser is believed against a noisy measurement; theirs is 7 to 10."""

    def denoiser(self, denoise: Denoise, measurement: Measurement) -> Denoise:
        operator = measurement.operator

        def inner(x: Tensor, t: Tensor) -> Prediction:
            prediction = denoise(x, t)
            alpha, sigma = prediction.level
            noise = measurement.noise**2 * self.weight * (alpha / sigma) ** 2
            shift = operator.transpose(operator.solve(measurement.residual(prediction.x0), noise, 1.0))
            return prediction.with_x0(prediction.x0 + shift)

        return inner


@dataclass(frozen=True)
class Noised:
    """The first move of SDEdit: a picture as noisy as level s, whatever x was."""

    process: GaussianDiffusion
    picture: Tensor

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        alpha, sigma = self.process.level(s, x)
        return Step(Gaussian(alpha * self.picture, sigma), None)


@dataclass(frozen=True)
class SDEdit(Posterior):
    """SDEdit: the picture (or A^+ y) made noisy up to a level, and denoised from there (Meng et al. 2022)."""

    strength: float = 0.5
    """The share of the time at which it starts: 0.3 keeps most of a picture, 0.6 little."""

    @property
    def agrees(self) -> bool:
        return False

    def __post_init__(self) -> None:
        if not 0 < self.strength <= 1:
            raise ValueError(f"strength is a share of the time above 0 and up to 1, not {self.strength:g}")

    def plan(
        self,
        process: GaussianDiffusion,
        denoise: Denoise,
        measurement: Measurement,
        sampler: Sampler,
        steps: Steps = None,
        clip: Wrap = as_it_is,
    ) -> list[Move]:
        self.check(measurement.operator)
        times = sampler.times(process.schedule, steps)
        first = torch.as_tensor(self.strength * process.schedule.end)
        first = first.to(times.dtype) if times.is_floating_point() else first.round().clamp(min=1).to(times.dtype)
        down = torch.cat([first[None], times[times < first]])
        picture = measurement.operator.pinv(measurement.y)
        moves = sampler.along(process, clip(denoise), down)
        return [(Noised(process, picture), times[0], first), *moves]
