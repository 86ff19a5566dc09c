"""Pictures of which a part is known: fill the rest in, or colour what is grey, with any model that makes pictures.

What is known is put back after each step, as noisy as the step is (Song et al. 2021, appendix I; Song & Ermon 2019,
algorithm 2; `core.projection.Projection`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.core.projection import GREY, Projection, greyness, projected
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import finish
from sfumato.core.times import Steps
from sfumato.data.loader import to_float, to_uint8
from sfumato.model import Model, Sampler, ancestral
from sfumato.papers.recipe import Classifying, low_res_side


def inpaint(model: Model, images: Tensor, known: Tensor, **options: Any) -> Tensor:
    """Pictures that agree with the images where these are known, uint8 (n, C, H, W).

    Args:
        images: uint8 (n, C, H, W); what is not known does not matter.
        known: True where an image is known, broadcasting against the images, for example (H, W).
        options: see `restored`.
    """
    if known.dtype != torch.bool:
        raise ValueError(f"known is true or false at each pixel, not {known.dtype}")
    try:
        torch.broadcast_shapes(known.shape, images.shape)
    except RuntimeError:
        raise ValueError(f"known is {tuple(known.shape)}, which does not fit images {tuple(images.shape)}") from None
    return restored(model, images, known, None, **options)


def colourise(model: Model, images: Tensor, **options: Any) -> Tensor:
    """Colour pictures whose grey, the mean of red, green and blue, is the images', uint8 (n, 3, H, W).

    Args:
        images: uint8 (n, 3, H, W), grey or not, or (n, 1, H, W).
        options: see `restored`.
    """
    if model.recipe.shape[0] != 3:
        raise ValueError(f"colouring needs a model of colour images; this one makes {model.recipe.shape}")
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    return restored(model, images, greyness(images), GREY, **options)


def restored(
    model: Model,
    images: Tensor,
    known: Tensor,
    basis: Tensor | None,
    *,
    steps: Steps = None,
    sampler: Sampler = ancestral,
    labels: Tensor | None = None,
    seed: int = 0,
    batch: int = 64,
) -> Tensor:
    """Pictures with the known coordinates of the images.

    Args:
        steps, sampler: the walk from noise, see `Model.sample`; the recipe's own steps, all of them, by default.
        labels: (n,) for a model with classes, one a picture.
        seed: the noise of picture i follows from (seed, i).
        batch: pictures at a time, which bounds the memory.

    Raises: ValueError where the images do not fit the model, or the model makes no pictures out of noise alone.
    """
    recipe = model.recipe
    if isinstance(recipe, Classifying) or low_res_side(recipe):
        raise ValueError("restoring needs a model that makes pictures out of noise alone")
    if images.dtype != torch.uint8 or tuple(images.shape[1:]) != recipe.shape:
        raise ValueError(f"the model works on uint8 images of {recipe.shape}, not {tuple(images.shape[1:])}")
    if recipe.classes and labels is None:
        raise ValueError("this model was trained with classes, so each picture needs its label")
    done = []
    for keys in torch.arange(len(images)).split(batch):
        inputs: dict[str, Any] = {}
        if labels is not None and recipe.classes:
            inputs["y"] = labels[keys].to(model.device)
        x0 = to_float(images[keys].to(model.device))
        part = known[keys] if known.ndim == images.ndim and len(known) == len(images) else known
        projection = Projection(recipe.process(), x0, part.to(model.device), basis)
        noise = ImageNoise(seed, keys.tolist())
        with torch.inference_mode():
            moves = sampler(recipe, recipe.denoiser(model.network, **inputs), steps)
            x = recipe.prior(tuple(x0.shape), model.device).sample(noise)
            done.append(to_uint8(finish(x, projected(moves, projection), noise)).cpu())
    return torch.cat(done)
