"""Augmentation: each transform beside an exact reference, the distribution of the nine numbers, and what leaks."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.core.augmentation import DRAWS, NUMBERS, augmented, transforms, warped
from sfumato.core.randomness import ImageNoise


def images(n: int = 4, height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def matrix(*rows: list[float], n: int = 4) -> Tensor:
    return torch.tensor([*rows, [0, 0, 1]], dtype=torch.float64).repeat(n, 1, 1)


def turned(angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return matrix([c, -s, 0], [s, c, 0])


def test_nothing_changes_at_probability_0() -> None:
    x = images()
    same, numbers = augmented(x, 0.0, 0.0, ImageNoise(0, range(4)))
    assert torch.equal(same, x)
    assert torch.equal(numbers, torch.zeros(4, NUMBERS))


@pytest.mark.parametrize("size", [(12, 12), (12, 9)])
def test_flips_are_exact(size: tuple[int, int]) -> None:
    x = images(4, *size)
    assert torch.equal(warped(x, matrix([-1, 0, 0], [0, 1, 0])), x.flip(3))
    assert torch.equal(warped(x, matrix([1, 0, 0], [0, -1, 0])), x.flip(2))


@pytest.mark.parametrize("quarters", [1, 2, 3])
@pytest.mark.parametrize("side", [11, 12])
def test_quarter_turns_are_exact(quarters: int, side: int) -> None:
    x = images(4, side, side)
    assert torch.equal(warped(x, turned(quarters * math.pi / 2)), x.rot90(-quarters, (2, 3)))  # y is down: clockwise


@pytest.mark.parametrize(("right", "down"), [(3, 0), (-2, 1), (0, -4)])
def test_whole_shifts_are_exact_and_borders_reflected(right: int, down: int) -> None:
    x = images()
    padded = torch.nn.functional.pad(x, (6, 6, 6, 6), mode="reflect")
    expected = padded[..., 6 - down : 18 - down, 6 - right : 18 - right]
    assert torch.equal(warped(x, matrix([1, 0, right], [0, 1, down])), expected)


@pytest.mark.parametrize("factors", [(0.6, 0.6), (1.5, 1.5), (0.7, 1.4)])
def test_scaling_a_smooth_image_is_the_image_at_scaled_positions(factors: tuple[float, float]) -> None:
    side = 64
    at = torch.arange(side, dtype=torch.float64) - (side - 1) / 2
    y, x = torch.meshgrid(at, at, indexing="ij")

    def wave(x: Tensor, y: Tensor) -> Tensor:
        return (0.8 * torch.cos(2 * math.pi * x / 21) * torch.sin(2 * math.pi * y / 25))[None, None]

    found = warped(wave(x, y).float(), matrix([factors[0], 0, 0], [0, factors[1], 0], n=1))
    inside = slice(22, 42)  # away from the borders
    expected = wave(x / factors[0], y / factors[1])
    assert float((found - expected)[..., inside, inside].abs().max()) < 0.03


def test_what_is_too_fine_for_a_smaller_image_fades_and_does_not_alias() -> None:
    checks = 1 - 2 * ((torch.arange(32)[:, None] + torch.arange(32)) % 2).float()[None, None]
    small = warped(checks, matrix([0.5, 0, 0], [0, 0.5, 0], n=1))
    assert float(small[..., 10:22, 10:22].abs().max()) < 0.05
    assert torch.equal(warped(torch.full((1, 1, 8, 8), 0.5), turned(1.0)[:1]).round(decimals=5),
                       torch.full((1, 1, 8, 8), 0.5))  # fmt: skip


def test_each_image_is_its_own_whatever_the_batch() -> None:
    x = images(8)
    together, numbers = augmented(x, 0.7, 0.5, ImageNoise(3, range(8)))
    assert (numbers != 0).any(1).all()
    for i in (0, 3, 7):
        alone, said = augmented(x[i : i + 1], 0.7, 0.5, ImageNoise(3, [i]))
        assert torch.equal(alone[0], together[i])
        assert torch.equal(said[0], numbers[i])


def test_the_numbers_say_what_was_done() -> None:
    n = 40_000
    z = torch.randn(n, DRAWS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    numbers, matrices = transforms(z, 0.3, 0.5, 16, 16)
    on = numbers != 0
    for column, share in zip((0, 1, 2, 4, 5, 7), (0.5, 0.15, 0.3, 0.3, 0.3, 0.3), strict=True):
        assert float(on[:, column].double().mean()) == pytest.approx(share, abs=0.01)
    for column in (2, 7, 8):  # normal where they are on
        values = numbers[on[:, column], column]
        assert float(values.mean()) == pytest.approx(0, abs=0.04)
        assert float(values.std()) == pytest.approx(1, abs=0.03)
    cosine, sine = numbers[on[:, 4], 3] + 1, numbers[on[:, 4], 4]
    assert torch.allclose(cosine**2 + sine**2, torch.ones_like(cosine))
    angle = torch.atan2(sine, cosine)
    assert float(angle.std()) == pytest.approx(math.pi / math.sqrt(3), rel=0.02)  # uniform
    strength = numbers[on[:, 5], 5:7].norm(dim=1)
    assert float((strength**2).mean()) == pytest.approx(1, abs=0.04)
    sign = 1 - 2 * (numbers[:, :2] == 1).double()
    assert torch.allclose(matrices.det(), sign.prod(1) * torch.exp2(0.4 * numbers[:, 2]))  # anisotropy keeps areas
    assert torch.allclose(matrices[:, :2, 2], 2 * numbers[:, 7:])  # an eighth of 16 pixels each


def test_one_number_alone_is_its_transform() -> None:
    """Angles, scales and axes with a known answer: where a point of the image goes."""
    z = torch.zeros(1, DRAWS, dtype=torch.float64)
    z[:, :6] = 9.0  # off

    def point(which: int, *changes: tuple[int, float]) -> list[float]:
        drawn = z.clone()
        drawn[:, which] = -9.0
        for column, value in changes:
            drawn[:, column] = value
        moved = transforms(drawn, 0.5, 0.0, 16, 16)[1][0] @ torch.tensor([1.0, 0, 1], dtype=torch.float64)
        return moved[:2].tolist()

    quarter = float(torch.special.ndtri(torch.tensor(0.75, dtype=torch.float64)))
    assert point(1, (6, 5.0)) == pytest.approx([2, 0])
    assert point(2, (10, quarter)) == pytest.approx([0, 1])  # pi / 2
    assert point(3, (7, 5.0), (11, 0.0)) == pytest.approx([2, 0])  # along x
    assert point(3, (7, 5.0), (11, quarter)) == pytest.approx([0.5, 0])  # along y
    assert point(4, (8, 1.0), (9, -1.0)) == pytest.approx([3, -2])
