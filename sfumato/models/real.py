"""Real images for a model: those that fit it, so many of a set, with their labels where the model has classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.core.randomness import ImageNoise
from sfumato.data.loader import levels_of, to_float, to_pixels
from sfumato.data.sources import Images
from sfumato.models.model import Model
from sfumato.papers.recipe import Recipe


def check_fit(model: Model, images: Images) -> None:
    """ValueError where a data set has another shape than the model's images, or not its classes."""
    if images.shape != model.recipe.shape:
        raise ValueError(f"the model makes {model.recipe.shape} images, {images.spec} has {images.shape}")
    if model.recipe.conditioning.classes and (images.labels is None or images.classes != model.classes):
        raise ValueError(f"the model was trained with classes that {images.spec} does not have")


def spread(model: Model, images: Images, limit: int | None = None) -> tuple[Tensor, Tensor | None]:
    """Images (n, C, H, W) spread over a set, at most `limit`, and the labels that the model needs (n,)."""
    check_fit(model, images)
    count = min(limit or len(images), len(images))
    chosen = torch.arange(count) * len(images) // count
    labels = images.labels if model.recipe.conditioning.classes else None
    return images.images[chosen], None if labels is None else labels[chosen]


def inputs_of(recipe: Recipe, images: Images, n: int, seed: int = 0) -> Tensor:
    """What a model of this recipe is given for the first n images, (n, C', h, w): the inputs of pairs, or what is
    made of the images as in training, at random where that is so. ValueError where there are none."""
    if images.inputs is not None:
        return images.inputs[:n]
    whole = images.images[:n]
    made = recipe.conditioning.made(to_float(whole), ImageNoise(seed, range(len(whole))))
    if made is None:
        raise ValueError(f"{images.spec} holds no pairs of inputs and images")
    return to_pixels(made, levels_of(whole))


def shrunk(images: Tensor, side: int) -> Tensor:
    """Pictures (N, C, H, W) -> (N, C, side, side) of their depth, by the mean over areas, as upsamplers are trained."""
    small = F.interpolate(images.float(), side, mode="area")
    return small.round().to(images.dtype) if levels_of(images) else small
