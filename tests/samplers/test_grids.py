"""Grids of timesteps: monotone by construction, the published quirks, and what cannot be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core.betas import linear_betas
from sfumato.core.schedules import from_betas, strided
from sfumato.samplers import grids

SIZES = st.integers(1, 2000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T)))


@given(SIZES)
def test_our_grids_descend_strictly_from_T_to_clean_data(size: tuple[int, int]) -> None:
    T, n = size
    for grid in (strided(T, n), grids.trailing_quadratic(T, n)):
        assert len(grid) == n + 1
        assert int(grid[0]) == T
        assert int(grid[-1]) == 0
        assert bool((grid.diff() < 0).all())


@given(SIZES)
def test_respacing_takes_as_many_levels_as_asked(size: tuple[int, int]) -> None:
    T, n = size
    levels = grids.sections(T, [n])
    assert len(levels) == n + 1
    assert bool((levels.diff() < 0).all())
    assert int(levels[-1]) == 0
    if n > 1:
        assert (int(levels[0]), int(levels[-2])) == (T, 1)  # both ends included


def test_official_quirks() -> None:
    assert len(grids.ddim_uniform(1000, 30)) == 32  # 31 moves, not 30
    assert int(grids.ddim_uniform(1000, 50)[0]) == 981  # never at T
    assert int(grids.ddim_quadratic(1000, 10)[0]) == 801  # noise enters at 0.8 T
    assert grids.ddim_quadratic(1000, 60)[-4:-1].tolist() == [1, 1, 1]  # the lowest level repeats


@pytest.mark.parametrize("n", [0, -1, 1001])
@pytest.mark.parametrize("grid", [strided, grids.trailing_quadratic, grids.ddim_uniform, grids.ddim_quadratic])
def test_impossible_steps_are_refused(grid: object, n: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 1000"):
        grid(1000, n)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "ten", "ddim300", "1001", "600,600", "10,,10", "0"])
def test_impossible_respacings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="respacing"):
        grids.respace(1000, text)


def test_a_schedule_takes_a_number_a_grid_or_every_level() -> None:
    schedule = from_betas(linear_betas(10))
    assert schedule.times().tolist() == list(range(10, -1, -1))
    assert schedule.times(2).tolist() == [10, 5, 0]
    assert schedule.times(lambda T: grids.respace(T, "ddim5")).tolist() == [9, 7, 5, 3, 1, 0]
