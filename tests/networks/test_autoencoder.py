"""Autoencoders: the KL divergence in closed form, straight-through gradients, nearest codes, published sizes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Normal, kl_divergence

from sfumato.networks import autoencoder
from sfumato.networks.autoencoder import AutoencoderNet, Codebook, ConvAutoencoder, straight_through

TINY = ConvAutoencoder(8, (1, 2), blocks=1, latent=2)
CODED = ConvAutoencoder(8, (1, 2), blocks=1, latent=2, codes=5)


def some(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def test_the_divergence_is_that_of_gaussians() -> None:
    mean, log_variance = some(3, 2, 4, 4).double(), some(3, 2, 4, 4).double().flip(0)
    ours = autoencoder.kl_divergence(mean, log_variance)
    theirs = kl_divergence(Normal(mean, (log_variance / 2).exp()), Normal(0.0, 1.0)).flatten(1).sum(1)
    assert torch.allclose(ours, theirs)
    assert autoencoder.kl_divergence(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0


def test_draws_have_the_moments_of_the_posterior() -> None:
    net = TINY.build((1, 8, 8), 1)
    moments = torch.cat([torch.full((4000, 2, 1, 1), 0.7), torch.full((4000, 2, 1, 1), -1.2)], 1)
    z = net.latents(moments, lambda like: some(*like.shape))
    assert float(z.mean()) == pytest.approx(0.7, abs=0.02)
    assert float(z.var()) == pytest.approx(float(torch.tensor(-1.2).exp()), rel=0.05)
    assert torch.equal(net.latents(moments), moments[:, :2])


def test_each_place_gets_the_nearest_code() -> None:
    book, z = Codebook(7, 3), some(2, 3, 4, 4)
    nn.init.normal_(book.weight, generator=torch.Generator().manual_seed(1))
    distances = torch.cdist(z.movedim(1, -1).reshape(-1, 3), book.weight)
    assert torch.equal(book.indices(z).flatten(), distances.argmin(1))
    assert torch.equal(book(z)[1, :, 2, 3], book.weight[book.indices(z)[1, 2, 3]])


def test_the_gradient_passes_the_quantisation_unchanged() -> None:
    """Straight through: that of the latents is that of their codes; the codes have none of the reconstruction."""
    book, z = Codebook(5, 2), some(2, 2, 3, 3).requires_grad_()
    weights = some(2, 2, 3, 3).flip(0)
    passed = straight_through(z, book(z))
    assert torch.allclose(passed, book(z))
    (passed * weights).sum().backward()
    assert z.grad is not None
    assert torch.equal(z.grad, weights)
    assert book.weight.grad is None or not book.weight.grad.any()


def test_codes_and_encoder_learn_from_their_own_losses() -> None:
    net = CODED.build((1, 8, 8), 1)
    x = some(2, 1, 8, 8)
    coded = net(x)
    assert torch.allclose(coded.penalty, coded.commitment)  # the same distance, for two sides
    coded.penalty.sum().backward(retain_graph=True)
    assert net.codebook is not None
    assert net.codebook.weight.grad is not None
    assert net.codebook.weight.grad.any()
    assert all(p.grad is None or not p.grad.any() for p in net.encoder.parameters())
    net.zero_grad()
    coded.commitment.sum().backward()
    assert net.codebook.weight.grad is None or not net.codebook.weight.grad.any()
    assert any(p.grad is not None and p.grad.any() for p in net.encoder.parameters())


@pytest.mark.parametrize(
    ("multipliers", "latent", "parameters"), [((1, 2, 4, 4), 4, 83_653_863), ((1, 2, 4), 3, 55_312_063)]
)
def test_published_sizes(multipliers: tuple[int, ...], latent: int, parameters: int) -> None:
    """KL-f8 with four channels is the autoencoder of Stable Diffusion."""
    with torch.device("meta"):
        net = ConvAutoencoder(128, multipliers, 2, latent).build((3, 256, 256), 3)
    assert sum(p.numel() for p in net.parameters()) == parameters


@pytest.mark.parametrize("network", [TINY, CODED])
def test_shapes_and_what_does_not_fit(network: ConvAutoencoder) -> None:
    net = network.build((3, 16, 8), 3)
    x = some(2, 3, 16, 8)
    assert net(x).image.shape == x.shape
    assert net.latents(net.moments(x)).shape == (2, *network.latents((3, 16, 8))) == (2, 2, 8, 4)
    with pytest.raises(ValueError, match="sides that it divides, not 9 x 8"):
        network.build((3, 9, 8), 3)
    for wrong in (some(1, 1, 8, 8), some(1, 3, 8, 7)):
        with pytest.raises(ValueError, match="takes images of 3 channels whose sides are multiples of 2"):
            net.moments(wrong)
    with pytest.raises(ValueError, match="no network of a diffusion model"):
        net(x, torch.ones(2))


def test_decoding_quantises_first() -> None:
    net = CODED.build((1, 8, 8), 1).eval()
    z = some(1, 2, 4, 4)
    assert isinstance(net, AutoencoderNet)
    assert net.codebook is not None
    assert torch.equal(net.decode(z), net.decode(net.codebook(z)))


def test_patches_are_folded_into_channels_and_back() -> None:
    """Of patches p the network is that of images of p^2 times the channels and a p-th of the sides."""
    folded, plain = replace(TINY, patch=2).build((3, 16, 8), 3), TINY.build((12, 8, 4), 12)
    assert isinstance(folded, AutoencoderNet)
    assert isinstance(plain, AutoencoderNet)
    plain.load_state_dict(folded.state_dict())
    x = some(2, 3, 16, 8)
    z = folded.latents(folded.moments(x))
    assert torch.equal(z, plain.latents(plain.moments(F.pixel_unshuffle(x, 2))))
    assert z.shape == (2, *replace(TINY, patch=2).latents((3, 16, 8))) == (2, 2, 4, 2)
    assert torch.equal(folded.decode(z), F.pixel_shuffle(plain.decode(z), 2))
    assert torch.equal(folded(x).image, folded.decode(z))
    with pytest.raises(ValueError, match="f = 4 needs sides that it divides, not 18 x 8"):
        replace(TINY, patch=2).build((3, 18, 8), 3)
    with pytest.raises(ValueError, match="whose sides are multiples of 4"):
        folded.moments(some(1, 3, 8, 6))
