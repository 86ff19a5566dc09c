"""What a space makes of the training images, computed once: the moments of latents (Rombach et al. 2022).

The latents themselves are drawn anew each time that an image is seen.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from sfumato.data.loader import to_float
from sfumato.data.sources import Images
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig

BATCH = 32
MOST = 1 << 31
"""Bytes of moments that are kept, at most; of more images they are computed when needed."""


@torch.no_grad()
def encoded_once(recipe: Trainable, network: nn.Module, images: Images, settings: TrainConfig) -> Images:
    """The images with their moments, where the space encodes by weights beside the network, and that pays.

    Pictures that are read while training goes on, are mirrored or have several sizes are encoded when they are seen.
    """
    if recipe.space.keeps_pixels or images.stream is not None or images.buckets or settings.flip:
        return images
    space = recipe.space.bound(network)
    device = next(network.parameters()).device

    def of(part: Tensor) -> Tensor:
        return space.moments(to_float(part.to(device))).cpu()

    first = of(images.images[:1])
    if first.nbytes * len(images) > MOST:
        return images
    moments = torch.empty(len(images), *first.shape[1:])
    for chosen, part in zip(moments.split(BATCH), images.images.split(BATCH), strict=True):
        chosen.copy_(of(part))
    return replace(images, moments=moments)
