"""Timesteps optimised for the model at hand: the grid along which the local errors of 2M add up to least.

One fine trajectory of a few pictures is computed; then every step between any two of its points, with any point before,
costs inner products alone, and dynamic programming finds the best n moves (Chen et al. 2024 do so for first order).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import trajectory
from sfumato.samplers.dpm_solver import DPMSolverPP2M
from sfumato.samplers.grids import Given, OnGrid, karras

FINE = 60
"""Moves of the fine trajectory: a grid is a choice among its points."""


@dataclass(frozen=True)
class Trajectory:
    """A fine trajectory of a few pictures, as far as the errors of coarser ones need it.

    Attributes:
        times: (m + 1,) descending, the last 0, clean data.
        half_log_snr, alpha, sigma: (m,) at all of them but the last.
        products: (2 m, 2 m) inner products of x at the times, then of x0 predicted there, a number of a picture each.
    """

    times: Tensor
    half_log_snr: Tensor
    alpha: Tensor
    sigma: Tensor
    products: Tensor

    @classmethod
    def of(cls, process: GaussianDiffusion, denoise: Denoise, x: Tensor, fine: int = FINE) -> Trajectory:
        """By 2M from x (B, ...), noise at the schedule's end: so many evaluations."""
        times = DPMSolverPP2M(grid=karras).times(process.schedule, min(fine, _levels(process)))
        moves = DPMSolverPP2M().moves(process, denoise, times)
        predictions = [prediction for _, prediction in trajectory(x, moves)]
        rows = torch.stack([p.x.flatten() for p in predictions] + [p.x0.flatten() for p in predictions]).double()
        alpha, sigma = process.schedule.alpha_sigma(times[:-1])
        return cls(times, (alpha / sigma).log(), alpha, sigma, (rows @ rows.T / rows.shape[1]).cpu())

    @property
    def deviation(self) -> float:
        """Of the clean pictures, as the last prediction has them."""
        return math.sqrt(float(self.products[-1, -1]))

    def error(self, before: int | None, here: int, there: Tensor) -> Tensor:
        """The local error of a step of 2M from one point to others (k,), with the prediction before it, (k,).

        The root mean square, in units of the spread of noisy pictures: what an error there becomes at clean data.
        """
        m, at = len(self.alpha), self.half_log_snr
        h = at[there] - at[here]
        gain = -self.alpha[there] * torch.expm1(-h)
        combination = torch.zeros(len(there), 2 * m, dtype=torch.float64)
        combination[:, here] = self.sigma[there] / self.sigma[here]
        combination[:, m + here] = gain
        if before is not None:
            slope = gain * h / (2 * (at[here] - at[before]))
            combination[:, m + here] += slope
            combination[:, m + before] -= slope
        combination[torch.arange(len(there)), there] -= 1
        square = ((combination @ self.products) * combination).sum(1).clamp(min=0)
        return (square / ((self.alpha[there] * self.deviation) ** 2 + self.sigma[there] ** 2)).sqrt()


def _levels(process: GaussianDiffusion) -> int:
    return len(process.schedule.times(None)) - 1


def optimised(path: Trajectory, n: int) -> Tensor:
    """The times of n moves whose local errors add up to least: (n + 1,) descending, the last 0, clean data.

    ValueError where the fine trajectory has fewer moves.
    """
    m = len(path.alpha)
    if not 1 <= n <= m:
        raise ValueError(f"an optimised grid has from 1 to {m} moves, not {n}")
    if n == 1:
        return path.times[[0, -1]]
    # least[i, j]: of all ways in so many moves whose last is from point i to point j; came[i, j]: the point before i
    least = torch.full((m, m), math.inf, dtype=torch.float64)
    least[0, 1:] = path.error(None, 0, torch.arange(1, m))
    came: list[Tensor] = []
    for _ in range(n - 2):
        best, origin = torch.full_like(least, math.inf), torch.zeros(m, m, dtype=torch.long)
        for here in range(1, m - 1):
            there = torch.arange(here + 1, m)
            for before in range(here):
                if bool(least[before, here].isinf()):
                    continue
                cost = least[before, here] + path.error(before, here, there)
                better = cost < best[here, there]
                best[here, there[better]], origin[here, there[better]] = cost[better], before
        least, came = best, [*came, origin]
    points = [int(least[:, m - 1].argmin()), m - 1]
    for origin in reversed(came):
        points.insert(0, int(origin[points[0], points[1]]))
    return path.times[[*points, m]]


def fitted(sampler: OnGrid, process: GaussianDiffusion, denoise: Denoise, x: Tensor, n: int) -> OnGrid:
    """The sampler on the grid of n moves that is optimised for a denoiser; x (B, ...) is noise at the end."""
    times = optimised(Trajectory.of(process, denoise, x), n)
    return replace(sampler, grid=Given(times))
