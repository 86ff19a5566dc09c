"""Latent diffusion (Rombach et al. 2022): the space of an autoencoder's latents, scaled to variance 1.

The autoencoder's weights lie beside those of the diffusion network, as buffers of its module `autoencoder`: a file of a
model then holds both, and neither the optimiser nor an average of the weights changes them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

import torch
from torch import Tensor, nn

from sfumato.core.distributions import Noise
from sfumato.fields import Length
from sfumato.networks.autoencoder import AutoencoderNet, ConvAutoencoder
from sfumato.networks.backbone import bare
from sfumato.spaces.base import Deviation, Space

BESIDE = "autoencoder"
"""The name of the module beside those of the network."""


NO_LIKELIHOOD = "the density of latents is not that of pictures: an autoencoder that loses something has no inverse"


def frozen(module: nn.Module) -> nn.Module:
    """The module with buffers in the place of its parameters, so that nothing trains or averages them."""
    for part in module.modules():
        for name, value in list(part.named_parameters(recurse=False)):
            delattr(part, name)
            part.register_buffer(name, value.detach())
    return module


@dataclass(frozen=True)
class Latents(Space):
    """The latents of an autoencoder (latent diffusion), centred and divided by their deviation, channel by channel."""

    of: str = ""
    """The autoencoder: a run folder or a file; its weights are taken into the model when training begins."""
    network: ConvAutoencoder = ConvAutoencoder()
    """The autoencoder's network; taken from it."""
    mean: Annotated[tuple[float, ...], Length(0, 256)] = ()
    """Of the latents of the data, by channel; measured."""
    std: Annotated[tuple[Deviation, ...], Length(0, 256)] = ()
    """Likewise; the numbers 1 / std take the place of the factor 0.18215 of one published model."""
    sha256: str = ""
    """Of the autoencoder's weights."""

    keeps_pixels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if {len(self.mean), len(self.std)} - {0, self.network.latent} or len(self.mean) != len(self.std):
            raise ValueError(f"latents have a mean and a deviation for each of {self.network.latent} channels")

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        raise ValueError("images become latents by an autoencoder, whose weights a trained model has")

    def decode(self, x: Tensor) -> Tensor:
        raise ValueError("latents become images by an autoencoder, whose weights a trained model has")

    def attach(self, network: nn.Module, shape: tuple[int, ...]) -> nn.Module:
        """The network, with the autoencoder beside it."""
        network.add_module(BESIDE, frozen(self.network.build(shape, shape[0])))
        return network

    def bound(self, network: nn.Module) -> Space:
        return BoundLatents(self, getattr(bare(network), BESIDE))

    @property
    def range(self) -> tuple[float, float]:
        """Unbounded."""
        return -torch.inf, torch.inf

    @property
    def log_volume(self) -> float:
        raise ValueError(NO_LIKELIHOOD)

    @property
    def deviation(self) -> float:
        return 1.0

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.network.latents(shape)


@dataclass(frozen=True)
class BoundLatents(Space):
    """Latents with the autoencoder that makes them."""

    space: Latents
    """What they are scaled by."""
    net: AutoencoderNet

    keeps_pixels: ClassVar[bool] = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "levels", self.space.levels)
        object.__setattr__(self, "values", self.space.values)

    @property
    def range(self) -> tuple[float, float]:
        return self.space.range

    @property
    def log_volume(self) -> float:
        return self.space.log_volume

    @property
    def deviation(self) -> float:
        return self.space.deviation

    def shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.space.shape(shape)

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        """Images (B, C, H, W) in [-1, 1] -> latents of variance 1; drawn from the posterior, or its mean."""
        return self.drawn(self.moments(images), noise)

    def moments(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return self.net.moments(images.float())

    def drawn(self, moments: Tensor, noise: Noise | None = None) -> Tensor:
        z = self.net.latents(moments, noise)
        return (z - self._column(self.space.mean, z)) / self._column(self.space.std, z) if self.space.std else z

    def decode(self, x: Tensor) -> Tensor:
        """Latents (B, c, h, w) -> images (B, C, H, W) in [-1, 1], nearly."""
        z = x.float()
        if self.space.std:
            z = z * self._column(self.space.std, z) + self._column(self.space.mean, z)
        with torch.autocast(x.device.type, enabled=False):
            return self.net.decode(z)

    def _column(self, values: tuple[float, ...], like: Tensor) -> Tensor:
        """(c, 1, 1)."""
        return torch.tensor(values, dtype=like.dtype, device=like.device)[:, None, None]
