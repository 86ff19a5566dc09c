"""The RefineNets of NCSN and NCSNv2: the published sizes, the normalisation's formula, every option, and the errors.

Song & Ermon 2019, appendix A; Song & Ermon 2020, appendix B. Parity with official code, gradients included:
tests/convert.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks import refinenet
from sfumato.networks.backbone import Backbone, Embedded
from sfumato.networks.instance_norm import InstanceNorm, InstanceNormPlus, NoNorm, VarianceNorm
from sfumato.networks.refinenet import RefineNet, RefineNetV2, ScoreRefineNet, mean_pool
from tests.networks.naming import named

SMALL: dict[str, Any] = {"channels": 4}
X, T = torch.zeros(2, 3, 8, 8), torch.tensor([0, 2])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A second thread has nothing to do at these sizes, and waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def seeded(**options: Any) -> ScoreRefineNet:
    torch.manual_seed(0)
    return ScoreRefineNet(**{**SMALL, **options}).eval()


@pytest.mark.parametrize(
    ("network", "channels", "published"),
    [
        (RefineNet(), 3, 30_117_635),
        (RefineNet(channels=64), 1, 7_638_657),
        (RefineNetV2(), 3, 29_694_083),
        (RefineNetV2(depth=5), 3, 83_445_379),
        (RefineNetV2(depth=6), 3, 94_132_611),
    ],
)
def test_published_sizes(network: Backbone, channels: int, published: int) -> None:
    with torch.device("meta"):
        net = network.build((channels, 32, 32), channels, Embedded(levels=10))
        assert sum(p.numel() for p in net.parameters()) == published


@pytest.mark.parametrize("levels", [None, 5])
def test_instance_norm_is_its_formula(levels: int | None) -> None:
    norm = InstanceNormPlus(6, levels).double()
    x, t = 3 + 2 * torch.randn(2, 6, 5, 7, dtype=torch.float64), torch.tensor([4, 1])
    nn.init.normal_(norm.weight)
    ours = norm(x, t)
    for i in range(2):
        gain, mean_gain, bias = (norm.weight if levels is None else norm.weight[t[i]]).view(3, 6)
        means = x[i].mean(dim=(1, 2))
        z = (means - means.mean()) / (means.var(unbiased=True) + 1e-5).sqrt()
        for c in range(6):
            h = (x[i, c] - means[c]) / (x[i, c].var(unbiased=False) + 1e-5).sqrt()
            torch.testing.assert_close(ours[i, c], gain[c] * (h + mean_gain[c] * z[c]) + bias[c])


def test_other_norms_are_their_formulas() -> None:
    x = 3 + 2 * torch.randn(2, 6, 5, 7)
    plain, variance = InstanceNorm(6), VarianceNorm(6)
    for norm in (plain, variance):
        nn.init.normal_(norm.weight)
    deviations, means = torch.std_mean(x, dim=(2, 3), keepdim=True)
    gain = variance.weight[:, None, None]
    torch.testing.assert_close(variance(x, None), gain * x / deviations, rtol=1e-4, atol=1e-5)
    gain, bias = plain.weight.view(2, 6, 1, 1)
    expected = gain * (x - means) / (x.var(dim=(2, 3), unbiased=False, keepdim=True) + 1e-5).sqrt() + bias
    torch.testing.assert_close(plain(x, None), expected)


def test_plain_normalisation_loses_the_means_and_plus_plus_keeps_them() -> None:
    x = torch.randn(1, 6, 5, 7)
    brighter = x + torch.arange(6.0)[:, None, None]
    for kind, kept in {InstanceNorm: False, InstanceNormPlus: True}.items():
        norm = kind(6)
        assert torch.allclose(norm(x, None), norm(brighter, None), atol=1e-5) is not kept


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"levels": 3, "refine_norm": InstanceNormPlus, "pool": mean_pool},
        {"levels": 3, "norm": InstanceNorm, "act": F.silu},
        {"norm": VarianceNorm, "act": F.relu, "in_channels": 1},
        {"norm": NoNorm},
        {"refine_norm": InstanceNormPlus, "unit_range": True, "act": F.leaky_relu},
        {"sigmas": [1.0, 0.1, 0.01]},
        {**refinenet.DEEPER},
        {**refinenet.DEEPEST, "levels": 3},
        {"multipliers": (1, 1.5), "dilations": (1, 2)},
        {"multipliers": (2,), "dilations": (1,)},
    ],
    ids=named,
)
def test_every_option_runs_and_every_parameter_learns(options: dict[str, Any]) -> None:
    net = seeded(**options).train()
    x = torch.randn(2, net.in_channels, 16, 24, requires_grad=True)
    out = net(x, T)
    assert out.shape == x.shape
    out.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    for name, p in net.named_parameters():
        assert p.grad is not None, name
        assert p.grad.isfinite().all(), name
        assert p.grad.abs().max() > 0, name


V1: dict[str, Any] = {"levels": 4, "refine_norm": InstanceNormPlus, "pool": mean_pool}


@pytest.mark.parametrize("options", [{}, V1], ids=["v2", "v1"])
def test_images_do_not_see_each_other(options: dict[str, Any]) -> None:
    net = seeded(**options)
    x, t = torch.randn(4, 3, 8, 8), torch.tensor([3, 0, 2, 1])
    with torch.no_grad():
        batch = net(x, t)
        single = torch.cat([net(*part) for part in zip(x.split(1), t.split(1), strict=True)])
        torch.testing.assert_close(batch, single, atol=5e-6 * batch.abs().max().item(), rtol=0)
        assert torch.allclose(net(x[:1], t[:1]), net(x[:1], t[1:2])) is (net.levels is None), "level"


def test_inputs_and_outputs_can_be_scaled() -> None:
    raw, unit, divided = seeded(), seeded(unit_range=True), seeded(sigmas=(50.0, 5.0, 0.5))
    x = torch.rand(2, 3, 8, 8)
    with torch.no_grad():
        assert torch.equal(raw(x), raw(x, T)), "an unconditional network needs no t"
        torch.testing.assert_close(unit(x), raw(2 * x - 1))
        torch.testing.assert_close(divided(x, T), raw(x) / torch.tensor([50.0, 0.5])[:, None, None, None])


@pytest.mark.parametrize(("options", "multiple"), [({}, 2), (refinenet.DEEPER, 4), (refinenet.DEEPEST, 8)])
def test_stages_without_dilation_halve_the_size(options: dict[str, Any], multiple: int) -> None:
    net, sizes = seeded(**options), []
    for stage in net.stages:
        stage[1].register_forward_hook(lambda *seen: sizes.append(seen[2].shape[2]))
    net(torch.zeros(1, 3, 32, 32))
    assert sizes[0] == 32
    assert sizes[-3:] == [32 // multiple] * 3
    with pytest.raises(ValueError, match=f"multiples of {multiple}"):
        net(torch.zeros(1, 3, 32 + multiple // 2, 32))


def test_28_pixels_fit() -> None:
    net = RefineNet(channels=4).build((1, 28, 28), 1, Embedded(levels=10))
    assert net(torch.zeros(2, 1, 28, 28), T).shape == (2, 1, 28, 28)


def test_conditions_as_a_denoiser_gives_them() -> None:
    """float32: NCSN's network rounds them to its levels, NCSNv2's does not look at them."""
    x = torch.randn(2, 3, 8, 8)
    net = RefineNet(channels=4).build((3, 8, 8), 3, Embedded(levels=3))
    assert torch.equal(net(x, T.float() + 0.01), net(x, T))
    net = RefineNetV2(channels=4).build((3, 8, 8), 3)
    assert torch.equal(net(x, torch.tensor([-3.0, 1e6])), net(x))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RefineNetV2(norm="batch"), r"norm is one of instance\+\+, none, not 'batch'"),
        (lambda: RefineNetV2(depth=3), "depth is one of 4, 5, 6, not 3"),
        (lambda: RefineNet().build((3, 8, 8), 3), "normalisations for each noise level, and continuous time has none"),
        (lambda: RefineNet().build((3, 8, 8), 3, Embedded(labels=2, levels=3)), "cannot be conditioned on labels"),
        (lambda: RefineNetV2().build((3, 8, 8), 3, Embedded(picture=3)), "cannot be conditioned on a further picture"),
        (lambda: RefineNetV2().build((3, 8, 8), 6), "returns 3 channels here, not 6"),
    ],
)
def test_configurations_that_do_not_exist(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_precision_and_memory_format() -> None:
    """float32 in, float32 out, near the float32 result: under autocast, with bfloat16 weights, channels last."""
    net = seeded(channels=16, levels=3, refine_norm=InstanceNormPlus, pool=mean_pool, sigmas=(50.0, 5.0, 0.5))
    x = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        expected = net(x, T)
        with torch.autocast("cpu", torch.bfloat16):
            _assert_near(net(x, T), expected, 0.05)
        last = net.to(memory_format=torch.channels_last)
        _assert_near(last(x.contiguous(memory_format=torch.channels_last), T), expected, 1e-5)
        _assert_near(net.double()(x.double(), T), expected.double(), 1e-5)
        _assert_near(net.to(torch.bfloat16)(x, T), expected, 0.05)


def _assert_near(ours: Tensor, expected: Tensor, tolerance: float) -> None:
    assert ours.dtype == expected.dtype
    assert ((ours - expected).norm() / expected.norm()).item() < tolerance


@pytest.mark.parametrize(
    ("options", "inputs", "message"),
    [
        ({}, (X[:, :1],), r"x is \(B, 3, H, W\) for this network, not \(2, 1, 8, 8\)"),
        ({}, (X[..., :7],), "7x8 images do not fit this network: the sides must be multiples of 2"),
        ({"levels": 3}, (X,), r"t is the number of each image's noise level, \(2,\), not nothing"),
        ({"sigmas": (1.0, 0.1)}, (X, T[:1]), r"\(2,\), not \(1,\)"),
        ({"sigmas": (1.0, 0.1)}, (X, T), "noise levels are numbered from 0 to 1, but t holds 2"),
        ({"levels": 3}, (X, T - 1), "noise levels are numbered from 0 to 2, but t holds -1"),
    ],
)
def test_inputs_that_do_not_fit(options: dict[str, Any], inputs: tuple[Tensor, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seeded(**options)(*inputs)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dilations": (1, 2)}, "4 multipliers and 2 dilations do not make stages"),
    ],
)
def test_options_that_do_not_exist(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        seeded(**options)
