"""NCSN++, DDPM++ and their DDPM: the published sizes, every option, the errors, and what they must not do to a batch.

Song et al. 2021, appendix H. Parity with official code, gradients included: tests/convert.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.backbone import Backbone, Embedded
from sfumato.networks.beside import InputConcat, InputSkip, OutputResidual, OutputSkip
from sfumato.networks.fir import convolved, pooled, residual
from sfumato.networks.ncsnpp import DDPMpp, FourierFeatures, NCSNpp, ScoreUNet, SongUNet
from tests.networks.naming import named

SMALL: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "blocks_per_level": 1, "dropout": 0.0}
T = torch.tensor([0.5, 40.0])


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


def same_weights(a: nn.Module, **options: Any) -> ScoreUNet:
    net = ScoreUNet(**{**SMALL, **options})
    net.load_state_dict(a.state_dict(), strict=False)
    return net.eval()


LARGE = NCSNpp(multipliers=(1, 1, 2, 2, 2, 2, 2), blocks=2, attention=(16,), progressive="skip")
LARGEST = NCSNpp(16, (1, 2, 4, 8, 16, 32, 32, 32), blocks=1, attention=(64,), progressive="skip")


@pytest.mark.parametrize(
    ("network", "published"),
    [
        (NCSNpp(), 62_758_915),
        (NCSNpp(blocks=8), 107_587_075),
        (NCSNpp(fourier=False), 62_693_251),
        (LARGE, 65_574_549),
        (LARGEST, 105_785_896),
        (DDPMpp(), 61_804_419),
        (DDPMpp(blocks=8), 106_632_579),
        (SongUNet(), 35_218_947),
        (SongUNet(multipliers=(1, 1, 2, 2, 4, 4), attention=(16,)), 111_569_923),
    ],
)
def test_published_sizes(network: Backbone, published: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in network.build((3, 256, 256), 3).parameters()) == published


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resample": convolved, "channels_per_group": 1},
        {"resample": pooled, "fir": None},
        {"resample": residual, "fir": None, "progressive_input": None, "fourier_scale": None},
        {"resample": convolved, "fir": None, "progressive_output": OutputResidual},
        {"progressive_input": InputSkip, "progressive_output": OutputSkip},
        {"progressive_input": InputConcat, "fir": None},
        {"progressive_input": None, "progressive_output": OutputResidual, "multipliers": (1, 2, 1)},
        {"progressive_input": None, "progressive_output": OutputSkip, "fir": (1, 1)},
        {"attention_factors": (), "act": F.elu, "skip_rescale": False},
        {"attention_factors": (1, 2), "act": F.leaky_relu, "channels_per_group": 2},
        {"multipliers": (1,), "attention_factors": (1,), "act": F.relu},
        {"unit_range": True, "scale_by_sigma": True, "in_channels": 1},
        {"conditional": False, "scale_by_sigma": True},
        {"scale_by_sigma": True, "fourier_scale": None, "sigmas": [50 * 0.9**i for i in range(50)]},
        {"dropout": 0.5},
    ],
    ids=named,
)
def test_every_option_runs_and_every_parameter_learns(options: dict[str, Any]) -> None:
    net = awake(ScoreUNet(**{**SMALL, **options})).train()
    x = torch.randn(2, net.in_channels, 8, 12, requires_grad=True)
    out = net(x, T)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    for name, p in net.named_parameters():
        if name == "fourier.rates":
            assert p.grad is None
            continue
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        # a bias before a softmax over keys, or a constant before a group norm of one channel, changes nothing
        assert p.grad.abs().max() > 0 or "qkv.bias" in name, name


def test_starts_at_zero_with_average_fans() -> None:
    for progressive in (None, OutputSkip, OutputResidual):
        net = ScoreUNet(**{**SMALL, "channels": 32}, progressive_output=progressive)
        assert not net(torch.randn(2, 3, 8, 8), T).any()
    weight = net.down[1].block[0].conv1.weight
    assert weight.var().item() == pytest.approx(2 / (9 * 32 + 9 * 64), rel=0.05)
    assert not net.time_mlp[0].bias.any()


def test_fourier_features_are_of_random_rates() -> None:
    features = FourierFeatures(4, scale=16.0)
    sin, cos = features(torch.tensor([0.0, 0.3, 0.7, 1.0])).chunk(2, dim=1)
    assert torch.equal(torch.cat([sin[0], cos[0]]), torch.tensor([0.0] * 4 + [1.0] * 4))
    torch.testing.assert_close(sin[1] * cos[2] + cos[1] * sin[2], sin[3], atol=1e-4, rtol=0)  # of the sum
    assert FourierFeatures(100_000, scale=16.0).rates.std().item() == pytest.approx(16, rel=0.02)


def test_fourier_features_see_the_logarithm_of_the_noise_level() -> None:
    net, seen = awake(ScoreUNet(**SMALL)), []
    net.fourier.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    net(torch.zeros(2, 3, 8, 8), T)
    assert torch.equal(seen[0], T.log())


WIDE: dict[str, Any] = {"channels": 64, "multipliers": (1, 2), "blocks": 1, "dropout": 0.0}
"""Wider than SMALL: a group norm of one channel would forget t."""


@pytest.mark.parametrize("network", [NCSNpp(**WIDE), DDPMpp(**WIDE), SongUNet(**WIDE)], ids=named)
def test_images_do_not_see_each_other(network: Backbone) -> None:
    net = awake(network.build((3, 8, 8), 3))
    x, t = torch.randn(4, 3, 8, 8), torch.tensor([0.01, 1.0, 7.0, 50.0])
    with torch.no_grad():
        batch = net(x, t)
        single = torch.cat([net(*part) for part in zip(x.split(1), t.split(1), strict=True)])
    torch.testing.assert_close(batch, single, atol=5e-6 * batch.abs().max().item(), rtol=0)
    assert (batch[0] - net(x[:1], t[1:2])[0]).abs().max() > 1e-3, "time matters"


def test_inputs_and_outputs_can_be_scaled() -> None:
    """By the noise level itself, by the table that it is in, and from [0, 1]."""
    raw = awake(ScoreUNet(**SMALL))
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(same_weights(raw, unit_range=True)(x, T), raw(2 * x - 1, T))
        torch.testing.assert_close(same_weights(raw, scale_by_sigma=True)(x, T), raw(x, T) / T[:, None, None, None])
        raw = awake(ScoreUNet(**SMALL, fourier_scale=None))
        scaled = same_weights(raw, fourier_scale=None, scale_by_sigma=True, sigmas=(9.0, 3.0, 1.0))
        t = torch.tensor([1, 0])
        expected = raw(x, t) / torch.tensor([3.0, 9.0])[:, None, None, None]
        torch.testing.assert_close(scaled(x, t), expected)
        torch.testing.assert_close(scaled(x, t.float()), expected)


def test_without_condition_t_is_not_seen() -> None:
    net = awake(ScoreUNet(**SMALL, conditional=False))
    x = torch.randn(2, 3, 8, 8)
    assert torch.equal(net(x, T), net(x, 2 * T))
    assert net.fourier is None
    assert not [name for name, _ in net.named_parameters() if "emb" in name or "time" in name]


def test_rescaled_skips_keep_the_variance() -> None:
    """x and a branch of equal variance: the sum over sqrt(2) has it too."""
    block = ScoreUNet(**SMALL).middle.block[0]
    x = torch.randn(8, 16, 8, 8)
    torch.testing.assert_close(block(x, torch.zeros(8, 32)), x / 2**0.5)


def test_precision_and_memory_format() -> None:
    """float32 in, float32 out, near the float32 result: under autocast, with bfloat16 weights, channels last."""
    net = awake(ScoreUNet(**{**SMALL, "channels": 32}, scale_by_sigma=True))
    x = torch.randn(2, 3, 8, 8)
    with torch.no_grad():
        expected = net(x, T)
        with torch.autocast("cpu", torch.bfloat16):
            _assert_near(net(x, T), expected, 0.03)
        last = net.to(memory_format=torch.channels_last)
        _assert_near(last(x.contiguous(memory_format=torch.channels_last), T), expected, 1e-5)
        _assert_near(net.double()(x.double(), T), expected.double(), 1e-3)  # the features' rates are large
        rates = net.fourier.rates.clone()
        net.to(torch.bfloat16).fourier.rates.data = rates
        _assert_near(net(x, T), expected, 0.03)


def _assert_near(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    assert ours.dtype == expected.dtype
    assert ((ours - expected).norm() / expected.norm()).item() < tolerance


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ((torch.zeros(2, 1, 8, 8), T), r"x is \(B, 3, H, W\) for this network, not \(2, 1, 8, 8\)"),
        ((torch.zeros(2, 3, 9, 8), T), "8x9 images do not fit this network: the sides must be multiples of 2"),
        ((torch.zeros(2, 3, 8, 8), torch.tensor(1)), r"t is one number an image, \(2,\), not \(\)"),
    ],
)
def test_inputs_that_do_not_fit(inputs: tuple[Tensor, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreUNet(**SMALL)(*inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attention_factors": (2, 16)}, r"no level is smaller by the attention factors \[16\]"),
        ({"fir": (1,)}, "a filter that resamples by 2 has at least 2 taps, not 1"),
        ({"fourier_scale": None, "scale_by_sigma": True}, "scale_by_sigma needs the sigmas"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreUNet(**{**SMALL, **options})


@pytest.mark.parametrize("network", [NCSNpp(**WIDE), NCSNpp(**WIDE, progressive="skip"), DDPMpp(**WIDE)], ids=named)
def test_labels_a_further_picture_and_twice_the_outputs(network: Backbone) -> None:
    """What the paper's networks were never given: the wiring is that of every U-Net here."""
    net = awake(network.build((3, 8, 8), 6, Embedded(labels=4, picture=2)))
    x, y, small = torch.randn(2, 3, 8, 8), torch.tensor([0, 3]), torch.randn(2, 2, 4, 4)
    out = net(x, T, y, small)
    assert out.shape == (2, 6, 8, 8)
    assert (out - net(x, T, y.flip(0), small)).abs().max() > 1e-3
    assert (out - net(x, T, y, -small)).abs().max() > 1e-3
