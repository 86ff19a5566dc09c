"""Magnitude-preserving layers: RMS 1 at the first step and after training, weights that only an update changes."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from torch import Tensor, nn

from sfumato.core.randomness import ImageNoise
from sfumato.networks import magnitude
from sfumato.networks.backbone import Embedded
from sfumato.networks.magnitude import Directions, MPBlock, mp_cat, mp_silu, mp_sum, unit
from sfumato.networks.mp_unet import MPUNet
from sfumato.papers.edm import EDM
from sfumato.papers.training import TrainConfig
from sfumato.train.setup import first_state

NET = MPUNet(32, (1, 2), 1, (2,), 16)


def rms(x: Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def test_the_constants() -> None:
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64)
    density = (-(x**2) / 2).exp() / math.sqrt(2 * math.pi)
    second = torch.trapezoid(nn.functional.silu(x) ** 2 * density, x)
    assert pytest.approx(math.sqrt(float(second)), abs=1e-4) == magnitude.SILU_RMS
    a, b = torch.randn(2, 4000, 8, 5, 5).unbind()
    for t in (0.3, 0.5):
        assert rms(mp_sum(a, b, t)) == pytest.approx(1, abs=0.01)
        both = mp_cat(a, b[:, :4], t)
        assert rms(both) == pytest.approx(1, abs=0.01)
        shares = both[:, :8].square().sum() / both[:, 8:].square().sum()
        assert float(shares.sqrt()) == pytest.approx((1 - t) / t, rel=0.02)
    assert rms(mp_silu(a)) == pytest.approx(1, abs=0.01)
    torch.testing.assert_close(unit(5 * a, (1,)).square().mean(1), torch.ones(4000, 5, 5), atol=1e-3, rtol=0)


def magnitudes(network: nn.Module, x: Tensor, t: Tensor, y: Tensor | None) -> dict[str, float]:
    """The RMS of what every layer returns, where its gain is not zero."""
    found: dict[str, float] = {}
    hooks = [
        module.register_forward_hook(lambda m, _, out, name=name: found.update({name: rms(out)}))
        for name, module in network.named_modules()
        if isinstance(module, Directions | MPBlock)
    ]
    network(x, t, y)
    for hook in hooks:
        hook.remove()
    return {name: value for name, value in found.items() if not name.endswith((".emb", "conv_out"))}


def test_every_layer_has_magnitude_one_at_first() -> None:
    torch.manual_seed(0)
    network = NET.build((3, 16, 16), 3, Embedded(labels=5))
    found = magnitudes(network, torch.randn(16, 3, 16, 16), torch.linspace(-1.5, 1, 16), torch.arange(16) % 5)
    assert len(found) > 30
    # zero padding takes from the borders, attention from what it averages
    assert all(0.5 < value < 1.3 for value in found.values()), found
    blocks = [value for name, value in found.items() if name.split(".")[-1].isdigit()]
    assert all(0.75 < value < 1.2 for value in blocks)
    assert sum(blocks) / len(blocks) == pytest.approx(0.93, abs=0.07)


def test_training_keeps_magnitudes_and_only_updates_change_weights() -> None:
    """Forty steps, through the package's own optimiser; single layers turn further to their inputs than blocks."""
    recipe = EDM((1, 8, 8), NET)
    built = recipe.build()
    state = first_state(recipe, built.times, TrainConfig(learning_rate=0.005), torch.device("cpu"), False)
    network, rows = state.network, [p.detach() for p in magnitude.forced(state.network)]
    assert all(torch.allclose(p.flatten(1).square().mean(1), torch.ones(len(p)), atol=1e-5) for p in rows)
    images = torch.rand(16, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    first = copy.deepcopy(network.state_dict())
    for step in range(40):
        t, _ = built.times.draw((torch.arange(16) + 0.5) / 16)
        before = [p.clone() for p in rows]
        loss = built.loss(network, images, t, ImageNoise(step, range(16))).mean()
        assert all(torch.equal(a, b) for a, b in zip(before, rows, strict=True)), "no forward pass changes a weight"
        state.optimizer.zero_grad()
        loss.backward()
        state.optimizer.step()
    assert all(torch.allclose(p.flatten(1).square().mean(1), torch.ones(len(p)), atol=1e-5) for p in rows)
    assert not torch.equal(first["conv_in.weight"], network.state_dict()["conv_in.weight"])
    kept = copy.deepcopy(network.eval().state_dict())
    with torch.no_grad():
        found = magnitudes(network, torch.randn(16, 1, 8, 8), torch.linspace(-1.5, 1, 16), None)
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())
    blocks = {name: value for name, value in found.items() if name.split(".")[-1].isdigit()}
    assert all(1 / 3 < value < 3 for value in blocks.values()), blocks
    assert max(found.values()) < 6


def test_the_length_of_a_row_does_not_matter() -> None:
    torch.manual_seed(0)
    layer = Directions(6, 4, 3)
    x = torch.randn(2, 6, 5, 5)
    out = layer(x)
    with torch.no_grad():
        layer.weight.mul_(torch.tensor([1.0, 0.1, 3.0, 40.0])[:, None, None, None])
    torch.testing.assert_close(layer(x), out, atol=1e-3, rtol=1e-3)
    magnitude.normalise(layer)
    torch.testing.assert_close(layer.weight.flatten(1).square().mean(1), torch.ones(4))
