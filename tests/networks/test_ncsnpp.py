"""NCSN++, DDPM++ and their DDPM: the published sizes, every option, the errors, and what they must not do to a batch.

Song et al. 2021, appendix H. Parity with official code, gradients included: tests/convert.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.networks import ncsnpp
from sfumato.networks.ncsnpp import FourierFeatures, ScoreUNet

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


LARGE = {"multipliers": (1, 1, 2, 2, 2, 2, 2), "blocks_per_level": 2, "attention_factors": (16,)}
LARGEST = {
    "channels": 16,
    "multipliers": (1, 2, 4, 8, 16, 32, 32, 32),
    "blocks_per_level": 1,
    "attention_factors": (64,),
}
BOTH = {"progressive_input": "skip", "progressive_output": "skip"}


@pytest.mark.parametrize(
    ("build", "options", "published"),
    [
        (ncsnpp.ncsnpp, {}, 62_758_915),
        (ncsnpp.ncsnpp, {"blocks_per_level": 8}, 107_587_075),
        (ncsnpp.ncsnpp, {"embedding": "sin_cos"}, 62_693_251),
        (ncsnpp.ncsnpp, {**LARGE, **BOTH}, 65_574_549),
        (ncsnpp.ncsnpp, {**LARGEST, **BOTH}, 105_785_896),
        (ncsnpp.ddpmpp, {}, 61_804_419),
        (ncsnpp.ddpmpp, {"blocks_per_level": 8}, 106_632_579),
        (ncsnpp.ddpm, {}, 35_218_947),
        (ncsnpp.ddpm, {"multipliers": (1, 1, 2, 2, 4, 4), "attention_factors": (16,)}, 111_569_923),
    ],
)
def test_published_sizes(build: Callable[..., ScoreUNet], options: dict[str, Any], published: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in build(**options).parameters()) == published


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"resample": "conv", "channels_per_group": 1},
        {"resample": "pool", "fir": None},
        {"resample": "residual", "fir": None, "progressive_input": "none", "embedding": "sin_cos"},
        {"resample": "conv", "fir": None, "progressive_output": "residual"},
        {"progressive_input": "skip", "progressive_output": "skip"},
        {"progressive_input": "skip", "progressive_combine": "cat", "fir": None},
        {"progressive_input": "none", "progressive_output": "residual", "multipliers": (1, 2, 1)},
        {"progressive_input": "none", "progressive_output": "skip", "fir": (1, 1)},
        {"attention_factors": (), "activation": "elu", "skip_rescale": False},
        {"attention_factors": (1, 2), "activation": "leaky_relu", "groups": 2},
        {"multipliers": (1,), "attention_factors": (1,), "activation": "relu"},
        {"unit_range": True, "scale_by_sigma": True, "in_channels": 1},
        {"conditional": False, "scale_by_sigma": True},
        {"scale_by_sigma": True, "embedding": "sin_cos", "sigmas": [50 * 0.9**i for i in range(50)]},
        {"dropout": 0.5},
    ],
    ids=str,
)
def test_every_option_runs_and_every_parameter_learns(options: dict[str, Any]) -> None:
    options = json.loads(json.dumps({**SMALL, **options}))  # plain values suffice
    net = awake(ScoreUNet(**options)).train()
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
    for progressive in ("none", "skip", "residual"):
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


@pytest.mark.parametrize("build", [ncsnpp.ncsnpp, ncsnpp.ddpmpp, ncsnpp.ddpm])
def test_images_do_not_see_each_other(build: Callable[..., ScoreUNet]) -> None:
    net = awake(build(**{**SMALL, "channels": 64}))  # a group norm of one channel would forget t
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
        raw = awake(ScoreUNet(**SMALL, embedding="sin_cos"))
        scaled = same_weights(raw, embedding="sin_cos", scale_by_sigma=True, sigmas=(9.0, 3.0, 1.0))
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
        ((torch.zeros(2, 3, 9, 8), T), r"9x8 images do not fit a network with 2 levels: .* multiples of 2"),
        ((torch.zeros(2, 3, 8, 8), torch.tensor(1)), r"t is one number an image, \(2,\), not \(\)"),
    ],
)
def test_inputs_that_do_not_fit(inputs: tuple[Tensor, Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreUNet(**SMALL)(*inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resample": "blur"}, "resample is one of residual, conv, pool, not 'blur'"),
        ({"progressive_input": "sum"}, "progressive_input is one of none, skip, residual, not 'sum'"),
        ({"progressive_output": "cat"}, "progressive_output is one of none, skip, residual, not 'cat'"),
        ({"progressive_combine": "mean"}, "progressive_combine is one of sum, cat, not 'mean'"),
        ({"embedding": "cos_sin"}, "embedding is one of fourier, sin_cos, not 'cos_sin'"),
        ({"activation": "tanh"}, "activation is one of silu, elu, relu, leaky_relu, not 'tanh'"),
        ({"attention_factors": (2, 16)}, r"no level is smaller by the attention factors \[16\]"),
        ({"fir": (1,)}, "a filter that resamples by 2 has at least 2 taps, not 1"),
        ({"embedding": "sin_cos", "scale_by_sigma": True}, "scale_by_sigma needs the sigmas"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ScoreUNet(**{**SMALL, **options})
