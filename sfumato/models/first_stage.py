"""The first stage of latent diffusion (Rombach et al. 2022): an autoencoder is taken into a space, and measured there.

What a model keeps of it are the space, as plain values, and the weights, which lie beside its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sfumato.core.randomness import ImageNoise
from sfumato.data.loader import to_float
from sfumato.models.autoencoder import Autoencoder
from sfumato.models.loading import load
from sfumato.networks.autoencoder import AutoencoderNet, ConvAutoencoder
from sfumato.runtime.weights import fingerprint
from sfumato.spaces import Latents
from sfumato.spaces.latents import BESIDE
from sfumato.spaces.measuring import mean_and_variance

MOST = 2_000
"""Images that mean and deviation of the latents are measured on, at most, spread over the set."""
BATCH = 32
MISSING = (
    'a model of latents needs an autoencoder: --recipe.space "latents?of=RUN", a run that is trained before it by, '
    "for example, sfumato train autoencoder/emoji128"
)


def first_stage(space: Latents, images: Tensor, device: str = "cpu") -> tuple[Latents, dict[str, Tensor]]:
    """The space of the latents of images, uint8 (N, C, H, W), by the autoencoder that it names, and its weights.

    Args:
        space: its `of` is a run folder or a file of an autoencoder, or of a model of latents.

    Returns: the space with the autoencoder's network and the measured mean and deviation; the weights by their names
        beside a network.

    Raises: ValueError where there is no autoencoder, or it is one of other images.
    """
    network, net = _found(space.of)
    shape = tuple(images.shape[1:])
    if len(shape) != 3:
        raise ValueError("latents are of pictures (C, H, W); signals and clips have no autoencoder here")
    if net.in_channels != shape[0]:
        raise ValueError(f"{space.of} is an autoencoder of {net.in_channels} channels, these images have {shape[0]}")
    network.latents(shape)
    count = min(MOST, len(images))
    mean, std = measured(net.to(device), images[torch.arange(count) * len(images) // count])
    weights = {f"{BESIDE}.{name}": value.cpu() for name, value in net.state_dict().items()}
    scaled = replace(space, network=network, mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    return replace(scaled, sha256=fingerprint(weights)), weights


def with_first_stage(recipe: Any, images: Tensor, device: str) -> tuple[Any, dict[str, Tensor] | None]:
    """A recipe whose space is fitted to images, uint8 (N, C, H, W), by the autoencoder that it names, and its weights;
    as it is, and None, where it is one of pixels.

    Raises: ValueError as `first_stage`, and for a model that is given pictures.
    """
    if not isinstance(recipe.space, Latents):
        return recipe, None
    if recipe.conditioning.pictured:
        raise ValueError("a model of latents cannot be given pictures, whose pixels belong to none of its numbers")
    space, weights = first_stage(recipe.space, images, device)
    return replace(recipe, space=space), weights


def _found(target: str) -> tuple[ConvAutoencoder, AutoencoderNet]:
    """The autoencoder of a run or file: its network, as values and as a module."""
    if not target:
        raise ValueError(MISSING)
    loaded = load(target)
    if isinstance(loaded, Autoencoder):
        return loaded.recipe.network, loaded.net
    space = loaded.recipe.space
    if not isinstance(space, Latents):
        raise ValueError(f"{target} is no autoencoder, nor a model of latents; {MISSING}")
    held = getattr(loaded.network, BESIDE)
    assert isinstance(held, AutoencoderNet)
    return space.network, held


@torch.no_grad()
def measured(net: AutoencoderNet, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of the latents of images, uint8 (N, C, H, W), by channel, float64; those of draws
    from the posterior, of which image i's follows from (0, i)."""
    device = next(iter(net.state_dict().values())).device

    def latents() -> Iterator[Tensor]:
        for keys in torch.arange(len(images)).split(BATCH):
            moments = net.moments(to_float(images[keys].to(device)))
            z = net.latents(moments, ImageNoise(0, keys.tolist()))
            yield z.cpu().transpose(0, 1).flatten(1)

    mean, variance = mean_and_variance(latents())
    return mean, variance.clamp(min=1e-12).sqrt()
