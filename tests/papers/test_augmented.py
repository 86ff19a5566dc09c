"""Training with augmentation: what the network is told, that nothing leaks into samples, and what refuses it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers, samplers
from sfumato.conditioning import Augmented, Conditioning, Labels, SelfConditioned, Together, Unconditional
from sfumato.core.distributions import Noise
from sfumato.core.randomness import ImageNoise
from sfumato.networks import NETWORKS, Embedded
from sfumato.networks.unet import HoUNet
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.presets import PRESETS

SMALL: dict[str, dict[str, Any]] = {name: {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (2,)}
                                    for name in ("ddpm-unet", "improved-unet", "adm-unet", "ncsnpp", "ddpmpp",
                                                 "song-unet", "unet2d")}  # fmt: skip
NUMBERS = Embedded(numbers=9, labels=3)


@dataclass(frozen=True)
class Leaky(Augmented):
    """The same images, of which the network is told nothing."""

    numbers = 0

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        return given

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> dict[str, Tensor]:
        return {}


def fresh(name: str, given: Embedded) -> nn.Module:
    torch.manual_seed(0)
    options = SMALL[name] | ({"head_channels": 4} if name == "adm-unet" else {})
    return NETWORKS[name](**options).build((3, 8, 8), 3, given)


@pytest.mark.parametrize("name", SMALL)
def test_a_fresh_network_told_zeros_is_the_one_without(name: str) -> None:
    plain, told = fresh(name, Embedded(labels=3)).eval(), fresh(name, NUMBERS).eval()
    extra = set(told.state_dict()) - set(plain.state_dict())
    assert extra == {"numbers_embedding.weight"}
    for net in (plain, told):
        for parameter in [p for key, p in net.named_parameters() if "numbers" not in key]:
            with torch.no_grad():
                parameter.copy_(torch.sin(torch.arange(parameter.numel()).float()).view_as(parameter) / 4)
    x, t, y = torch.randn(2, 3, 8, 8), torch.tensor([3.0, 70.0]), torch.tensor([0, 2])
    assert torch.equal(told(x, t, y), plain(x, t, y))
    assert torch.equal(told(x, t, y, numbers=torch.zeros(2, 9)), plain(x, t, y))
    torch.nn.init.normal_(told.get_parameter("numbers_embedding.weight"))
    assert torch.equal(told(x, t, y), plain(x, t, y))
    assert not torch.allclose(told(x, t, y, numbers=torch.ones(2, 9)), plain(x, t, y))
    with pytest.raises(ValueError, match="numbers are"):
        plain(x, t, y, numbers=torch.zeros(2, 9))


@pytest.mark.parametrize("name", ["refinenet", "refinenet-v2", "dpm-image", "encoder-unet"])
def test_other_networks_refuse_in_one_line(name: str) -> None:
    with pytest.raises(ValueError, match=r"numbers of an augmentation|conditioned on the noise level alone"):
        NETWORKS[name]().build((1, 28, 28), 10 if name == "encoder-unet" else 2, Embedded(numbers=9, levels=10))
    for more in (Together((Labels(3), Augmented())), Together((Labels(3), SelfConditioned())), Labels(3, 0.1)):
        with pytest.raises(ValueError, match="told of nothing but its noise level"):
            NoisyClassifier(conditioning=more)
    with pytest.raises(ValueError, match="augmented twice"):
        Together((Augmented(), Augmented(0.2)))


def test_the_command_line_s_words_and_json() -> None:
    both = papers.part_of("conditioning", "labels?dropout=0.1+augmented?p=0.15")
    assert both == Together((Labels(dropout=0.1), Augmented(0.15)))
    assert (both.classes, both.dropout, both.numbers) == (10, 0.1, 9)
    recipe = EDM(conditioning=both)
    assert papers.from_json(papers.to_json(recipe)) == recipe
    with pytest.raises(ValueError, match="did you mean augmented"):
        papers.part_of("conditioning", "labels+augmentd")
    with pytest.raises(ValueError, match="p is between 0 and 1, not 2"):
        papers.part_of("conditioning", "augmented?p=2")


def test_published_presets_of_edm_have_it() -> None:
    found = {name: PRESETS[f"edm/{name}"].recipe.conditioning for name in ("cifar10", "cifar10-classes", "ffhq64")}
    assert found == {"cifar10": Augmented(0.12), "cifar10-classes": Together((Labels(10), Augmented(0.12))),
                     "ffhq64": Augmented(0.15)}  # fmt: skip
    assert PRESETS["edm/imagenet64"].recipe.conditioning.numbers == 0


def bars(n: int) -> Tensor:
    """Images that are bright above and dark below, and never otherwise."""
    x = torch.ones(n, 1, 8, 8)
    x[:, :, 4:] = -1
    return 0.8 * x + 0.05 * torch.randn(n, 1, 8, 8)


class Perceptron(nn.Module):
    """A network small enough to learn the toy in seconds."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(64 + 10, 128), nn.SiLU(), nn.Linear(128, 128), nn.SiLU(),
                                    nn.Linear(128, 64))  # fmt: skip

    def forward(self, x: Tensor, t: Tensor, numbers: Tensor | None = None) -> Tensor:
        told = x.new_zeros(len(x), 9) if numbers is None else numbers
        return self.layers(torch.cat([x.flatten(1), t[:, None] / 1000, told], dim=1)).view_as(x)


def trained(conditioning: Conditioning) -> tuple[FlowMatching, nn.Module]:
    torch.manual_seed(0)
    recipe = FlowMatching((1, 8, 8), conditioning=conditioning)
    built, network = recipe.build(), Perceptron().train()
    optimizer = torch.optim.Adam(network.parameters(), 3e-3)
    for i in range(300):
        optimizer.zero_grad()
        t, _ = built.times.draw(torch.rand(64))
        built.loss(network, bars(64), t, ImageNoise(0, range(64 * i, 64 * i + 64))).mean().backward()
        optimizer.step()
    return recipe, network.eval()


def wrong(recipe: FlowMatching, network: nn.Module) -> float:
    """The share of samples that are not bright above and dark below."""
    built = recipe.build()
    x = torch.randn(200, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        made = samplers.run(built.own, built.gaussian, built.denoise(network, recipe.conditioning.inputs()), x, steps=8)
    contrast = made[:, 0, :4].mean((1, 2)) - made[:, 0, 4:].mean((1, 2))
    return float((contrast < 0.8).double().mean())


@pytest.mark.slow
def test_augmentation_does_not_leak_into_samples() -> None:
    """A network that is told of the turns samples images that were never turned; one that is not, does not."""
    assert wrong(*trained(Augmented(0.3, mirror=0.0))) < 0.1
    assert wrong(*trained(Leaky(0.3, mirror=0.0))) > 0.25


def test_nothing_is_augmented_in_evaluation_or_by_default() -> None:
    recipe, plain = EDM((1, 8, 8), HoUNet(8, (1,), 1, ()), Augmented(1.0)), Unconditional()
    torch.manual_seed(0)
    network, x, t = recipe.model(), bars(4), torch.full((4,), 0.5)
    with torch.no_grad():
        network.eval()
        without = replace(recipe, conditioning=plain).build().loss(network, x, t, ImageNoise(0, range(4)))
        assert torch.equal(recipe.build().loss(network, x, t, ImageNoise(0, range(4))), without)
        network.train()
        assert not torch.equal(recipe.build().loss(network, x, t, ImageNoise(0, range(4))), without)
    assert plain.changed(x, {}, torch.randn_like) == (x, {})
