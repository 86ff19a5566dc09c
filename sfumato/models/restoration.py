"""Image restoration with any model that makes pictures: inpainting and colourisation by replacement.

What is known is put back after each step, as noisy as the step is (Song et al. 2021, appendix I; Song & Ermon 2019,
algorithm 2; `core.inpainting`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.core.inpainting import GREY, Replacement, greyness, with_replacement
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Sampler, finish
from sfumato.core.schedules import Steps
from sfumato.data.loader import to_float, to_uint8
from sfumato.models.model import Model


def inpaint(model: Model, images: Tensor, known: Tensor, **options: Any) -> Tensor:
    """Inpainting: pictures that agree with the images where these are known, uint8 (n, C, H, W).

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
    """Colourisation: pictures whose grey, the mean of red, green and blue, is the images', uint8 (n, 3, H, W).

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
    sampler: Sampler | str = "own",
    labels: Tensor | None = None,
    seed: int = 0,
    batch: int = 64,
) -> Tensor:
    """Restore pictures with the known coordinates of the images, uint8 (n, C, H, W).

    Args:
        steps, sampler: see `Model.sample`; the paper's own sampler in all its steps by default.
        labels: (n,) for a model with classes, one a picture.
        seed: the noise of picture i follows from (seed, i).
        batch: pictures at a time, which bounds the memory.

    Raises: ValueError where the images do not fit the model, or the model makes no pictures out of noise alone.
    """
    model.check_images(images, labels, "restoring")
    chosen, process, space = model.sampler(sampler), model.diffusion.gaussian, model.recipe.space
    done = []
    for keys in torch.arange(len(images)).split(batch):
        x0 = space.encode(to_float(images[keys].to(model.device)))
        part = known[keys] if known.ndim == images.ndim and len(known) == len(images) else known
        replacement = Replacement(process, x0, part.to(model.device), basis)
        noise = ImageNoise(seed, keys.tolist())
        with torch.inference_mode():
            denoise = model.denoiser(None if labels is None else labels[keys])
            moves = with_replacement(chosen.plan(process, denoise, steps), replacement)
            x = model.diffusion.prior(tuple(x0.shape), model.device).sample(noise)
            done.append(to_uint8(space.decode(finish(x, moves, noise))).cpu())
    return torch.cat(done)
