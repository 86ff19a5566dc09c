"""Frechet and kernel distances and the Inception score against closed forms, brute force and one another."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from sfumato.evaluate.distances import (
    Statistics,
    frechet_distance,
    inception_score,
    kernel_distance,
    polynomial_kernel,
    squared_mmd,
    statistics,
)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def rotation(seed: int, size: int) -> Tensor:
    return torch.linalg.qr(normal(seed, size, size)).Q


def gaussian(mean: Tensor, variances: Tensor, turn: Tensor) -> Statistics:
    return Statistics(mean, turn @ variances.diag() @ turn.T, 0)


# ---------------------------------------------------------------- Frechet distance


@given(st.integers(0, 10_000), st.integers(1, 12))
@settings(max_examples=25, deadline=None)
def test_commuting_gaussians(seed: int, size: int) -> None:
    """With common axes it is |m_a - m_b|^2 + sum (sqrt v_a - sqrt v_b)^2."""
    turn, a, b = rotation(seed, size), normal(seed + 1, size).exp(), normal(seed + 2, size).exp()
    m, n = normal(seed + 3, 2, size)
    expected = (m - n).square().sum() + (a.sqrt() - b.sqrt()).square().sum()
    assert frechet_distance(gaussian(m, a, turn), gaussian(n, b, turn)) == pytest.approx(float(expected), rel=1e-9)


def test_two_dimensions_by_hand() -> None:
    """For 2x2 matrices tr (A B)^(1/2) = sqrt(tr AB + 2 sqrt(det AB)), whether or not they commute."""
    a, b = (x @ x.T + 0.1 * torch.eye(2) for x in normal(0, 2, 2, 2))
    product = a @ b
    cross = math.sqrt(product.trace() + 2 * math.sqrt(torch.linalg.det(product)))
    zero = torch.zeros(2, dtype=torch.float64)
    found = frechet_distance(Statistics(zero, a, 0), Statistics(zero, b, 0))
    assert found == pytest.approx(float(a.trace() + b.trace()) - 2 * cross, rel=1e-12)


def test_it_is_a_squared_metric_of_the_images() -> None:
    x, y = normal(1, 300, 20), 0.3 + 1.2 * normal(2, 200, 20)
    a, b = statistics(x), statistics(y)
    d = frechet_distance(a, b)
    assert d == pytest.approx(frechet_distance(b, a), rel=1e-12)
    assert abs(frechet_distance(a, a)) < 1e-12
    turn = rotation(3, 20)
    moved = frechet_distance(statistics(3 * x @ turn + 5), statistics(3 * y @ turn + 5))
    assert moved == pytest.approx(9 * d, rel=1e-9)  # turning and moving both sets change nothing; scaling, squared


@pytest.mark.parametrize(("n", "m", "size"), [(40, 50, 64), (5, 200, 32), (300, 6, 128)])
def test_fewer_images_than_dimensions(n: int, m: int, size: int) -> None:
    """tr (C_a C_b)^(1/2) is the sum of the singular values of the centred images' product, of any rank."""
    x, y = normal(1, n, size), 0.5 + normal(2, m, size)
    a, b = ((z - z.mean(0)) / math.sqrt(len(z) - 1) for z in (x, y))
    cross = torch.linalg.svdvals(a @ b.T).sum()
    expected = (x.mean(0) - y.mean(0)).square().sum() + a.square().sum() + b.square().sum() - 2 * cross
    assert frechet_distance(statistics(x), statistics(y)) == pytest.approx(float(expected), rel=1e-10)


def test_statistics_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    x = 1000 + normal(0, 101, 7).float()
    monkeypatch.setattr("sfumato.evaluate.distances.BLOCK", 10)
    found = statistics(x)
    assert found.count == 101
    torch.testing.assert_close(found.mean, x.double().mean(0), rtol=1e-14, atol=0)
    torch.testing.assert_close(found.covariance, x.double().T.cov(), rtol=1e-11, atol=1e-12)


