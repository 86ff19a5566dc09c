"""Resampling through a filter (Song et al. 2021, appendix H): identities that hold for any image.

Parity with official code: tests/convert.
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sfumato.networks import fir

TAPS = (1, 3, 3, 1)


@pytest.fixture
def x() -> torch.Tensor:
    return torch.randn(2, 3, 6, 8, dtype=torch.float64)


def test_two_equal_taps_are_means_and_nearest_neighbours(x: torch.Tensor) -> None:
    torch.testing.assert_close(fir.fir_halve(x, (1, 1)), fir.halve(x))
    torch.testing.assert_close(fir.fir_double(x, (1, 1)), fir.double(x))


@pytest.mark.parametrize("taps", [TAPS, (1, 2, 1), (1, 5, 10, 10, 5, 1)])
def test_a_constant_stays_inside(taps: tuple[float, ...]) -> None:
    ones = torch.ones(1, 2, 16, 16)
    inside = (..., slice(4, -4), slice(4, -4))
    assert fir.fir_double(ones, taps).shape == (1, 2, 32, 32)
    if len(taps) % 2 == 0:  # an odd filter has unequal phases
        torch.testing.assert_close(fir.fir_double(ones, taps)[inside], torch.ones(1, 2, 24, 24))
    torch.testing.assert_close(fir.fir_halve(ones, taps)[..., 2:-2, 2:-2], torch.ones(1, 2, 4, 4))


def test_halving_is_a_quarter_of_the_adjoint_of_doubling(x: torch.Tensor) -> None:
    """<double(x), y> = 4 <x, halve(y)>, for a symmetric filter."""
    y = torch.randn(2, 3, 12, 16, dtype=torch.float64)
    left, right = (fir.fir_double(x, TAPS) * y).sum(), (x * fir.fir_halve(y, TAPS)).sum()
    assert left.item() == pytest.approx(4 * right.item())


def test_a_shift_by_one_pixel_becomes_a_shift_by_two(x: torch.Tensor) -> None:
    moved = fir.fir_double(x.roll(1, dims=3), TAPS)
    torch.testing.assert_close(moved[..., 6:-4], fir.fir_double(x, TAPS).roll(2, dims=3)[..., 6:-4])


def test_fused_convolutions_with_a_unit_in_the_middle_do_nothing_else(x: torch.Tensor) -> None:
    conv = nn.Conv2d(3, 3, 3).double()
    nn.init.dirac_(conv.weight)
    bias = conv.bias[:, None, None]
    torch.testing.assert_close(fir.fir_conv_halve(x, conv, TAPS), fir.fir_halve(x, TAPS) + bias)
    torch.testing.assert_close(fir.fir_double_conv(x, conv, TAPS), fir.fir_double(x, TAPS) + bias)


def test_fused_convolution_is_the_convolution_of_the_enlarged_image(x: torch.Tensor) -> None:
    """Away from the borders, where the two disagree about zeros."""
    conv = nn.Conv2d(3, 5, 3, padding=1).double()
    inside = (..., slice(3, -3), slice(3, -3))
    expected = conv(fir.fir_double(x, TAPS))
    torch.testing.assert_close(fir.fir_double_conv(x, conv, TAPS)[inside], expected[inside])


def test_without_a_filter_as_in_ddpm() -> None:
    x = torch.randn(1, 2, 4, 6)
    down, up = fir.Down(2, 5, True, None), fir.Up(2, 5, True, None)
    assert torch.equal(fir.Down(2, 2, False, None)(x), fir.halve(x))
    assert torch.equal(fir.Up(2, 2, False, None)(x), fir.double(x))
    assert torch.equal(down(x), F.conv2d(F.pad(x, (0, 1, 0, 1)), down.conv.weight, down.conv.bias, stride=2))
    assert torch.equal(up(x), F.conv2d(fir.double(x), up.conv.weight, up.conv.bias, padding=1))


def test_asymmetric_padding_is_right_and_below() -> None:
    layer = fir.Down(1, 1)
    torch.nn.init.ones_(layer.conv.weight)
    torch.nn.init.zeros_(layer.conv.bias)
    x = torch.ones(1, 1, 4, 4)
    assert layer(x)[0, 0].tolist() == [[9.0, 6.0], [6.0, 4.0]]
    symmetric = fir.Down(1, 1, asymmetric=False)
    symmetric.load_state_dict(layer.state_dict())
    assert symmetric(x)[0, 0].tolist() == [[4.0, 6.0], [6.0, 9.0]]


def test_resampling_without_convolutions() -> None:
    x = torch.randn(1, 2, 4, 6)
    small = fir.Down(2, 2, conv=False)(x)
    assert torch.equal(small, F.avg_pool2d(x, 2))
    assert torch.equal(fir.Up(2, 2, conv=False)(small), small.repeat_interleave(2, 2).repeat_interleave(2, 3))
