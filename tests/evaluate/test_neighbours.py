"""Precision, recall, density, coverage and the search for copies: sets whose answers are known, and brute force."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sfumato.evaluate import neighbours
from sfumato.evaluate.neighbours import (
    density_coverage,
    half_precision_distances,
    nearest,
    precision_recall,
    radii,
    squared_distances,
)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


LEFT, RIGHT = normal(0, 60, 4), 100 + normal(1, 60, 4)
"""Two modes far apart."""


def test_a_set_covers_itself() -> None:
    assert precision_recall(LEFT, LEFT) == (1, 1)
    density, coverage = density_coverage(LEFT, LEFT, k=5)
    assert coverage == 1
    assert density == pytest.approx(1.2)  # each ball holds its centre, four neighbours and the one on its border


@pytest.mark.parametrize(
    ("reference", "samples", "precision", "recall"),
    [
        (LEFT, RIGHT, 0, 0),
        (torch.cat([LEFT, RIGHT]), LEFT, 1, 0.5),  # one mode dropped
        (LEFT, torch.cat([LEFT, RIGHT]), 0.5, 1),  # one mode invented
    ],
)
def test_modes(reference: Tensor, samples: Tensor, precision: float, recall: float) -> None:
    assert precision_recall(reference, samples) == (precision, recall)
    assert density_coverage(reference, samples).coverage == recall


def test_equal_laws() -> None:
    density, coverage = density_coverage(normal(2, 1000, 8), normal(3, 1000, 8), k=5)
    assert density == pytest.approx(1, abs=0.1)
    assert coverage == pytest.approx(1 - 0.5**5, abs=0.02)  # each of k neighbours is a sample half of the time
    precision, recall = precision_recall(normal(2, 1000, 8), normal(3, 1000, 8))
    assert precision == pytest.approx(recall, abs=0.05)


@given(st.integers(0, 10_000), st.integers(4, 25), st.integers(4, 25), st.integers(1, 3))
@settings(max_examples=30, deadline=None)
def test_by_brute_force(seed: int, n: int, m: int, k: int) -> None:
    reference, samples = normal(seed, n, 3).double(), normal(seed + 1, m, 3).double()
    to_self, across = torch.cdist(reference, reference), torch.cdist(samples, reference)
    reach = to_self.sort(1).values[:, k]
    inside = across <= reach
    assert precision_recall(reference, samples, k=k).precision == pytest.approx(float(inside.any(1).double().mean()))
    density, coverage = density_coverage(reference, samples, k=k)
    assert density == pytest.approx(float(inside.sum()) / (k * m))
    assert coverage == pytest.approx(float(inside.any(0).double().mean()))
    torch.testing.assert_close(radii(reference, k), reach**2)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = normal(4, 90, 6), 0.5 + normal(5, 70, 6)
    whole = precision_recall(a, b), density_coverage(a, b), nearest(a, b)
    monkeypatch.setattr(neighbours, "ENTRIES", 500)
    parts = precision_recall(a, b), density_coverage(a, b), nearest(a, b)
    assert whole[:2] == parts[:2]
    torch.testing.assert_close(whole[2].distance, parts[2].distance)


def test_half_precision_loses_digits_and_falls_back() -> None:
    a, b = 4 + normal(6, 50, 32), 4 + normal(7, 40, 32)
    half, exact = half_precision_distances(a, b), squared_distances(a, b).float()
    assert half.dtype == torch.float32
    assert (half == half.half()).all()
    assert (half - exact).abs().max() > 0.1  # distances of about 64 as differences of numbers of about 1000
    torch.testing.assert_close(half_precision_distances(100 * a, b), squared_distances(100 * a, b).float())  # overflow


def test_nearest_finds_copies() -> None:
    training = torch.randint(0, 256, (500, 64), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    fresh = torch.randint(0, 256, (20, 64), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    found = nearest(torch.cat([training[:20], fresh]), training)
    assert found.places[:20, 0].tolist() == list(range(20))
    assert (found.distance[:20, 0] == 0).all()
    assert found.copies.tolist() == [True] * 20 + [False] * 20
    exact = torch.cdist(fresh.double(), training.double()).sort(1).values[:, :2] / 8
    torch.testing.assert_close(found.distance[20:], exact)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="there are 60"):
        precision_recall(LEFT, LEFT, k=60)
    with pytest.raises(ValueError, match="k of 1 or more"):
        density_coverage(LEFT, LEFT, k=0)
    with pytest.raises(ValueError, match="3 and 4 features"):
        precision_recall(LEFT, LEFT[:, :3])
    with pytest.raises(ValueError, match="between 1 and the 60"):
        nearest(LEFT, LEFT, k=61)
