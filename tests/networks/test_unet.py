"""The U-Nets: the published sizes, every option, the errors, and what a network must not do to a batch.

Ho et al. 2020, appendix B; Nichol & Dhariwal 2021; Dhariwal & Nichol 2021. Parity with official code: tests/convert.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.networks.backbone import Backbone, Embedded
from sfumato.networks.blocks import sin_cos
from sfumato.networks.fir import pooled, residual
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet, UNet
from tests.networks.naming import named

SMALL: dict[str, Any] = {"channels": 16, "multipliers": (1, 2), "blocks_per_level": 1, "groups": 8}


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A second thread has nothing to do at these sizes, and waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def awake(net: nn.Module) -> nn.Module:
    """The network, in eval mode, with random numbers where it starts with zeros."""
    torch.manual_seed(0)
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return net.eval()


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("network", "outputs", "labels", "published"),
    [
        (HoUNet(), 3, 0, 35_746_307),
        (HoUNet(multipliers=(1, 1, 2, 2, 4, 4), attention=(16,)), 3, 0, 113_673_219),
        (ImprovedUNet(), 6, 0, 52_546_438),
        (ImprovedUNet(multipliers=(1, 2, 3, 4), attention=(4, 8)), 6, 0, 121_063_942),
        (ADMUNet(), 6, 1000, 553_838_086),
        (ADMUNet(), 6, 0, 552_814_086),
        (ADMUNet(multipliers=(0.5, 1, 1, 2, 2, 4, 4), attention=(16, 32, 64)), 6, 1000, 558_997_638),
    ],
)
def test_published_sizes(network: Backbone, outputs: int, labels: int, published: int) -> None:
    with torch.device("meta"):
        assert parameters(network.build((3, 256, 256), outputs, Embedded(labels=labels))) == published


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"attention_factors": (1, 2), "heads": 2, "heads_up": 4},
        {"attention_factors": (), "head_channels": 8},
        {"resample": pooled},
        {"resample": residual, "scale_shift": True},
        {"asymmetric": True, "embedding": sin_cos, "norm_eps": 1e-6},
        {"stem": 24, "in_channels": 1, "out_channels": 2},
        {"multipliers": (0.5, 1, 1), "attention_factors": (4,), "blocks_per_level": 2},
        {"dropout": 0.5},
        {"num_classes": 5},
        {"low_res_channels": 3},
    ],
    ids=named,
)
def test_every_option_runs_and_every_parameter_learns(options: dict[str, Any]) -> None:
    net = awake(UNet(**{**SMALL, **options})).train()
    x = torch.randn(2, net.in_channels, 8, 12, requires_grad=True)
    further = {"y": torch.tensor([0, 4])} if "num_classes" in options else {}
    if "low_res_channels" in options:
        further["low_res"] = torch.randn(2, 3, 2, 3)
    out = net(x, torch.tensor([0.0, 999.5]), **further)
    assert out.shape == (2, options.get("out_channels", 3), 8, 12)
    out.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        # a bias before a softmax over keys, or a constant before a group norm of one channel, changes nothing
        assert p.grad.abs().max() > 0 or "qkv.bias" in name, name


def test_starts_at_zero() -> None:
    out = UNet(**SMALL)(torch.randn(2, 3, 8, 8), torch.tensor([1, 2]))
    assert not out.any()


def test_ho_starts_as_ho() -> None:
    net = HoUNet(channels=32, multipliers=(1, 2)).build((3, 8, 8), 3)
    weight = net.down[1].block[0].conv1.weight
    assert weight.var().item() == pytest.approx(2 / (9 * 32 + 9 * 64), rel=0.05)  # scale 1, average of the fans
    assert not net.conv_out.weight.any()
    assert not net.time_mlp[0].bias.any()


SHARED: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "attention": (2,)}


@pytest.mark.parametrize(
    "network", [HoUNet(**SHARED), ImprovedUNet(**SHARED), ADMUNet(**SHARED, head_channels=32)], ids=named
)
def test_images_do_not_see_each_other(network: Backbone) -> None:
    net = awake(network.build((3, 8, 8), 3, Embedded(labels=3)))
    x, t, y = torch.randn(4, 3, 8, 8), torch.tensor([0, 10, 500, 999]), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        batch = net(x, t, y)
        single = torch.cat([net(*part) for part in zip(x.split(1), t.split(1), y.split(1), strict=True)])
    torch.testing.assert_close(batch, single, atol=5e-6 * batch.abs().max().item(), rtol=0)
    assert (batch[0] - net(x[:1], t[1:2], y[:1])[0]).abs().max() > 1e-3, "time matters"
    assert (batch[0] - net(x[:1], t[:1], y[1:2])[0]).abs().max() > 1e-3, "the label matters"


def test_dropout_is_for_training() -> None:
    net = awake(UNet(**SMALL, dropout=0.5))
    x, t = torch.randn(1, 3, 8, 8), torch.tensor([1])
    with torch.no_grad():
        assert torch.equal(net(x, t), net(x, t))
        net.train()
        assert not torch.equal(net(x, t), net(x, t))


def test_precision_and_memory_format() -> None:
    """float32 in, float32 out, near the float32 result: under autocast, with bfloat16 weights, channels last."""
    net = awake(HoUNet(**SHARED, dropout=0).build((3, 8, 8), 3))
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([10, 900])
    with torch.no_grad():
        expected = net(x, t)
        with torch.autocast("cpu", torch.bfloat16):
            _assert_near(net(x, t), expected, 0.03)
        last = net.to(memory_format=torch.channels_last)
        _assert_near(last(x.contiguous(memory_format=torch.channels_last), t), expected, 1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            _assert_near(last(x.contiguous(memory_format=torch.channels_last), t), expected, 0.03)
        _assert_near(net.to(torch.bfloat16)(x, t), expected, 0.03)
        _assert_near(net.double()(x.double(), t), expected.double(), 0.03)


def _assert_near(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    assert ours.dtype == expected.dtype
    assert ((ours - expected).norm() / expected.norm()).item() < tolerance


def test_low_res_is_enlarged_bilinearly() -> None:
    net = awake(UNet(**SMALL, low_res_channels=3))
    x, t, small = torch.randn(1, 3, 8, 8), torch.tensor([1]), torch.randn(1, 3, 4, 4)
    large = torch.nn.functional.interpolate(small, size=(8, 8), mode="bilinear")
    with torch.no_grad():
        torch.testing.assert_close(net(x, t, low_res=small), net(x, t, low_res=large))


X, T, Y = torch.zeros(2, 3, 8, 8), torch.tensor([1, 2]), torch.tensor([0, 1])


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({}, (torch.zeros(2, 1, 8, 8), T), r"x is \(B, 3, H, W\) for this network, not \(2, 1, 8, 8\)"),
        ({}, (torch.zeros(2, 3, 9, 8), T), "8x9 images do not fit this network: the sides must be multiples of 2"),
        ({}, (X, torch.tensor(1)), r"t is one number an image, \(2,\), not \(\)"),
        ({}, (X, T, Y), "labels y were given to a network without classes"),
        ({"num_classes": 3}, (X, T), r"needs labels y, \(2,\) integers from 0 to 2"),
        ({"num_classes": 3}, (X, T, Y[:1]), r"y is one integer label an image, \(2,\), not \(1,\) of torch.int64"),
        ({"num_classes": 3}, (X, T, Y / 2), r"y is one integer label an image, \(2,\), not \(2,\) of torch.float32"),
        ({"num_classes": 3}, (X, T, Y + 2), "labels run from 0 to 2, but y holds 3"),
        ({"num_classes": 3}, (X, T, Y - 1), "labels run from 0 to 2, but y holds -1"),
        ({}, (X, T, None, X), "this network takes no low_res"),
        ({"low_res_channels": 3}, (X, T), "this network needs low_res"),
        ({"low_res_channels": 3}, (X, T, None, X[:, :1]), r"low_res is \(2, 3, h, w\), not \(2, 1, 8, 8\)"),
    ],
)
def test_inputs_that_do_not_fit(options: dict[str, Any], inputs: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**SMALL, **options)(*inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_factors": (2, 16)}, r"no level is smaller by the attention factors \[16\]"),
        ({"heads": 3}, "attention at 32 channels cannot be split into 3 heads"),
        ({"head_channels": 64}, "attention at 32 channels cannot be split into heads of 64 channels"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        UNet(**{**SMALL, **options})


def test_28_pixels_fit_three_levels() -> None:
    net = UNet(channels=16, multipliers=(1, 2, 2), blocks_per_level=1, groups=8, in_channels=1, out_channels=1)
    assert net(torch.zeros(1, 1, 28, 28), torch.tensor([5])).shape == (1, 1, 28, 28)
