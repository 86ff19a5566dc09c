"""Training times: which levels are trained on, and how often.

Also the randomness that belongs to an image: the same numbers in whatever company.
"""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfumato.core import times
from sfumato.core.continuous import VP, LinearFlow, PowerVE
from sfumato.core.randomness import ImageNoise, mix, uniforms


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


def test_log_normal_noise_has_its_moments_on_any_schedule() -> None:
    """So a logit-normal time of the straight path is EDM's log-normal sigma."""
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for schedule in (PowerVE(), LinearFlow(), LinearFlow(3.0), VP()):
        t, weight = times.LogNormal(schedule, -0.4, 0.9).draw(u)
        log_noise = -schedule.log_snr(t) / 2
        assert float(log_noise.mean()) == pytest.approx(-0.4, abs=1e-3)
        assert float(log_noise.std()) == pytest.approx(0.9, rel=1e-3)
        assert bool((t.diff() >= 0).all() & (weight == 1).all())
    logit, _ = times.LogNormal(LinearFlow(3.0), 0.2 + math.log(3), 0.7).draw(u)
    assert float(logit.logit().mean()) == pytest.approx(0.2, abs=1e-3)  # the shift moves both
    edge, _ = times.LogNormal(PowerVE(), -1.2, 1.2).draw(torch.tensor([0.0, 1.0]))
    assert 0 < edge[0] < edge[1] <= 1


def test_mode_is_denser_in_the_middle() -> None:
    u = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    even, _ = times.Mode(0.0).draw(u)
    assert torch.allclose(even, u)
    t, _ = times.Mode(1.29).draw(u)
    assert bool((t.diff() > 0).all())
    assert t[[0, 5000, 10_000]].tolist() == pytest.approx([0, 0.5, 1])
    assert float(((t > 0.4) & (t < 0.6)).double().mean()) > 0.3
    ends, _ = times.Mode(-1.0).draw(u)
    assert float(((ends > 0.4) & (ends < 0.6)).double().mean()) < 0.2


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
