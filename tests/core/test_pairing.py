"""Minibatch optimal transport: the assignment is the best of all, and classes keep their noises."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from sfumato.core.pairing import assignment, paired


@pytest.mark.parametrize("n", [1, 2, 5, 7])
def test_the_assignment_is_the_best_of_all(n: int) -> None:
    generator = torch.Generator().manual_seed(n)
    orders = torch.tensor(list(permutations(range(n))))
    for _ in range(20):
        cost = torch.randn(n, n, generator=generator)
        found = assignment(cost)
        assert sorted(found.tolist()) == list(range(n))
        best = cost[torch.arange(n), orders].sum(1).min()
        assert float(cost[torch.arange(n), found].sum()) == pytest.approx(float(best), abs=1e-5)


def test_points_on_a_line_are_assigned_in_their_order() -> None:
    """The optimal transport of one dimension is monotone, whatever the number; ties and equal points do no harm."""
    a, b = torch.randn(2, 100, dtype=torch.float64)
    found = assignment((a[:, None] - b) ** 2)
    assert torch.equal(a.argsort().argsort(), b[found].argsort().argsort())
    assert sorted(assignment(torch.zeros(9, 9)).tolist()) == list(range(9))
    with pytest.raises(ValueError, match="as many rows as columns"):
        assignment(torch.zeros(2, 3))


def test_noises_change_places_within_a_class_only() -> None:
    x0, eps, y = torch.randn(24, 1, 3, 3), torch.randn(24, 1, 3, 3), torch.arange(24) % 3

    def length(noise: torch.Tensor) -> float:
        return float((x0 - noise).square().sum())

    within, free = paired(x0, eps, y), paired(x0, eps)
    for label in range(3):
        ours, theirs = (noise[y == label].flatten(1).sum(1).sort().values for noise in (within, eps))
        assert torch.equal(ours, theirs)
    assert length(free) < length(within) < length(eps)
    assert torch.equal(free.flatten().sort().values, eps.flatten().sort().values)
