"""The variational bound (VLB, minus the ELBO) of images under a model's own chain, in bits per dimension.

Ho et al. 2020, eq. 5 and section 4.3; Nichol & Dhariwal 2021, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sfumato.core.likelihood import BIT, Bound, variational_bound
from sfumato.core.randomness import ImageNoise, mix
from sfumato.core.schedules import Steps
from sfumato.data.loader import levels_of, to_float
from sfumato.data.sources import Images
from sfumato.likelihood.report import REAL, Report, means, protocol_of
from sfumato.models.model import Model
from sfumato.models.real import spread
from sfumato.runtime.workers import WorkerPool, batches, distribute

PICTURES = 1
"""Of the random numbers of a seed, those of what is made of the images, such as holes."""

FIELDS = ("prior", "terms", "x0_error", "eps_error")


def bound_of(
    model: Model,
    images: Images,
    *,
    steps: Steps = None,
    limit: int | None = None,
    seed: int = 0,
    batch: int = 256,
    pool: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """The variational bound of images under a model, in float32, with the mean clipped as in sampling.

    Args:
        steps: the chain, see `Model.sample`; None takes every level.
        limit: only so many images, spread over the set.
        seed: noise of image i depends on (seed, i) alone.
        pool: processes that share the images, batch by batch, and load this very model.
        progress: called with the number of images that are done.

    Returns: a report whose details are the prior, the decoder and the mean of each term, from noise to data; in
        bits/dim of images of 8 or of 16 bits, in nats/dim of real numbers, whose decoder is a density.

    Raises:
        ValueError: a model without a decoder, images of another shape or without the labels that the model needs.
    """
    diffusion, space = model.diffusion, model.recipe.space
    model.of_pixels("a likelihood")
    if diffusion.variance is None or space.range != (-1, 1):
        raise ValueError(f"{type(model.recipe).__name__} has no decoder and so no variational bound")
    chosen, labels = spread(model, images, limit)
    times = diffusion.gaussian.schedule.times(steps)
    work = partial(_bound, images=chosen, labels=labels, times=times, seed=seed)
    parts = distribute(work, model, batches(len(chosen), batch), pool, progress)
    bound = Bound(times, *(torch.cat([getattr(part, name) for part in parts]) for name in FIELDS))
    levels = levels_of(chosen)
    unit, size = ("bits/dim", 1.0) if levels else ("nats/dim", BIT)
    decoder = f"Gaussian in {levels} bins, width of the second level" if levels else f"Gaussian density, {REAL}"
    protocol = protocol_of(
        model, images, len(chosen), seed, levels=len(times) - 1, clipped=diffusion.clip is not None, decoder=decoder,
        precision="float32",
    )  # fmt: skip
    details = {
        "prior": size * float(bound.prior.double().mean()), "decoder": size * float(bound.terms[:, -1].double().mean()),
        "levels": times[:-1].tolist(), "terms": means(size * bound.terms), "rate": means(size * bound.rate),
        "distortion": means(bound.distortion), "eps_error": means(bound.eps_error),
    }  # fmt: skip
    total = size * bound.total.double()
    bits = float(total.mean()) if levels else None
    return Report("variational bound", unit, total[None], bits, protocol, details)


def _bound(model: Model, keys: range, *, images: Tensor, labels: Tensor | None, times: Tensor, seed: int) -> Bound:
    """The bound of the images of these keys, on the host; images and labels are those of all keys."""
    mine, variance = list(keys), model.diffusion.variance
    assert variance is not None
    pixels = images[mine]
    x0 = to_float(pixels.to(model.device))
    small = model.recipe.conditioning.made(x0, ImageNoise(mix(seed, PICTURES), keys))
    denoise = model.denoiser(None if labels is None else labels[mine], small)
    with torch.inference_mode():
        found = variational_bound(
            model.diffusion.gaussian, denoise, variance, x0, times, ImageNoise(seed, keys), levels_of(pixels)
        )
    return Bound(times, *(getattr(found, name).cpu() for name in FIELDS))
