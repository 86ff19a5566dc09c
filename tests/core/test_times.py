"""Times: which levels are trained on, and which are visited; our grids are monotone by construction.

Also the randomness that belongs to an image: the same numbers in whatever company.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core import times
from sfumato.core.randomness import ImageNoise, mix, uniforms

SIZES = st.integers(1, 2000).flatmap(lambda T: st.tuples(st.just(T), st.integers(1, T)))


@given(SIZES)
def test_our_grids_descend_strictly_from_T_to_clean_data(size: tuple[int, int]) -> None:
    T, n = size
    for grid in (times.strided(T, n), times.trailing_quadratic(T, n)):
        assert len(grid) == n + 1
        assert int(grid[0]) == T
        assert int(grid[-1]) == 0
        assert bool((grid.diff() < 0).all())


@given(SIZES)
def test_respacing_visits_as_many_levels_as_asked(size: tuple[int, int]) -> None:
    T, n = size
    levels = times.sections(T, [n])
    assert len(levels) == n + 1
    assert bool((levels.diff() < 0).all())
    assert int(levels[-1]) == 0
    if n > 1:
        assert (int(levels[0]), int(levels[-2])) == (T, 1)  # both ends included


def test_official_quirks() -> None:
    assert len(times.ddim_uniform(1000, 30)) == 32  # 31 moves, not 30
    assert int(times.ddim_uniform(1000, 50)[0]) == 981  # never at T
    assert int(times.ddim_quadratic(1000, 10)[0]) == 801  # noise enters at 0.8 T
    assert times.ddim_quadratic(1000, 60)[-4:-1].tolist() == [1, 1, 1]  # the lowest level repeats


@pytest.mark.parametrize("n", [0, -1, 1001])
@pytest.mark.parametrize("grid", [times.strided, times.trailing_quadratic, times.ddim_uniform, times.ddim_quadratic])
def test_impossible_steps_are_refused(grid: object, n: int) -> None:
    with pytest.raises(ValueError, match="between 1 and 1000"):
        grid(1000, n)  # type: ignore[operator]


@pytest.mark.parametrize("text", ["", "ten", "ddim300", "1001", "600,600", "10,,10", "0"])
def test_impossible_respacings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="respacing"):
        times.respace(1000, text)


def test_uniform_levels_cover_all_alike() -> None:
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    t, weight = times.UniformLevels(50).draw(u)
    assert torch.bincount(t, minlength=51).tolist() == [0] + [200] * 50
    assert bool((weight == 1).all())
    edge, _ = times.UniformLevels(50).draw(torch.tensor([0.0, 1 - 1e-17], dtype=torch.float64))
    assert edge.tolist() == [1, 50]


def test_interval_stays_inside() -> None:
    t, _ = times.UniformInterval(1e-5, 1.0).draw(torch.tensor([0.0, 0.5, 1.0]))
    assert t.tolist() == pytest.approx([1e-5, 0.500005, 1.0])


@given(st.integers(0, 10**9), st.integers(8, 300))
def test_low_discrepancy_is_even_over_any_run(start: int, n: int) -> None:
    """Every run of n consecutive counters leaves no gap much larger than 1/n (three-distance theorem)."""
    u = times.low_discrepancy(torch.arange(start, start + n)).sort().values
    gaps = torch.cat([u, u[:1] + 1]).diff()
    assert float(gaps.max()) < 2.7 / n


def test_antithetic_mirrors() -> None:
    u = times.antithetic(torch.rand(7, dtype=torch.float64))
    assert len(u) == 7
    assert torch.allclose(u[:3] + u[4:], torch.ones(3, dtype=torch.float64))


# ---------------------------------------------------------------- randomness


@given(st.integers(0, 2**63), st.lists(st.integers(0, 2**40), min_size=1, max_size=8, unique=True))
def test_a_draw_belongs_to_its_key(seed: int, keys: list[int]) -> None:
    together = uniforms(seed, keys)
    assert together.tolist() == [float(uniforms(seed, [key])) for key in keys]
    assert bool(((together >= 0) & (together < 1)).all())


def test_noise_belongs_to_an_image() -> None:
    x = torch.empty(4, 2, 3, 3)
    together = ImageNoise(5, range(4))
    first, second = together(x), together(x)
    alone = ImageNoise(5, [2])
    assert torch.equal(alone(x[:1])[0], first[2])
    assert torch.equal(alone(x[:1])[0], second[2])
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first, ImageNoise(6, range(4))(x))
    with pytest.raises(ValueError, match="batch of 3"):
        together(x[:3])


def test_noise_is_standard_normal_across_images() -> None:
    z = ImageNoise(0, range(5000))(torch.empty(5000, 4))
    assert float(z.mean()) == pytest.approx(0, abs=0.03)
    assert float(z.std()) == pytest.approx(1, abs=0.02)
    assert float(torch.corrcoef(z.T)[0, 1]) == pytest.approx(0, abs=0.06)


def test_mix_spreads_neighbours() -> None:
    values = {mix(seed, key) for seed in range(20) for key in range(200)}
    assert len(values) == 4000
    assert len({v % 64 for v in values}) == 64
