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


def shrunk(images: Tensor, side: int, proportions: tuple[int, int]) -> Tensor:
    """Pictures (N, C, H, W) -> (N, C, side, side) of their depth, as an upsampler of images (height, width) is trained.

    Of pictures of other proportions the middle is kept, as it is of training images; then comes the mean over areas.
    """
    kept = middle(images, proportions)
    small = F.interpolate(kept.float(), side, mode="area")
    return small.round().to(images.dtype) if levels_of(images) else small


def middle(images: Tensor, proportions: tuple[int, int]) -> Tensor:
    """The largest middle of pictures (N, C, H, W) that has these proportions, of height and width."""
    (height, width), (rows, columns) = images.shape[2:], proportions
    fit = (min(height, round(width * rows / columns)), min(width, round(height * columns / rows)))
    high, wide = (max(1, side) for side in fit)
    top, left = (height - high) // 2, (width - wide) // 2
    return images[:, :, top : top + high, left : left + wide]
