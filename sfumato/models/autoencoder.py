"""A trained autoencoder, ready to use: images to latents and back (Rombach et al. 2022, section 3.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.data.loader import to_float, to_pixels
from sfumato.models.trained import Trained
from sfumato.networks.autoencoder import AutoencoderNet
from sfumato.papers.autoencoder import ImageAutoencoder

BATCH = 32


@dataclass(frozen=True)
class Autoencoder(Trained[ImageAutoencoder]):
    """A trained autoencoder of images: a diffusion model is trained on its latents, and it makes no pictures itself."""

    @property
    def net(self) -> AutoencoderNet:
        """Its network."""
        assert isinstance(self.network, AutoencoderNet)
        return self.network

    def encode(self, images: Tensor, batch: int = BATCH) -> Tensor:
        """Images, pixels (N, C, H, W) -> the means of their latents (N, c, h, w), float32, on the host."""
        with torch.inference_mode():
            parts = (to_float(part.to(self.device)) for part in images.split(batch))
            return torch.cat([self.net.latents(self.net.moments(part)).cpu() for part in parts])

    def decode(self, latents: Tensor, batch: int = BATCH) -> Tensor:
        """Latents (N, c, h, w) -> images (N, C, H, W) of the depth of the data, on the host."""
        with torch.inference_mode():
            parts = (self.net.decode(part.to(self.device)) for part in latents.split(batch))
            return torch.cat([to_pixels(part, self.recipe.space.levels).cpu() for part in parts])

    def reconstruct(self, images: Tensor, batch: int = BATCH) -> Tensor:
        """Images, pixels (N, C, H, W), on the way through the means of their latents, on the host."""
        return torch.cat([self.decode(self.encode(part, batch), batch) for part in images.split(batch)])


def reconstructions(recipe: ImageAutoencoder, count: int, images: Tensor) -> Callable[[nn.Module], Tensor]:
    """What sets images, spread over uint8 (N, C, H, W), above what a network of an autoencoder makes of them."""
    shown = images[torch.arange(min(count, len(images))) * len(images) // min(count, len(images))].contiguous()

    def preview(network: nn.Module) -> Tensor:
        return torch.cat([shown, Autoencoder(recipe, network).reconstruct(shown)], dim=2)

    return preview
