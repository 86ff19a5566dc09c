"""One to three dimensions by the same layers: a signal is an image of one row, and a clip of one frame an image."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.networks import NETWORKS, clips, fir
from sfumato.networks.backbone import Embedded
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet
from sfumato.papers.ddpm import DDPM

TINY: dict[str, Any] = {"channels": 16, "blocks": 1, "attention": (1,), "dropout": 0.0}
TAPS = (1.0, 3.0, 3.0, 1.0)
SHAPES = ((2, 16), (2, 8, 16), (2, 4, 8, 8))


def filled(network: nn.Module) -> nn.Module:
    """The network with random numbers in all its weights, those that begin as zero too."""
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter, std=0.2)
    return network.eval()


def middle(kernel: Tensor, axis: int) -> Tensor:
    """The plane of a kernel that meets the only row or frame there is: the others meet the padding."""
    return kernel.select(axis, kernel.shape[axis] // 2)


@pytest.mark.parametrize("kind", [HoUNet, ImprovedUNet, DDPMpp])
@pytest.mark.parametrize(("small", "large"), [((2, 16), (2, 1, 16)), ((2, 8, 8), (2, 1, 8, 8))])
def test_a_network_is_that_of_one_dimension_more_on_an_extent_of_one(
    kind: Any, small: tuple[int, ...], large: tuple[int, ...]
) -> None:
    options = {**TINY, "multipliers": (1,)}
    wide = filled(kind(**options).build(large, 2))
    net = kind(**options).build(small, 2).eval()
    ours = net.state_dict()
    state = {
        key: middle(value, 2) if value.ndim > ours[key].ndim else value for key, value in wide.state_dict().items()
    }
    net.load_state_dict(state)
    x, t = torch.randn(3, *small), torch.tensor([5.0, 50.0, 500.0])
    torch.testing.assert_close(net(x, t), wide(x[:, :, None], t)[:, :, 0], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("resample", [lambda x: fir.halve(x), lambda x: fir.double(x), lambda x: fir.fir_halve(x, TAPS),
                                      lambda x: fir.fir_double(x, TAPS)])  # fmt: skip
def test_resampling_of_a_product_is_the_product_of_resamplings(resample: Any) -> None:
    a, b, c = (torch.randn(1, 1, side, dtype=torch.float64) for side in (4, 6, 8))
    picture, clip = a[..., :, None] * b[..., None, :], a[..., :, None, None] * b[..., :, None] * c[..., None, None, :]
    ra, rb, rc = map(resample, (a, b, c))
    torch.testing.assert_close(resample(picture), ra[..., :, None] * rb[..., None, :])
    torch.testing.assert_close(resample(clip), ra[..., :, None, None] * rb[..., :, None] * rc[..., None, None, :])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("kind", "factor"), [(fir.Down, 0.5), (fir.Up, 2.0)])
def test_filter_and_convolution_keep_a_constant_inside(shape: tuple[int, ...], kind: Any, factor: float) -> None:
    dims = len(shape) - 1
    layer: Any = filled(kind(2, 3, True, TAPS, dims=dims))
    assert layer(torch.randn(2, *shape)).shape == (2, 3, *(int(factor * side) for side in shape[1:]))
    flat = layer(torch.ones(1, 2, *(16,) * dims))
    inside = flat[(0, slice(None), *(flat.shape[-1] // 2,) * dims)]
    # filters have sum 1 in each dimension, so that what is left is the sum of the convolution
    torch.testing.assert_close(inside, layer.conv.weight.sum(tuple(range(1, dims + 2))) + layer.conv.bias)


@pytest.mark.parametrize("kind", [HoUNet, ImprovedUNet, ADMUNet, NCSNpp, DDPMpp])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_input_reaches_a_network_of_several_levels(kind: Any, shape: tuple[int, ...]) -> None:
    heads = {"head_channels": 16} if kind is ADMUNet else {}
    given = Embedded(labels=3, picture=1)
    net = filled(
        kind(**{**TINY, **heads, "channels": 64, "multipliers": (1, 2), "attention": (2,)}).build(shape, 4, given)
    )
    x, t, y = torch.randn(2, *shape), torch.tensor([3.0, 40.0]), torch.tensor([0, 2])
    small = torch.randn(2, 1, *(side // 2 for side in shape[1:]))
    out = net(x, t, y, small)
    assert out.shape == (2, 4, *shape[1:])
    for changed in ((x + 1, t, y, small), (x, t + 5, y, small), (x, t, 2 - y, small), (x, t, y, small + 1)):
        assert (net(*changed) - out).abs().max() > 1e-4


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((1, 18), "signals of 18 numbers do not fit this network.*multiples of 4: 16 numbers or 20 numbers would"),
        ((1, 6, 8, 8), "clips of 6 frames of 8x8 .*4 frames of 8x8 or 8 frames of 8x8 would"),
        ((1, 3), "4 numbers would"),
    ],
)
def test_extents_that_do_not_divide_are_refused_with_the_next_ones(shape: tuple[int, ...], said: str) -> None:
    net = HoUNet(**{**TINY, "multipliers": (1, 1, 1)}).build(shape, 1)
    with pytest.raises(ValueError, match=said):
        net(torch.zeros(2, *shape), torch.zeros(2))
    with pytest.raises(ValueError, match=r"x is \(B, 1, "):
        net(torch.zeros(2, 1, 8, 8, 8, 8), torch.zeros(2))


@pytest.mark.parametrize("name", [n for n, kind in NETWORKS.items() if 1 not in kind.dims and n != "encoder-unet"])
def test_networks_of_images_alone_refuse_others_and_name_those_that_do(name: str) -> None:
    with pytest.raises(ValueError, match=f"the network {name} does not take signals .*ddpm-unet"):
        DDPM((1, 16), NETWORKS[name]()).model()


# ---------------------------------------------------------------- clips in low precision


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 6])
@pytest.mark.parametrize(("stride", "padding", "groups"), [(1, 1, 1), (2, 1, 1), (2, 0, 1), (1, 1, 4)])
def test_a_convolution_of_clips_and_its_gradients_are_those_of_float64(
    frames: int, stride: int, padding: int, groups: int
) -> None:
    """torch's own gradient of the weights is of memory never written where there are two frames."""
    x = torch.randn(2, 8, frames + 2 * (not padding), 4, 6).bfloat16()
    weight, bias = (torch.randn(*shape).bfloat16() for shape in ((8, 8 // groups, 3, 3, 3), (8,)))

    def values(kind: torch.dtype) -> list[Tensor]:
        inputs = [part.to(kind).requires_grad_() for part in (x, weight, bias)]
        out = clips.convolve(*inputs, stride=stride, padding=padding, groups=groups)
        out.backward(torch.ones_like(out) + out.detach())
        return [out.detach(), *(part.grad for part in inputs if part.grad is not None)]

    exact = values(torch.float64)
    plain = torch.nn.functional.conv3d(x.double(), weight.double(), bias.double(), stride, padding, 1, groups)
    torch.testing.assert_close(exact[0], plain)
    for ours, theirs in zip(values(torch.bfloat16), exact, strict=True):
        assert (ours.double() - theirs).abs().max() < 0.02 * theirs.abs().max()


@pytest.mark.parametrize("kind", [HoUNet, ImprovedUNet, ADMUNet, NCSNpp, DDPMpp])
@pytest.mark.parametrize("shape", [(1, 8), (1, 4, 8, 8)])
def test_gradients_in_bfloat16_are_those_of_float32_to_rounding(kind: Any, shape: tuple[int, ...]) -> None:
    heads = {"head_channels": 16} if kind is ADMUNet else {}
    net = kind(**{**TINY, **heads, "channels": 64, "multipliers": (1, 1), "attention": (2,)}).build(shape, 1)
    torch.manual_seed(1)
    for parameter in net.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    x, t = torch.randn(4, *shape), torch.tensor([1.0, 10.0, 100.0, 900.0])
    found = []
    for low in (False, True):
        net.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=low):
            net(x, t).square().mean().backward()
        found.append(torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]))
    exact, rounded = found
    assert (rounded - exact).norm() < 0.1 * exact.norm()
