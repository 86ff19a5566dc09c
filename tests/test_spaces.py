"""Spaces: there and back is the identity, ranges and volumes are what they say, and moments are those of the data."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core.randomness import ImageNoise
from sfumato.spaces import SPACES, Bits, Measured, Pixels, Space, Standardised, UnitPixels
from sfumato.spaces.measuring import mean_and_variance

NAMES = [name for name in SPACES if name != "latents"]  # which tests/spaces has
EVERY: list[Space] = [Pixels(), Measured(0.6), UnitPixels(), Standardised(0.2, 0.7), Bits()]


def images(n: int) -> Tensor:
    """8-bit images in [-1, 1]."""
    return torch.randint(0, 256, (n, 1, 4, 4), generator=torch.Generator().manual_seed(0)) / 127.5 - 1


@pytest.mark.parametrize("space", EVERY, ids=NAMES)
def test_decoding_undoes_encoding(space: Space) -> None:
    x = images(8)
    assert torch.allclose(space.decode(space.encode(x)), x, atol=1e-6)
    assert space.shape((3, 8, 8)) == (3, 8, 8)


@pytest.mark.parametrize("space", EVERY, ids=NAMES)
def test_the_range_is_where_black_and_white_go(space: Space) -> None:
    low, high = space.range
    assert space.decode(torch.tensor([low, high])).tolist() == pytest.approx([-1, 1])
    assert low < high


@pytest.mark.parametrize("space", EVERY, ids=NAMES)
def test_the_volume_is_the_slope_of_encoding(space: Space) -> None:
    """log |d encode / d image|, by automatic differentiation."""
    slope = torch.func.jacrev(space.encode)(torch.tensor(0.3))
    assert space.log_volume == pytest.approx(math.log(slope), abs=1e-6)


def test_ranges_of_the_papers() -> None:
    assert Pixels().range == (-1, 1)
    assert UnitPixels().range == (-0.5, 0.5)  # 1 wide, as NCSN's [0, 1]
    assert Bits().range == (0, 1)
    assert Standardised(0.5, 0.25).range == (-6, 2)


def test_fitted_data_have_mean_0_and_variance_1_with_their_dequantisation() -> None:
    x = images(400)
    space = Standardised().fitted([x])
    inside = space.encode(x, torch.randn_like)
    assert inside.mean().item() == pytest.approx(0, abs=0.02)
    assert inside.var().item() == pytest.approx(1, abs=0.02)
    width = (inside - space.encode(x)).abs().max() * 2 * space.std
    assert width.item() == pytest.approx(2 / 255, rel=0.01)
    assert Bits().fitted([torch.tensor([1.0, 1.0, -1.0, 1.0])]) == Bits(0.5)
    assert Pixels().fitted([x]) == Pixels()


def test_the_slips_of_the_published_code_are_there_by_name() -> None:
    """Noise divided by the scale of the data, and moments of the first 512 images."""
    x = torch.cat([images(512), torch.ones(100, 1, 4, 4)])
    right, faithful = (space.fitted([x]) for space in (Standardised(), Standardised(faithful=True)))
    assert faithful.mean == pytest.approx(x[:512].double().mean().item())
    assert right.mean == pytest.approx(x.double().mean().item())
    one = replace(faithful, mean=right.mean, std=right.std)
    u = (one.encode(x, torch.randn_like) - one.encode(x)) * one.std
    assert u.abs().max().item() * 2 == pytest.approx(one.std**2 / 510, rel=0.02)


def test_moments_are_those_of_the_whole_however_it_is_cut() -> None:
    """Float64, of parts of any length; the authors' first 512 images end within one of them."""
    x = torch.cat([images(512), torch.ones(100, 1, 4, 4)])
    for space in (Measured(), Standardised(), Standardised(faithful=True), Bits()):
        whole: Any = space.fitted([x])
        for cut in (1, 100, 300, 612):
            parts: Any = space.fitted(iter(x.split(cut)))
            assert [parts.encode(x[:1]).sum().item(), parts.deviation] == pytest.approx(
                [whole.encode(x[:1]).sum().item(), whole.deviation], rel=1e-9
            ), (space, cut)
    mean, variance = mean_and_variance(x.transpose(0, 1).flatten(1).split(50, 1))
    assert mean.item() == pytest.approx(x.double().mean().item(), rel=1e-12)
    assert variance.item() == pytest.approx(x.double().var(correction=0).item(), rel=1e-12)
    assert mean_and_variance(torch.full((1, 999), 0.1).split(7, 1))[1] == 0


def test_dequantisation_belongs_to_an_image() -> None:
    x, space = images(4), Standardised()
    together, alone = space.encode(x, ImageNoise(3, range(4))), space.encode(x[2:3], ImageNoise(3, [2]))
    assert torch.equal(together[2:3], alone)
    assert torch.equal(space.encode(x), x)  # none without noise
    assert torch.equal(replace(space, bin=0.0).encode(x, torch.randn_like), x)


def test_no_deviation_is_refused() -> None:
    for std in (0.0, -1.0, math.nan, math.inf):
        for kind in (Standardised, Measured):
            with pytest.raises(ValueError, match="above 0"):
                kind(std=std)


def test_the_deviation_is_that_of_encoded_data() -> None:
    x = images(400)
    for space in (Measured().fitted([x]), replace(Standardised(), bin=0.0).fitted([x])):
        assert space.encode(x).std().item() == pytest.approx(space.deviation, rel=1e-3)
    assert (Pixels().deviation, UnitPixels().deviation) == (0.5, 0.25)  # unmeasured, as of CIFAR-10
