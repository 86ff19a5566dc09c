"""Activation checkpointing: the same gradients with less memory, dropout included, and nothing else that changes."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.networks.backbone import Backbone, Embedded
from sfumato.networks.classifier import Encoder
from sfumato.networks.dit import DiT
from sfumato.networks.dpm2015 import Bits
from sfumato.networks.jit import JiT
from sfumato.networks.lucidrains_unet import LucidrainsUNet
from sfumato.networks.mp_unet import MPUNet
from sfumato.networks.ncsnpp import NCSNpp
from sfumato.networks.recompute import recompute_blocks, recomputes
from sfumato.networks.refinenet import RefineNet, RefineNetV2
from sfumato.networks.unet import ADMUNet, HoUNet
from sfumato.networks.uvit import UViT

SMALL: dict[str, Any] = {"channels": 16, "multipliers": (1, 2), "attention": (2,)}
NETWORKS: dict[str, Backbone] = {
    "ho": HoUNet(**SMALL),
    "adm": ADMUNet(**SMALL, head_channels=16),
    "ncsnpp": NCSNpp(**SMALL, blocks=1, progressive="skip"),
    "ncsn": RefineNet(channels=8),
    "ncsnv2": RefineNetV2(channels=8),
    "dit": DiT(2, 32, 4, 4, dropout=0.1),
    "uvit": UViT(16, (1,), 1, 32, 3, 4),
    "jit": JiT(2, 8, 32, 4, 4),
    "mp": MPUNet(16, (1, 2), 1, (2,)),
    "lucidrains": LucidrainsUNet(16, (1, 2), (2,), head_channels=16),
    "classifier": Encoder(**SMALL, head_channels=16),
}
DROPPING = ("ho", "adm", "ncsnpp", "dit", "lucidrains", "classifier")
T = torch.tensor([3, 4])


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A second thread has nothing to do at these sizes, and waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def made(name: str, **options: Any) -> nn.Module:
    """The network with random numbers where it starts with zeros."""
    torch.manual_seed(0)
    network = replace(NETWORKS[name], **options).build((3, 8, 8), 3, Embedded(levels=10 * (name == "ncsn")))  # type: ignore[type-var]
    for p in network.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return network


def pictures() -> Tensor:
    return torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))


def gradients(network: nn.Module, precision: torch.dtype | None = None) -> list[Tensor]:
    torch.manual_seed(2)
    for p in network.parameters():
        p.grad = None
    with torch.autocast("cpu", precision or torch.bfloat16, enabled=precision is not None):
        loss = network(pictures(), T).float().square().sum()
    loss.backward()
    return [p.grad for p in network.parameters() if p.grad is not None]


def kept_bytes(network: nn.Module) -> int:
    """Bytes of distinct storages that autograd keeps after a forward pass, weights aside."""
    own = {p.untyped_storage().data_ptr() for p in network.parameters()}
    kept: dict[int, int] = {}
    held = []

    def pack(x: Tensor) -> Tensor:
        held.append(x)  # so that no address is used twice
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        network(pictures().repeat(8, 1, 1, 1), T.repeat(8))
    return sum(size for key, size in kept.items() if key not in own)


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_the_same(name: str) -> None:
    network = made(name, **({"dropout": 0.0} if name in DROPPING else {})).train()
    plain = gradients(network)
    assert recompute_blocks(network) > 0
    for a, b in zip(plain, gradients(network), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("name", DROPPING)
@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_dropout_is_drawn_again(name: str, precision: torch.dtype | None) -> None:
    network = made(name, dropout=0.5).train()
    plain = gradients(network, precision)
    without = gradients(network.eval(), precision)
    recompute_blocks(network.train())
    again = gradients(network, precision)
    for a, b in zip(plain, again, strict=True):
        torch.testing.assert_close(a, b)
    assert max((a - b).abs().max() for a, b in zip(plain, without, strict=True)) > 1e-2, "dropout matters here"


@pytest.mark.parametrize("name", NETWORKS)
def test_less_is_kept(name: str) -> None:
    network = made(name).train()
    before = kept_bytes(network)
    recompute_blocks(network)
    assert kept_bytes(network) < 0.6 * before


def test_names_weights_and_sampling_stay() -> None:
    network = made("adm").eval()
    keys, (x, t) = list(network.state_dict()), (pictures(), T)
    with torch.no_grad():
        plain = network(x, t)
    count = recompute_blocks(network)
    assert recomputes(network)
    assert recompute_blocks(network) == count, "twice is once"
    assert list(network.state_dict()) == keys
    with torch.inference_mode():
        assert torch.equal(network(x, t), plain)


def test_a_copy_computes_with_its_own_weights() -> None:
    network = made("ho").eval()
    recompute_blocks(network)
    twin = copy.deepcopy(network)
    before = network(pictures(), T)
    with torch.no_grad():
        for p in network.parameters():
            p.zero_()
    assert torch.equal(twin(pictures(), T), before)
    assert not network(pictures(), T).any()


def test_a_network_without_blocks_is_told_apart() -> None:
    with pytest.raises(ValueError, match="Bits has no blocks that could be computed again"):
        recompute_blocks(Bits(20))
