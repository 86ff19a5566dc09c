"""The toys of 2015: what each is by its definition, and as a data set that the loader knows."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from sfumato.data import open_source, pictures
from sfumato.data.loader import to_float
from sfumato.data.sources import DataError
from sfumato.data.toys import HEARTBEATS, ROLL_CENTRE, ROLL_SCALE, DeadLeaves, heartbeats, swiss_roll


def test_a_heartbeat_has_a_pulse_at_every_fifth_bit_in_one_of_five_phases() -> None:
    bits = heartbeats(2000)[:, 0, 0] // 255
    assert bits.shape == (2000, 20)
    assert (bits.reshape(-1, 4, 5) == bits[:, None, :5]).all()
    assert (bits.sum(1) == 4).all()
    phases = (bits[:, None] == HEARTBEATS).all(-1).float().mean(0)
    assert torch.allclose(phases, torch.full((5,), 0.2), atol=0.03)


def test_the_roll_is_a_curve_with_mean_0_inside_the_range() -> None:
    points = swiss_roll(50_000).double().reshape(-1, 2)
    assert points.abs().max() < 1
    assert torch.allclose(points.mean(0), torch.zeros(2, dtype=torch.float64), atol=0.01)
    plane = points * ROLL_SCALE + torch.from_numpy(ROLL_CENTRE)
    r = plane.norm(dim=1)
    assert torch.allclose(plane, torch.stack([r * r.cos(), r * r.sin()], 1), atol=1e-4)
    quantiles = torch.quantile(r, torch.tensor([0.0, 0.5, 1.0], dtype=torch.float64))
    assert torch.allclose(quantiles, torch.tensor([1.5, 3.0, 4.5], dtype=torch.float64) * math.pi, atol=0.1)
    assert (swiss_roll(100, noise=0.5) - swiss_roll(100)).std().item() == pytest.approx(0.5 / ROLL_SCALE, rel=0.2)


def test_the_radii_of_leaves_follow_the_power_law() -> None:
    """The share of radii above r is (r^-2 - high^-2) / (low^-2 - high^-2) for a density of r^-3."""
    leaves = DeadLeaves(32)
    radii = leaves.radii(np.random.Generator(np.random.Philox(key=0)).random(200_000))
    low, high = leaves.smallest, leaves.largest * 32
    assert low <= radii.min()
    assert radii.max() <= high
    for r in (1.5, 3.0, 10.0):
        assert (radii > r).mean() == pytest.approx((r**-2 - high**-2) / (low**-2 - high**-2), rel=0.05)


def test_leaves_look_alike_at_every_scale() -> None:
    """Halving the size by area means changes the correlation of neighbours little: far less than for noise."""
    leaves = to_float(DeadLeaves(32)(200))
    small = torch.nn.functional.avg_pool2d(leaves, 2)

    def neighbours(x: torch.Tensor) -> float:
        return float(torch.corrcoef(torch.stack([x[..., :-1].flatten(), x[..., 1:].flatten()]))[0, 1])

    assert neighbours(leaves) == pytest.approx(neighbours(small), abs=0.12)
    assert neighbours(leaves) > 0.6
    assert leaves.mean().abs() < 0.1
    assert len(leaves[0].unique()) < 200  # whole discs of one grey


def test_a_picture_follows_from_its_seed_and_its_number_alone() -> None:
    assert torch.equal(DeadLeaves(8)(5, seed=3)[:2], DeadLeaves(8)(2, seed=3))
    assert not torch.equal(DeadLeaves(8)(2, seed=3), DeadLeaves(8)(2, seed=4))


@pytest.mark.parametrize(("name", "shape"), [("swiss_roll", (1, 1, 2)), ("heartbeat", (1, 1, 20))])
def test_toys_are_data_sets_with_a_split(name: str, shape: tuple[int, int, int]) -> None:
    train, test = open_source(f"{name}?limit=300"), open_source(f"{name}:test?limit=300")
    assert train.shape == test.shape == shape
    assert train.card.fingerprint != test.card.fingerprint
    assert open_source(f"{name}?limit=300").card.fingerprint == train.card.fingerprint
    assert pictures.grid(train.images).dtype == torch.uint8
    with pytest.raises(DataError, match="one shape only"):
        open_source(f"{name}?size=8")


def test_leaves_of_any_size_and_points_as_one_picture() -> None:
    leaves = open_source("dead_leaves:test?size=12&limit=30")
    assert leaves.shape == (1, 12, 12)
    assert len(leaves) == 30
    corner = torch.tensor([[[[-1.0, 1.0]]]])
    assert pictures.grid(corner)[0, 0, 0] == 0
    assert pictures.grid(torch.tensor([[[[0, 255]]]], dtype=torch.uint8))[0, 0, 0] == 0
    with pytest.raises(ValueError, match="2 pixels or more"):
        DeadLeaves(1)
