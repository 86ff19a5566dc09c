"""The transformers and EDM2's network: sizes as published, identities at the first step, derivatives, any size."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.networks.backbone import Backbone, Embedded
from sfumato.networks.dit import DiT
from sfumato.networks.jit import JiT
from sfumato.networks.mp_unet import MPUNet
from sfumato.networks.tokens import (
    MLP,
    Block,
    RMSNorm,
    SwiGLU,
    check_sides,
    patchify,
    positions,
    rotate,
    rotations,
    unpatchify,
)
from sfumato.networks.uvit import UViT

SMALL: dict[str, Backbone] = {
    "dit": DiT(4, 32, 2, 4), "uvit": UViT(8, (1, 2), 1, 32, 2, 4), "folded": UViT(8, (1,), 1, 32, 2, 4, patch=2),
    "jit": JiT(4, 8, 32, 3, 4, context=3, start=1), "mp-unet": MPUNet(16, (1, 2, 2), 1, (2,), 8),
}  # fmt: skip
GIVEN = Embedded(labels=4, picture=1)
DIT = {"S": (384, 12, 6), "B": (768, 12, 12), "L": (1024, 24, 16), "XL": (1152, 28, 16)}
COUNTS = {
    "S": (32_865_056, 32_920_448, 33_142_016), "B": (130_315_808, 130_426_496, 130_869_248),
    "L": (457_840_672, 457_988_224, 458_578_432), "XL": (674_834_720, 675_000_704, 675_664_640),
}  # fmt: skip
"""Patches of 2, 4 and 8; the fixed positions, which the official files hold too, are not counted."""


def awake(name: str, given: Embedded = GIVEN) -> nn.Module:
    """A small network with random numbers where it starts with zeros."""
    torch.manual_seed(0)
    network = SMALL[name].build((1, 8, 8), 1, given).eval()
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return network


def inputs(height: int = 8, width: int = 8, dtype: torch.dtype = torch.float32) -> tuple[Tensor, ...]:
    chance = torch.Generator().manual_seed(1)
    x = torch.randn(2, 1, height, width, generator=chance, dtype=torch.float64).to(dtype)
    return x, torch.tensor([0.3, 700.0]), torch.tensor([0, 3]), torch.randn(2, 1, 4, 4, generator=chance)


@pytest.mark.parametrize("size", DIT)
def test_dit_has_the_published_sizes(size: str) -> None:
    for patch, count in zip((2, 4, 8), COUNTS[size], strict=True):
        with torch.device("meta"):
            network = DiT(patch, *DIT[size]).build((4, 32, 32), 8, Embedded(labels=1001))
        assert sum(p.numel() for p in network.parameters()) == count
    assert round((COUNTS[size][0] + 256 * DIT[size][0]) / 1e6) == {"S": 33, "B": 131, "L": 458, "XL": 675}[size]


@pytest.mark.parametrize(("channels", "millions"), [(128, 124.7), (192, 280.2), (256, 497.8)])
def test_edm2_has_the_published_sizes(channels: int, millions: float) -> None:
    with torch.device("meta"):
        network = MPUNet(channels).build((4, 64, 64), 4, Embedded(labels=1000))
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == millions


@pytest.mark.parametrize("name", SMALL)
def test_the_first_output_is_zero(name: str) -> None:
    network = SMALL[name].build((1, 8, 8), 1, GIVEN)
    assert not network(*inputs()).any()
    assert awake(name)(*inputs()).std() > 1e-3


@pytest.mark.parametrize("mixer", [MLP, SwiGLU])
def test_a_block_of_adaln_zero_begins_as_the_identity(mixer: Any) -> None:
    torch.manual_seed(0)
    block = Block(16, 4, mixer(16, 24), head_norm=RMSNorm)
    x, emb = torch.randn(2, 6, 16), torch.randn(2, 16)
    assert torch.equal(block(x, emb, rotations(2, 3, 4)), x)
    nn.init.normal_(block.modulation.weight)
    assert not torch.allclose(block(x, emb, rotations(2, 3, 4)), x, atol=0.1)


def test_patches_and_positions() -> None:
    x = torch.arange(2 * 3 * 4 * 6.0).reshape(2, 3, 4, 6)
    patches = patchify(x, 2)
    assert torch.equal(patches[:, 0], x[:, :, :2, :2].flatten(1))
    assert torch.equal(patches[:, 1], x[:, :, :2, 2:4].flatten(1)), "row by row"
    fastest = patches.unflatten(2, (3, 4)).transpose(2, 3).flatten(2)
    assert torch.equal(unpatchify(fastest, 2, 4, 6), x)
    grid = positions(2, 3, 8).reshape(2, 3, 8)
    angles = torch.tensor([2.0, 2.0 / 100])  # column 2 at rates 1 and 10,000 ** -1/2
    torch.testing.assert_close(grid[1, 2, :4], torch.cat([angles.sin(), angles.cos()]))
    assert torch.equal(grid[0, 2, :4], grid[1, 2, :4])
    assert torch.equal(grid[1, 0, 4:], grid[1, 2, 4:])


def test_rotary_products_depend_on_differences_alone() -> None:
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64).unbind()
    turn = rotations(5, 7, 8)
    turned = [rotate(v.expand(1, 1, 35, 8), turn).reshape(5, 7, 8) for v in (q, k)]
    products = [(turned[0][a, b] * turned[1][a + 2, b + 3]).sum() for a, b in ((0, 0), (2, 1), (1, 3))]
    torch.testing.assert_close(products, [products[0]] * 3, atol=1e-6, rtol=1e-6)
    assert (turned[0][0, 0] * turned[1][0, 3]).sum() != pytest.approx(float(products[0]), abs=1e-6)


@pytest.mark.parametrize("name", SMALL)
def test_rectangles_and_precisions(name: str) -> None:
    network = awake(name)
    x, t, y, low_res = inputs(8, 16)
    out = network(x, t, y, low_res)
    assert out.shape == x.shape
    high = network(x.double(), t, y, low_res)
    assert high.dtype == torch.float64
    torch.testing.assert_close(high.float(), out)
    with torch.autocast("cpu", torch.bfloat16):
        low = network(x, t, y, low_res)
    assert low.dtype == torch.float32
    assert (low - out).norm() < 0.05 * out.norm()
    each = torch.cat([network(*(v[i : i + 1] for v in (x, t, y, low_res))) for i in range(2)])
    torch.testing.assert_close(each, out)


@pytest.mark.parametrize("name", SMALL)
def test_weights_alone_restore_a_network(name: str) -> None:
    """Made without contents and given its state dict, as checkpoints are read, it computes the same."""
    network = awake(name)
    with torch.device("meta"):
        empty = SMALL[name].build((1, 8, 8), 1, GIVEN).eval()
    empty.load_state_dict(network.state_dict(), assign=True)
    assert torch.equal(empty.to("cpu")(*inputs()), network(*inputs()))


@pytest.mark.parametrize("name", SMALL)
def test_labels_level_and_picture_matter(name: str) -> None:
    network, (x, t, y, low_res) = awake(name), inputs()
    out = network(x, t, y, low_res)
    for other in ((x, t + 1.3, y, low_res), (x, t, 3 - y, low_res), (x, t, y, -low_res)):
        assert (network(*other) - out).abs().max() > 1e-4


@pytest.mark.parametrize("name", SMALL)
def test_forward_derivatives(name: str) -> None:
    network, (x, t, y, low_res) = awake(name).double(), inputs(dtype=torch.float64)
    _, slope = torch.func.jvp(lambda x: network(x, t.double(), y, low_res), (x,), (x,))
    step = 1e-5
    ends = [network(x + sign * step * x, t.double(), y, low_res) for sign in (1, -1)]
    torch.testing.assert_close(slope, (ends[0] - ends[1]) / (2 * step), atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_sizes_that_do_not_fit_name_the_next(name: str) -> None:
    with pytest.raises(ValueError, match=r"30x28 images do not fit .*: sides are multiples of 4; the next sizes are "
                                         "28x28 and 32x28"):  # fmt: skip
        SMALL[name].build((1, 30, 28), 1)
    with pytest.raises(ValueError, match="the next size"):
        awake(name)(torch.randn(2, 1, 7, 8), *inputs()[1:])


def test_the_next_size_is_never_zero() -> None:
    with pytest.raises(ValueError, match="the next size is 16x16"):
        check_sides(9, 9, 16, "patches of 16")


@pytest.mark.parametrize(("network", "message"), [
    (DiT(width=102, heads=1), "multiple of 4"), (DiT(width=100, heads=3), "cannot be split into 3 heads"),
    (JiT(patch=4, width=100, heads=10), "channels are a multiple of 4"),
    (MPUNet(16, (1, 2), attention=(8,)), "no level is smaller"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(network: Backbone, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network.build((1, 8, 8), 1)
