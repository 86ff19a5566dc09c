"""PSNR in closed form, and what is said of latents and codes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from sfumato.data import open_source
from sfumato.evaluate.reconstruction import psnr, reconstruction
from sfumato.models import Autoencoder
from sfumato.networks.autoencoder import ConvAutoencoder
from sfumato.papers.autoencoder import ImageAutoencoder

RECIPE = ImageAutoencoder((1, 8, 8), ConvAutoencoder(8, (1, 2), blocks=1, latent=2))


def made(recipe: ImageAutoencoder) -> Autoencoder:
    torch.manual_seed(0)
    return Autoencoder(recipe, recipe.model().eval())


def test_psnr_is_that_of_a_constant_error() -> None:
    images = torch.full((70, 1, 4, 4), 100, dtype=torch.uint8)
    assert psnr(images, images + 16) == pytest.approx(20 * math.log10(255 / 16))
    assert psnr(images, images) == math.inf


def test_a_reconstruction_is_measured_with_its_latents() -> None:
    model, images = made(RECIPE), open_source("digits:test?limit=60")
    found = reconstruction(model, images)
    latents = model.encode(images.images)
    assert found.psnr == pytest.approx(psnr(images.images, model.reconstruct(images.images)))
    assert found.std == pytest.approx(latents.std((0, 2, 3)).tolist(), rel=1e-5)
    assert found.mean == pytest.approx(latents.mean((0, 2, 3)).tolist(), rel=1e-4, abs=1e-6)
    assert found.distance.startswith("FD-digits")
    assert found.codes is None
    assert "PSNR" in "\n".join(found.lines())


def test_the_use_of_a_codebook() -> None:
    model = made(replace(RECIPE, network=replace(RECIPE.network, codes=16)))
    images = open_source("digits:test?limit=60")
    found = reconstruction(model, images)
    assert found.used is not None
    assert found.perplexity is not None
    assert 1 <= found.perplexity <= found.used <= 16
    assert model.net.codebook is not None
    with torch.no_grad():  # all latents at one code: one is used
        model.net.codebook.weight[1:] = 1e6
    assert reconstruction(model, images).used == 1
    assert reconstruction(model, images).perplexity == pytest.approx(1)


def test_other_images_are_refused() -> None:
    with pytest.raises(ValueError, match="is of images"):
        reconstruction(made(RECIPE), open_source("emoji32:test?limit=10"))