# ---------------------------------------------------------------- kernel distance


def test_squared_mmd_by_brute_force() -> None:
    a, b = normal(0, 5, 3), normal(1, 4, 3)
    k = polynomial_kernel(torch.cat([a, b]), torch.cat([a, b]))
    within_a = sum(k[i, j] for i in range(5) for j in range(5) if i != j) / 20
    within_b = sum(k[5 + i, 5 + j] for i in range(4) for j in range(4) if i != j) / 12
    assert squared_mmd(a, b) == pytest.approx(float(within_a + within_b - 2 * k[:5, 5:].mean()), rel=1e-12)


@pytest.mark.parametrize("shift", [0.0, 0.7])
def test_squared_mmd_is_unbiased(shift: float) -> None:
    """Of N(0, 1) and N(m, 1), from E (x y + 1)^3 = sum_j C(3, j) E x^j E y^j; met within three standard errors."""
    raw = [[1, 0, 1, 0], [1, shift, 1 + shift**2, 3 * shift + shift**3]]  # moments 0 to 3
    exact = sum(math.comb(3, j) * (raw[0][j] - raw[1][j]) ** 2 for j in range(4))
    values = torch.tensor([
        squared_mmd(normal(3 * i, 6, 1), shift + normal(3 * i + 1, 9, 1)) for i in range(1500)
    ])  # fmt: skip
    assert abs(values.mean() - exact) < 3 * values.std() / math.sqrt(len(values))


def test_kernel_distance_tells_equal_from_different() -> None:
    a, b = normal(0, 400, 8), normal(1, 300, 8)
    same, other = kernel_distance(a, b, subsets=30, size=100), kernel_distance(a, b + 0.5, subsets=30, size=100)
    assert abs(same.value) < 3 * same.deviation
    assert other.value > 5 * other.deviation
    assert same == kernel_distance(a, b, subsets=30, size=100)
    assert same != kernel_distance(a, b, subsets=30, size=100, seed=1)
    assert kernel_distance(a, b, subsets=30).deviation > 0  # 1000 are more than there are: half of the smaller set


# ---------------------------------------------------------------- Inception score


def test_inception_score_of_known_answers() -> None:
    sure = torch.eye(10).repeat(20, 1)
    assert inception_score(sure, splits=2).value == pytest.approx(10)
    assert inception_score(sure, splits=2).deviation == pytest.approx(0, abs=1e-12)
    assert inception_score(torch.full((50, 10), 0.1)).value == pytest.approx(1)
    assert inception_score(torch.eye(10)[:1].repeat(30, 1)).value == pytest.approx(1)  # sure, but of one class


def test_a_short_last_part_counts_as_much() -> None:
    parts = torch.cat([torch.eye(4).repeat(5, 1), torch.eye(4)[:1].repeat(2, 1)])  # 20 of score 4, then 2 of score 1
    assert inception_score(parts, size=20).value == pytest.approx(2.5)
    assert inception_score(parts, size=20).deviation == pytest.approx(1.5)
    assert inception_score(parts, size=100).value == inception_score(parts, splits=1).value


# ---------------------------------------------------------------- bad input


def test_bad_features() -> None:
    good = normal(0, 10, 3)
    with pytest.raises(ValueError, match=r"\(N, D\) with N at least 2, not \(1, 3\)"):
        statistics(good[:1])
    with pytest.raises(ValueError, match="NaN"):
        statistics(torch.full((5, 3), torch.nan))
    with pytest.raises(ValueError, match="different nets"):
        frechet_distance(statistics(good), statistics(good[:, :2]))
    with pytest.raises(ValueError, match="2 subsets"):
        kernel_distance(good, good, subsets=1)
    with pytest.raises(ValueError, match="1 or more, not 0"):
        inception_score(good.softmax(1), splits=0)
