"""ADM's classifier (Dhariwal & Nichol 2021, section 4): the published sizes, every way to pool, and the errors.

Parity with official code, gradients included: tests/convert.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from sfumato.networks.backbone import Embedded
from sfumato.networks.classifier import POOLS, Encoder, EncoderUNet
from sfumato.networks.fir import convolved, pooled, residual

SMALL: dict[str, Any] = {
    "channels": 32,
    "multipliers": (1, 2),
    "blocks_per_level": 1,
    "attention_factors": (2,),
    "head_channels": 16,
    "num_classes": 10,
    "image_size": 8,
}


@pytest.mark.parametrize(
    ("network", "size", "published"),
    [
        (Encoder(), 256, 54_096_360),
        (Encoder(multipliers=(1, 1, 2, 3, 4), attention=(4, 8, 16)), 128, 42_568_040),
        (Encoder(multipliers=(1, 2, 3, 4), attention=(2, 4, 8), blocks=4), 64, 65_438_568),
    ],
)
def test_published_sizes(network: Encoder, size: int, published: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in network.build((3, size, size), 1000).parameters()) == published


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("resample", [convolved, pooled, residual])
def test_every_pool_gives_logits_and_input_gradients(pool: Any, resample: Any) -> None:
    torch.manual_seed(0)
    net = EncoderUNet(**SMALL, pool=POOLS[pool], resample=resample)
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    x, t = torch.randn(3, 3, 8, 8, requires_grad=True), torch.tensor([0.0, 5.5, 999.0])
    logits = net(x, t)
    assert logits.shape == (3, 10)
    (gradient,) = torch.autograd.grad(logits.log_softmax(dim=1)[:, 2].sum(), x)
    assert (gradient.flatten(1).norm(dim=1) > 0).all()
    with torch.no_grad():
        single = torch.cat([net(x[i : i + 1], t[i : i + 1]) for i in range(3)])
    torch.testing.assert_close(logits, single, atol=2e-6, rtol=1e-5)


def test_errors() -> None:
    net, t = EncoderUNet(**SMALL), torch.tensor([1])
    with pytest.raises(ValueError, match=r"x is \(B, 3, H, W\) for this network, not \(1, 1, 8, 8\)"):
        net(torch.zeros(1, 1, 8, 8), t)
    with pytest.raises(ValueError, match="9x9 images do not fit this network: the sides must be multiples of 2"):
        net(torch.zeros(1, 3, 9, 9), t)
    with pytest.raises(ValueError, match=r"t is one number an image, \(2,\), not \(1,\)"):
        net(torch.zeros(2, 3, 8, 8), t)
    with pytest.raises(ValueError, match="attention pooling was made for 4x4, not 8x8"):
        net(torch.zeros(1, 3, 16, 16), t)
    with pytest.raises(ValueError, match="pool is one of attention, adaptive, spatial, spatial_v2, not 'max'"):
        Encoder(pool="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a classifier is conditioned on the noise level alone"):
        Encoder().build((3, 8, 8), 10, Embedded(labels=10))
