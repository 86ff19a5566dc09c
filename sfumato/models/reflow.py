"""Reflow pairs from a trained model: noise, and what its probability flow makes of it (Liu et al. 2023)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import finish
from sfumato.data.reflow import Pairs
from sfumato.models.decoded import as_pictures
from sfumato.models.generate import Request, denoiser
from sfumato.models.model import Model
from sfumato.noising import INDEPENDENT
from sfumato.papers.recipe import noising_of
from sfumato.runtime.precision import autocast, for_sampling


def check(model: Model) -> None:
    """ValueError for a model without pairs: of few steps, with pictures as inputs, or with no process of Gaussians."""
    model.alone("making pairs for reflow")
    model.of_pixels("making pairs for reflow")
    _ = model.diffusion.gaussian


def pairs(model: Model, keys: Sequence[int], request: Request, labels: Tensor | None) -> Pairs:
    """The pairs of these keys; the noise is that from which `Model.sample` begins, divided by sigma at the end.

    Args:
        labels: (N,) of all keys, for a model with classes.

    Raises: ValueError where the sampler draws noise on the way: what it makes is then no function of where it began.
    """
    diffusion, space, device = model.diffusion, model.recipe.space, model.device
    precision = request.precision_on(device)
    x = diffusion.prior((len(keys), *space.shape(model.recipe.shape)), device).sample(ImageNoise(request.seed, keys))
    chosen = None if labels is None else labels[list(keys)]
    network = for_sampling(model.network, device, precision)
    denoise = denoiser(model, chosen, None, request.scale, network, fed=True)
    sampler = model.sampler(request.sampler)

    def refused(like: Tensor) -> Any:
        raise ValueError("reflow needs a sampler that draws no noise on its way, such as heun, ddim or dpmpp-2m")

    moves = sampler.plan(diffusion.gaussian, denoise, request.steps)
    with torch.inference_mode(), autocast(device, precision):
        end = finish(x, moves, refused)
    sigma = diffusion.gaussian.schedule.alpha_sigma(torch.tensor(diffusion.gaussian.schedule.end))[1]
    return Pairs(as_pictures(space.decode(end), space.levels), (x / sigma).cpu(), chosen)


def check_pairs(recipe: Any, noise: tuple[int, ...]) -> None:
    """ValueError where a recipe, fitted to its images, cannot be trained on pairs of these with noise of this shape."""
    built, wanted = recipe.build(), tuple(recipe.space.shape(recipe.shape))
    if built.sampler is None or built.process is None or built.lower_bound:
        raise ValueError("reflow pairs train models of Gaussian noise, such as flow matching; this is none")
    if wanted != noise:
        raise ValueError(f"the noise of these pairs is {noise}, and the model's space has {wanted}")
    if recipe.conditioning.numbers:
        raise ValueError("the pictures of reflow pairs stay as they are: leave the augmentation out")
    if noising_of(recipe) != INDEPENDENT:
        raise ValueError("reflow pairs bring their noise: leave --recipe.noising out")
