"""The autoencoder's loss beside its parts, and what it is not."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import papers
from sfumato.conditioning import Labels
from sfumato.core.randomness import ImageNoise
from sfumato.data import open_source
from sfumato.fitting import previews
from sfumato.models import Autoencoder
from sfumato.networks.autoencoder import ConvAutoencoder, kl_divergence
from sfumato.networks.unet import HoUNet
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.autoencoder import ImageAutoencoder
from sfumato.papers.training import TrainConfig
from sfumato.spaces import UnitPixels

TINY = ConvAutoencoder(8, (1, 2), blocks=1, latent=2)
RECIPE = ImageAutoencoder((1, 8, 8), TINY)


def images(n: int) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


def loss(recipe: ImageAutoencoder, net: Any, x: Tensor) -> Tensor:
    return recipe.build().loss(net, x, torch.ones(len(x)), ImageNoise(0, range(len(x))))


def test_error_and_divergence_are_both_of_an_image() -> None:
    """Rombach et al. sum both; divided by the numbers of an image, as the loss here."""
    recipe, x = replace(RECIPE, kl_weight=0.3), images(3)
    net: Any = recipe.model()
    mean, log_variance = net.moments(x).chunk(2, dim=1)
    back = net.decode(net.latents(net.moments(x), ImageNoise(0, range(3))))
    both = (back - x).abs().flatten(1).sum(1) + 0.3 * kl_divergence(mean, log_variance)
    assert torch.allclose(loss(recipe, net, x), both / 64, rtol=1e-5)
    squared = replace(recipe, error="l2", kl_weight=0.0)
    assert torch.allclose(loss(squared, net, x), (back - x).square().flatten(1).mean(1), rtol=1e-5)


def test_a_codebook_has_a_commitment_in_the_place_of_the_divergence() -> None:
    recipe, x = replace(RECIPE, network=replace(TINY, codes=6), commitment=0.25), images(3)
    net: Any = recipe.model()
    coded = net(x)
    error = (coded.image - x).abs().flatten(1).mean(1)
    assert torch.allclose(loss(recipe, net, x), error + coded.penalty + 0.25 * coded.commitment)
    assert torch.equal(loss(recipe, net, x), loss(replace(recipe, kl_weight=1.0), net, x))


def test_edges_count_where_they_are_weighed() -> None:
    x = images(2)
    net: Any = RECIPE.model()
    back = net.decode(net.latents(net.moments(x), ImageNoise(0, range(2)))) - x
    edges = back.diff(dim=2).abs().flatten(1).mean(1) + back.diff(dim=3).abs().flatten(1).mean(1)
    more = loss(replace(RECIPE, gradient=2.0), net, x) - loss(RECIPE, net, x)
    assert torch.allclose(more, 2 * edges, rtol=1e-4)


def test_it_survives_json_and_makes_no_pictures() -> None:
    assert papers.from_json(papers.to_json(RECIPE)) == RECIPE
    built = RECIPE.build()
    assert built.sampler is None
    assert built.process is None
    x = images(2)
    net: Any = RECIPE.model()
    assert torch.equal(built.reconstruct(net)(x), net(x).image)


def test_a_recipe_makes_pictures_or_tells_classes_or_reconstructs() -> None:
    can: dict[str, set[str]] = {"sampler": set(), "classify": set(), "reconstruct": set()}
    for name, kind in papers.PAPERS.items():
        built = kind().build()
        for capability, those in can.items():
            if getattr(built, capability) is not None:
                those.add(name)
    assert can["classify"] == {"adm_classifier"}
    assert can["reconstruct"] == {"autoencoder"}
    assert can["sampler"] == {*papers.PAPERS} - {"adm_classifier", "autoencoder"}


def test_previews_of_an_autoencoder_are_held_out_images_above_their_reconstructions() -> None:
    data, settings = open_source("digits:test?limit=20"), TrainConfig(preview_images=5)
    with torch.device("meta"):
        bare = RECIPE.model()
    preview = previews(RECIPE, bare, settings, data, data)
    assert preview is not None
    torch.manual_seed(0)
    net = RECIPE.model().eval()
    shown = preview(net)
    chosen = data.images[::4]
    assert torch.equal(shown, torch.cat([chosen, Autoencoder(RECIPE, net).reconstruct(chosen)], dim=2))
    assert previews(RECIPE, bare, replace(settings, preview_images=0), data, data) is None
    classifier = NoisyClassifier((1, 8, 8), conditioning=Labels(10))
    assert previews(classifier, bare, settings, data, data) is None


@pytest.mark.parametrize(
    ("given", "message"),
    [({"network": HoUNet()}, "network is a ConvAutoencoder"), ({"conditioning": Labels(3)}, "conditioned on nothing"),
     ({"space": UnitPixels()}, "sees pixels"), ({"error": "l3"}, "error is one of l1, l2"),
     ({"kl_weight": -1.0}, "kl_weight is between 0 and 1,000")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **given)
