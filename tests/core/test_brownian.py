"""Brownian paths: increments add up, are standard normal, and depend on no other interval, image or draw."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sfumato.core import VP, Gaussian, GaussianDiffusion
from sfumato.core.brownian import OnPath, brownian
from sfumato.core.exact import gaussian
from sfumato.core.randomness import DEPTH, EARLIEST, LATEST, BrownianPaths, ImageNoise, Moment
from sfumato.core.sampling import descend
from sfumato.samplers.ddim import DDIMStep

SPANS = [(0.0, 1e-3), (0.3, 0.31), (0.3, 0.7), (0.9, 1.0), (1.0, 5.0), (17.3, 4000.0), (4000.0, math.inf)]


def increments(keys: range, start: float, end: float, size: int = 64, seed: int = 0) -> Tensor:
    x = torch.zeros(len(keys), size, dtype=torch.float64)
    return BrownianPaths(seed, keys).increment(x, start, end)


def length(start: float, end: float) -> float:
    return Moment.near(end).time - Moment.near(start).time


@pytest.mark.parametrize("cuts", [(0.3, 0.31, 0.7, 1.0, 5.5, 64.0), (1e-9, 1e-3, 2e-3, 2.0), (1.0, 1.25, 1.5, 2.0)])
def test_increments_over_parts_sum_to_that_over_the_whole(cuts: tuple[float, ...]) -> None:
    whole = increments(range(3), cuts[0], cuts[-1]) * length(cuts[0], cuts[-1]) ** 0.5
    parts = [increments(range(3), a, b) * length(a, b) ** 0.5 for a, b in pairwise(cuts)]
    torch.testing.assert_close(sum(parts[1:], parts[0]), whole, rtol=0, atol=1e-13 * cuts[-1] ** 0.5)


@pytest.mark.parametrize(("start", "end"), SPANS)
def test_increments_are_standard_normal(start: float, end: float) -> None:
    drawn = increments(range(40), start, end, 1000)
    n = drawn.numel()
    assert abs(float(drawn.mean())) < 5 / n**0.5
    assert abs(float(drawn.var()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float((drawn**4).mean()) - 3) < 5 * (96 / n) ** 0.5


def test_increments_of_disjoint_intervals_images_and_seeds_are_independent() -> None:
    known = [increments(range(20), a, b, 1000).flatten() for a, b in SPANS if (a, b) != (0.3, 0.31)]
    known += [increments(range(20, 40), 0.3, 0.7, 1000).flatten(), increments(range(20), 0.3, 0.7, 1000, 1).flatten()]
    x = torch.zeros(20, 1000, dtype=torch.float64)
    known.append(ImageNoise(0, range(20))(x).flatten())
    correlation = torch.corrcoef(torch.stack(known)) - torch.eye(len(known), dtype=torch.float64)
    assert float(correlation.abs().max()) < 5 / 20_000**0.5


def test_a_part_of_an_interval_is_correlated_as_in_brownian_motion() -> None:
    part, whole = increments(range(20), 0.3, 0.4, 1000), increments(range(20), 0.3, 0.7, 1000)
    assert float((part * whole).mean()) == pytest.approx((0.1 / 0.4) ** 0.5, abs=0.03)


def test_a_path_depends_on_no_other_image_and_on_no_interval_before() -> None:
    together, paths = increments(range(5), 0.2, 3.0), BrownianPaths(0, [4])
    alone = torch.zeros(1, 64, dtype=torch.float64)
    paths.increment(alone, 0.01, 0.2)
    assert torch.equal(paths.increment(alone, 0.2, 3.0), together[4:])
    with pytest.raises(ValueError, match="noise for 1 images was asked for a batch of 2"):
        paths.increment(torch.zeros(2, 64), 0.2, 3.0)


def test_moments_are_within_a_millionth_and_an_empty_interval_has_no_noise() -> None:
    for time in (1e-12, 0.3, 1.0, 1.999999999, 7.7, 1e9):
        assert Moment.near(time).time == pytest.approx(time, rel=2.0**-DEPTH)
    assert Moment.near(0.0).time == EARLIEST
    assert Moment.near(math.inf).time == LATEST
    assert not increments(range(2), 0.5, 0.5).any()


def test_noise_without_a_seed_and_moves_that_do_not_go_down_are_refused() -> None:
    with pytest.raises(ValueError, match=r"needs core.randomness.ImageNoise"):
        OnPath(Gaussian(torch.zeros(1, 2), torch.ones(1, 1)), 0.1, 0.2).sample()
    process = GaussianDiffusion(VP())
    step = DDIMStep(process, gaussian(torch.zeros(1), torch.ones(1)).denoise(process))
    for times in ([0.5, 0.5, 0.1], [0.5, 0.6]):
        with pytest.raises(ValueError, match="moves all go down"):
            brownian(descend(step, torch.tensor(times)), process)
