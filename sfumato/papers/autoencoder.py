"""The autoencoder of latent diffusion (Rombach et al. 2022, section 3.1 and appendix G; Esser et al. 2021).

It is trained before the diffusion model, on images alone. The papers' perceptual and adversarial losses are left out:
the first needs a network of others, the second a discriminator, so that reconstructions are smoother than theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core.diffusion import Autoencoding
from sfumato.core.distributions import Noise
from sfumato.core.times import UniformLevels
from sfumato.fields import Range
from sfumato.networks.autoencoder import Coded, ConvAutoencoder
from sfumato.papers.recipe import Shape, check_dims, check_fields
from sfumato.spaces import Pixels, Space

Weight = Annotated[float, Range(0, 1000)]


@dataclass(frozen=True)
class ImageAutoencoder:
    """The autoencoder whose latents a diffusion model is trained on; the defaults are the paper's KL-f4."""

    shape: Shape = (3, 256, 256)
    """Channels, height and width of an image; taken from the data set."""
    network: ConvAutoencoder = ConvAutoencoder()
    """Encoder and decoder; its `codes` choose between Gaussian latents and a codebook."""
    conditioning: Conditioning = Unconditional()
    """None: classes belong to the diffusion model."""
    space: Space = Pixels()
    """What it sees of an image."""
    error: Literal["l1", "l2"] = "l1"
    """The reconstruction error, absolute or squared."""
    kl_weight: Weight = 1e-6
    """Weight of the KL divergence, both it and the error summed over an image (appendix G); without a codebook."""
    commitment: Weight = 0.25
    """Weight of the distance of latents to their codes (van den Oord et al. 2017, eq. 3); with a codebook."""
    gradient: Weight = 0.0
    """Weight of the error of differences between neighbouring pixels, which keeps edges sharp; not in the papers."""

    def __post_init__(self) -> None:
        check_fields(self)
        if type(self.conditioning) is not Unconditional:
            raise ValueError("an autoencoder is conditioned on nothing; the diffusion model of its latents can be")
        if type(self.space) is not Pixels:
            raise ValueError("an autoencoder sees pixels, as they are")

    def model(self) -> nn.Module:
        check_dims(self.network, self.shape)
        return self.network.build(self.shape, self.shape[0])

    def build(self) -> Autoencoding:
        def loss(
            network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
        ) -> Tensor:
            coded: Coded = network(images, noise)
            error = self.difference(coded.image.float() - images)
            if self.gradient:
                edges = (self.difference((coded.image.float() - images).diff(dim=axis)) for axis in (2, 3))
                error = error + self.gradient * sum(edges)
            return error + self.penalty(coded)

        def reconstruct(network: nn.Module) -> Callable[[Tensor], Tensor]:
            return lambda images: network(images).image

        return Autoencoding(reconstruct, loss, UniformLevels(1))

    def difference(self, error: Tensor) -> Tensor:
        """The mean error of each image, (B,)."""
        return (error.abs() if self.error == "l1" else error.square()).flatten(1).mean(1)

    def penalty(self, coded: Coded) -> Tensor:
        """What keeps the latents regular, (B,), in the units of the mean error."""
        if self.network.codes:
            return coded.penalty + self.commitment * coded.commitment
        return self.kl_weight * coded.penalty / math.prod(self.shape)
