"""The networks of 2015 against their recorded numbers, and what each is for: one function a level, exact bits."""

from __future__ import annotations

import pytest
import torch

from sfumato.networks.dpm2015 import Bits, ImageNetwork, LocalLinear, RadialBasis, temporal_basis
from tests.golden.song import compare, filled, load, sources


def translated(key: str, value: torch.Tensor) -> torch.Tensor:
    """A recorded weight as ours: true convolutions turn their kernel round, and dense weights are (in, out)."""
    if key.startswith("conv") and value.ndim == 4:
        return value.flip(-1, -2)
    if value.ndim == 2:
        return value.T if key.startswith("dense_lower") else value.T[:, :, None, None]
    return value


NAMES = (("conv.", "conv.layers."), ("dense_lower.", "dense.layers."), ("dense_upper.", "upper."))


@pytest.mark.parametrize(("source", "name"), sources("dpm_mlp", group="dpm2015"))
def test_the_image_network_is_the_recorded_one(source: str, name: str) -> None:
    case = load(source, name)
    about = case.recipe["config"]
    network = ImageNetwork(
        (about["n_colors"], about["spatial_width"], about["spatial_width"]), torch.ones(about["n_temporal_basis"], 5),
        channels=about["n_hidden_conv"], layers=about["n_layers_conv"], scales=about["n_scales"],
        dense=about["n_hidden_dense_lower"], dense_outputs=about["n_hidden_dense_lower_output"],
        dense_layers=about["n_layers_conv"],  # the published slip: not n_layers_dense_lower
        upper=about["n_hidden_dense_upper"], upper_layers=about["n_layers_dense_upper"],
    ).double()  # fmt: skip
    state = network.state_dict()
    for key, shape in case.recipe["recorded"]["keys"]:
        ours = next(key.replace(a, b) for a, b in NAMES if key.startswith(a))
        state[ours].copy_(translated(key, filled(key, shape)))
    assert sum(p.numel() for p in network.parameters()) == case.recipe["recorded"]["n_params"]
    features = network.features(case.input("x").double())  # (B, C, 2, J, H, W)
    compare(case, "Z", features.permute(0, 4, 5, 1, 2, 3).flatten(3), 1e-9)


def test_the_read_out_weighs_the_features_of_each_image_by_its_own_level() -> None:
    torch.manual_seed(0)
    basis = temporal_basis(20, 4)
    network = ImageNetwork((2, 8, 8), basis, channels=6, scales=2, dense=10)
    torch.nn.init.normal_(network.upper[-1].weight)
    x, index = torch.randn(3, 2, 8, 8), torch.tensor([0, 7, 19])
    features = network.features(x)
    brute = torch.stack([
        torch.stack([(f[c, k] * basis[:, i, None, None]).sum(0) for k in range(2) for c in range(2)])
        for f, i in zip(features, index, strict=True)
    ])  # fmt: skip
    assert torch.allclose(network(x, index), brute.float(), atol=1e-5)
    assert torch.allclose(network(x, index[1]), network(x, index[1].expand(3)), atol=1e-6)


def test_an_untrained_image_network_says_nothing_and_every_weight_learns() -> None:
    network = ImageNetwork((1, 8, 8), temporal_basis(20, 4), dense=10)
    x, index = torch.randn(3, 1, 8, 8), torch.tensor([1, 10, 19])
    assert network(x, index).abs().max() == 0
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    network(x, index).square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


def test_the_dense_path_sees_the_whole_image_and_the_convolutions_only_nearby() -> None:
    x = torch.zeros(1, 1, 16, 16, requires_grad=True)
    for dense, far in ((0, False), (10, True)):
        torch.manual_seed(0)
        network = ImageNetwork((1, 16, 16), temporal_basis(20, 4), layers=2, dense=dense)
        torch.nn.init.normal_(network.upper[-1].weight)
        (slope,) = torch.autograd.grad(network(x, torch.tensor(3))[0, 0, 0, 0], x)
        assert bool(slope[0, 0, 15, 15] != 0) == far


def test_a_basis_is_of_two_bumps_or_more_over_levels() -> None:
    for levels, bumps, message in ((10, 1, "at least 2"), (0, 4, "continuous time has none")):
        with pytest.raises(ValueError, match=message):
            temporal_basis(levels, bumps)


def test_an_image_that_cannot_be_halved_is_refused() -> None:
    with pytest.raises(ValueError, match="halve an image 3 times"):
        ImageNetwork((1, 28, 28), temporal_basis(20, 4), scales=4)


def test_radial_shares_are_normalised_and_read_out_by_level() -> None:
    torch.manual_seed(0)
    network = RadialBasis(2, 16, levels=5)
    network.readout.data[2] = torch.arange(4.0)  # the same for every unit: the shares sum to 1
    out = network(torch.randn(6, 1, 1, 2), torch.tensor(2))
    assert out.shape == (6, 2, 1, 2)
    assert torch.allclose(out, torch.arange(4.0).reshape(1, 2, 1, 2).expand(6, -1, -1, -1), atol=1e-5)
    assert network(torch.randn(6, 1, 1, 2), torch.tensor(1)).abs().max() == 0


def test_bits_without_evidence_are_all_alike_to_the_network() -> None:
    network = Bits(20)
    x = torch.randint(2, (4, 1, 1, 20)).float()
    logits = network(x, torch.tensor([0.0, 0.0, 2.0, 2.0]))
    assert logits.shape == x.shape
    assert torch.equal(logits[0], logits[1])
    assert not torch.equal(logits[2], logits[3])


def test_local_maps_that_agree_are_one_map_at_every_level() -> None:
    """Where every unit says c + A (x - c) with A = 1, the shares and the bumps, which sum to 1, leave x."""
    torch.manual_seed(0)
    network = LocalLinear(2, 16, temporal_basis(10, 3))
    assert network(torch.randn(6, 1, 1, 2), torch.tensor(4)).abs().max() == 0
    network.constant.data[..., :2] = network.centres.data
    network.linear.data[..., :2, :] = torch.eye(2)
    x = torch.randn(6, 1, 1, 2)
    out = network(x, torch.arange(6))
    assert torch.allclose(out[:, :1], x, atol=1e-5)
    assert out[:, 1:].abs().max() == 0
