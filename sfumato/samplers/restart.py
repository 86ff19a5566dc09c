"""Restart sampling: back up to a noisier level and down again, several times, between steps of Heun (Xu et al. 2023).

The noise that is added contracts the errors made so far, and the deterministic steps stay accurate.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, denoise_to_zero
from sfumato.core.schedules import Schedule
from sfumato.samplers.grids import OnGrid
from sfumato.samplers.heun import ChurnStep, HeunStep


@dataclass(frozen=True)
class Restart(OnGrid):
    """Restart sampling, Heun's steps with rounds of noise between two levels (Xu et al. 2023, algorithm 1)."""

    low: float = 0.06
    """sigma / alpha where a round ends and begins; the step of the grid next to it."""
    high: float = 0.3
    """sigma / alpha up to which noise is added."""
    rounds: int = 2
    """How often."""
    steps: int = 3
    """Steps down a round."""
    order = 2
    evaluations = 2

    @property
    def convergence(self) -> int:
        """None in the number of steps, since the rounds have steps of their own."""
        return 0

    def __post_init__(self) -> None:
        if not 0 < self.low < self.high or self.rounds < 0 or self.steps < 1:
            raise ValueError("low lies between 0 and high, rounds are not negative, and steps at least 1")

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        step = HeunStep(process, denoise)
        down = self._round(process.schedule, times)
        plan: list[Move] = []
        for t, s in pairwise(times):
            plan.append((step, t, s))
            if s == down[-1]:
                again: list[Move] = [(ChurnStep(process), s, down[0]), *((step, a, b) for a, b in pairwise(down))]
                plan += again * self.rounds
        return denoise_to_zero(plan, process, denoise)

    def _round(self, schedule: Schedule, times: Tensor) -> Tensor:
        """The times of a round, from the one at `high` down to the grid's own next to `low`."""
        noise = torch.stack([-schedule.log_snr(t) / 2 for t in times])
        inner = (noise - math.log(self.low)).abs()[1:].argmin() + 1
        end = times[inner]
        spread = torch.linspace(self.high ** (1 / 7), float(noise[inner].exp()) ** (1 / 7), self.steps + 1).double()
        found = schedule.at(-7 * spread.log())
        found = torch.cat([found[found > end].unique().flip(0), end[None]])
        if len(found) < 2:
            raise ValueError(f"no level of this schedule lies between sigma / alpha {self.low:g} and {self.high:g}")
        return found
