"""The compiled kernel against torch's own operations: values, every gradient, and the network that uses it."""

from __future__ import annotations

import copy
import shutil
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.networks import fused
from sfumato.networks.backbone import Backbone
from sfumato.networks.blocks import GroupNorm, norm_act
from sfumato.networks.unet import HoUNet, ImprovedUNet
from sfumato.runtime.precision import best_layout, for_sampling
from tests.networks.naming import named


@pytest.fixture(autouse=True, scope="module")
def kernel() -> None:
    if not fused.load():
        pytest.importorskip("ninja")
        if not shutil.which("c++"):
            pytest.skip("the kernel is not compiled, and there is no C++ compiler")
        fused.build()


def plain(x: Tensor, add: Tensor | None, gamma: Tensor, beta: Tensor, groups: int, silu: bool) -> Tensor:
    """In the order of the formula."""
    n = F.group_norm(x if add is None else x + add[:, :, None, None], groups, eps=1e-5)
    z = gamma[:, :, None, None] * n + beta[:, :, None, None]
    return F.silu(z) if silu else z


CASES = [(3, 48, 7, 9, 24), (2, 5, 6, 6, 1), (1, 128, 17, 16, 32), (2, 33, 1, 40, 3)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("batch", "channels", "height", "width", "groups"), CASES)
@pytest.mark.parametrize("variant", ["per image", "shared", "bare"])
def test_values_and_gradients(
    dtype: torch.dtype, batch: int, channels: int, height: int, width: int, groups: int, variant: str
) -> None:
    torch.manual_seed(0)
    x = (2 * torch.randn(batch, channels, height, width) + 1).to(dtype, memory_format=torch.channels_last)
    rows = batch if variant == "per image" else 1
    add = None if variant == "bare" else torch.randn(rows, channels)
    gamma, beta, silu = torch.randn(rows, channels), torch.randn(rows, channels), variant != "bare"
    if not fused.takes(x):
        pytest.skip("such a small image has no layout of its own")
    inputs = [t for t in (x, add, gamma, beta) if t is not None]
    ours = [t.detach().clone(memory_format=torch.preserve_format).requires_grad_() for t in inputs]
    exact = [t.detach().double().requires_grad_() for t in inputs]
    up = torch.randn(x.shape).to(dtype)

    def call(f: object, tensors: list[Tensor], *rest: object) -> Tensor:
        first, *others = tensors
        return f(first, *([None] if add is None else []), *others, *rest)  # type: ignore[operator]

    found, wanted = call(fused.norm_silu, ours, groups, 1e-5, silu), call(plain, exact, groups, silu)
    assert (found.dtype, found.stride()) == (dtype, x.stride())
    rough = 3e-3 if dtype == torch.bfloat16 else 3e-6
    assert_near(found, wanted, rough)
    for a, b in zip(torch.autograd.grad(found, ours, up), torch.autograd.grad(wanted, exact, up.double()), strict=True):
        assert_near(a, b, rough, floor=1e-3 * float(up.norm()))


def assert_near(found: Tensor, wanted: Tensor, tolerance: float, floor: float = 0.0) -> None:
    found, wanted = found.detach(), wanted.detach()
    assert (found.double() - wanted).norm() <= tolerance * max(float(wanted.norm()), floor)


def test_what_is_not_a_number_stays_so() -> None:
    x = torch.randn(1, 8, 4, 4).contiguous(memory_format=torch.channels_last)
    x[0, 0, 0, 0] = torch.nan
    assert fused.norm_silu(x, None, torch.ones(1, 8), torch.zeros(1, 8), 8, 1e-5).isnan().sum() == 16


@pytest.mark.parametrize("scaled", [False, True])
def test_the_block_is_the_same_with_and_without(scaled: bool) -> None:
    torch.manual_seed(0)
    norm = GroupNorm(64)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, one, two = torch.randn(2, 64, 8, 8), torch.randn(2, 64), torch.randn(2, 64)
    given = {"scale": one, "shift": two} if scaled else {"add": one}
    last = x.contiguous(memory_format=torch.channels_last)
    assert fused.takes(last)
    assert not fused.takes(x)
    torch.testing.assert_close(norm_act(norm, last, **given), norm_act(norm, x, **given), rtol=1e-5, atol=1e-5)


SMALL: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": (2,)}


@pytest.mark.parametrize("network", [HoUNet(**SMALL), ImprovedUNet(**SMALL)], ids=named)
def test_a_network_made_ready_for_sampling_says_the_same(network: Backbone) -> None:
    torch.manual_seed(0)
    net = network.build((1, 8, 8), 1).eval()
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.05)
    before = copy.deepcopy(net.state_dict())
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([1.0, 20.0, 900.0])
    assert best_layout("cpu")[0] == torch.channels_last
    with torch.inference_mode():
        wanted = net(x, t)
        exact = for_sampling(net, "cpu", "float32")(x, t)
        torch.testing.assert_close(exact, wanted, rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            rough = for_sampling(net, "cpu", "bf16")(x, t)
    assert rough.dtype == torch.float32
    assert (rough - wanted).norm() < 0.03 * wanted.norm()
    assert all(torch.equal(net.state_dict()[name], value) for name, value in before.items())  # a copy was changed


def test_bad_input_is_refused() -> None:
    one = torch.ones(1, 8)
    with pytest.raises(RuntimeError, match="channels_last"):
        fused.norm_silu(torch.randn(1, 8, 4, 4), None, one, one, 4, 1e-5)
    with pytest.raises(RuntimeError, match="divide"):
        fused.norm_silu(torch.randn(1, 8, 4, 4).contiguous(memory_format=torch.channels_last), None, one, one, 3, 1e-5)
