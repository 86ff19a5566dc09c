"""lucidrains' U-Net: its number of parameters, norms and attention in closed form, rows as images of height 1."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sfumato.networks import Embedded
from sfumato.networks.lucidrains_blocks import ChannelNorm, FullAttention, LinearAttention, Parts, RMSNorm
from sfumato.networks.lucidrains_unet import LucidrainsUNet

SMALL: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "attention": (2,), "head_channels": 8}
PARTS = Parts(dimensions=2, emb_channels=8, heads=2, head_channels=4, memory=3)


def test_the_default_has_the_packages_number_of_parameters() -> None:
    with torch.device("meta"):
        network = LucidrainsUNet().build((3, 64, 64), 3)
    assert sum(p.numel() for p in network.parameters()) == 35_711_491  # sum over Unet(64).parameters(), version 2.3.4


def test_norms_in_closed_form() -> None:
    x = torch.randn(2, 6, 3, 3)
    assert torch.allclose(RMSNorm(6, 2)(x).square().mean(1), torch.ones(2, 3, 3), atol=1e-5)
    centred = ChannelNorm(6, 2)(x)
    assert torch.allclose(centred.mean(1), torch.zeros(2, 3, 3), atol=1e-6)
    assert torch.allclose(centred.square().mean(1), torch.ones(2, 3, 3), atol=1e-3)


@pytest.mark.parametrize("kind", [LinearAttention, FullAttention])
def test_attention_forgets_the_order_of_pixels(kind: type[LinearAttention]) -> None:
    attention, x, order = kind(PARTS, 6), torch.randn(2, 6, 2, 4), torch.randperm(8)
    shuffled = x.flatten(2)[:, :, order].view_as(x)
    expected = attention(x).flatten(2)[:, :, order].view_as(x)
    assert torch.allclose(attention(shuffled), expected, atol=1e-5)


def test_memory_is_a_key_like_a_pixels() -> None:
    attention = FullAttention(PARTS, 6)
    assert attention.memory is not None
    q, k, v = (torch.randn(2, 2, 4, 8) for _ in range(3))
    keys, values = (part.transpose(1, 2).expand(2, -1, -1, -1) for part in attention.memory)
    scores = (q.transpose(2, 3) @ torch.cat([keys, k], 3)) / 2
    expected = scores.softmax(3) @ torch.cat([values, v], 3).transpose(2, 3)
    assert torch.allclose(attention.mixed(q, k, v), expected.transpose(2, 3), atol=1e-5)


def test_every_input_counts_and_others_are_refused() -> None:
    network = LucidrainsUNet(**SMALL, times="learned").build((3, 8, 8), 6, Embedded(labels=4, picture=3))
    x, t, y, low = torch.randn(2, 3, 8, 8), torch.tensor([0.3, -2.0]), torch.tensor([0, 3]), torch.randn(2, 3, 4, 4)
    out = network(x, t, y, low)
    assert out.shape == (2, 6, 8, 8)
    for given in ((x + 1, t, y, low), (x, t + 1, y, low), (x, t, 3 - y, low), (x, t, y, -low)):
        assert not torch.allclose(network(*given), out)
    assert network(x.double(), t, y, low).dtype == torch.float64
    with pytest.raises(ValueError, match="needs labels"):
        network(x, t, low_res=low)
    with pytest.raises(ValueError, match="multiple of 2"):
        network(x[..., :7], t, y, low)


def test_rows_are_images_of_height_1() -> None:
    rows = LucidrainsUNet(8, (1, 2), (), memory=0, shrink="strided", dimensions=1)
    network = rows.build((2, 1, 16), 2)
    assert network(torch.randn(3, 2, 1, 16), torch.tensor([1, 2, 3])).shape == (3, 2, 1, 16)
    with pytest.raises(ValueError, match="height 1"):
        rows.build((2, 4, 16), 2)
    with pytest.raises(ValueError, match="strided, plain"):
        LucidrainsUNet(dimensions=1)


def test_odd_widths_are_refused_at_construction() -> None:
    with pytest.raises(ValueError, match="even"):
        LucidrainsUNet(channels=9)


def test_bfloat16_is_the_same_to_its_rounding() -> None:
    network, x, t = LucidrainsUNet(**SMALL).build((3, 8, 8), 3).eval(), torch.randn(2, 3, 8, 8), torch.tensor([3, 900])
    with torch.no_grad():
        expected = network(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            found = network(x, t)
    assert found.dtype == x.dtype
    assert 0 < (found - expected).square().mean().sqrt() < 0.02 * expected.square().mean().sqrt()
