"""Grids optimised for a model: no choice has less error, and what they lead to is nearer to the exact flow."""

from __future__ import annotations

from itertools import combinations

import pytest
import torch

from sfumato.core import VP, GaussianDiffusion, finish
from sfumato.core.exact import gaussian, gaussian_flow
from sfumato.samplers.dpm_solver import DPMSolverPP2M
from sfumato.samplers.grids import Given, karras
from sfumato.samplers.optimised import Trajectory, fitted, optimised

PROCESS = GaussianDiffusion(VP())
MEAN, STD = torch.tensor([0.4, -0.2, 0.1]), torch.tensor([0.1, 0.5, 1.2])
DENOISE = gaussian(MEAN.double(), STD.double()).denoise(PROCESS)
X = torch.randn(64, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def total(path: Trajectory, points: tuple[int, ...]) -> float:
    """The sum of the local errors along these points of the fine trajectory."""
    before = (None, *points[:-2])
    steps = zip(before, points[:-1], points[1:], strict=True)
    return sum(float(path.error(b, here, torch.tensor([there]))) for b, here, there in steps)


def test_no_other_choice_of_points_has_less_error() -> None:
    path = Trajectory.of(PROCESS, DENOISE, X, fine=10)
    for n in (2, 3, 5):
        chosen = tuple(path.times.tolist().index(t) for t in optimised(path, n).tolist())
        assert chosen[0] == 0
        assert chosen[-2:] == (9, 10)
        every = [(0, *inner, 9) for inner in combinations(range(1, 9), n - 2)]
        assert total(path, chosen[:-1]) == pytest.approx(min(total(path, points) for points in every), rel=1e-9)


@pytest.mark.parametrize("steps", [10, 16])
def test_it_is_nearer_to_the_exact_flow_than_karras(steps: int) -> None:
    """On Gaussian data, not with fewer; on trained networks FD prefers Karras' grid (docs/samplers.md)."""
    sampler = fitted(DPMSolverPP2M(), PROCESS, DENOISE, X, steps)
    start, end = PROCESS.level(torch.tensor(1.0), X), PROCESS.level(torch.tensor(0.0), X)
    exact = gaussian_flow(MEAN.double(), STD.double(), X, start, end)
    errors = [
        float((finish(X, chosen.plan(PROCESS, DENOISE, steps)) - exact).square().mean().sqrt())
        for chosen in (sampler, DPMSolverPP2M(grid=karras))
    ]
    assert errors[0] < 0.8 * errors[1]


def test_a_grid_of_ones_own_is_for_its_number_of_moves() -> None:
    path = Trajectory.of(PROCESS, DENOISE, X, fine=10)
    assert optimised(path, 1).tolist() == [1.0, 0.0]
    with pytest.raises(ValueError, match="from 1 to 10 moves, not 11"):
        optimised(path, 11)
    sampler = DPMSolverPP2M(grid=Given(optimised(path, 4)))
    assert len(sampler.times(VP(), 4)) == 5
    with pytest.raises(ValueError, match="4 moves, not 5"):
        sampler.times(VP(), 5)
