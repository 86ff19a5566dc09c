"""K, the lower bound on the log likelihood of Sohl-Dickstein et al. 2015 (section 2.4), in its authors' units."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Protocol, cast

import torch
from torch import Tensor

from sfumato.core.dpm2015.nonequilibrium import LowerBound
from sfumato.core.randomness import ImageNoise
from sfumato.core.schedules import strided
from sfumato.data.loader import to_float
from sfumato.data.sources import Images
from sfumato.likelihood.report import Report, protocol_of
from sfumato.models.model import Model
from sfumato.models.real import spread
from sfumato.runtime.workers import WorkerPool, batches, distribute
from sfumato.spaces import Space, Standardised


class Bounded(Protocol):
    """What a recipe whose diffusion has a lower bound says besides."""

    steps: int
    edge: str
    faithful: bool

    @property
    def null(self) -> float:
        """L_null, the likelihood under the simplest model of the same moments, bits per data point."""
        ...


def k_of(
    model: Model,
    images: Images,
    *,
    steps: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch: int = 256,
    pool: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """K of data under a model of 2015, bits per pixel (all colours together) or per data point, in float32.

    Args:
        steps: only so many of the levels, evenly spread, which stand for the others; None takes all.
        limit: only so many images, spread over the set.
        seed: noise of image i depends on (seed, i) alone.
        pool: processes that share the images, batch by batch, and load this very model.
        progress: called with the number of images that are done.

    Returns: a report whose details are L_null, the gain K - L_null (what was learned), and the mean of each
        divergence, in bits per data point.

    Raises:
        ValueError: a model of another kind, images of another shape, steps that are no number of levels.
    """
    if model.diffusion.lower_bound is None:
        raise ValueError(f"{type(model.recipe).__name__} is bounded in bits/dim, not by K")
    recipe, shape = cast(Bounded, model.recipe), model.recipe.shape
    chosen, _ = spread(model, images, limit)
    levels = None if steps is None else strided(recipe.steps, steps)[:-1].clamp(min=2).unique()
    work = partial(_k, images=chosen, levels=levels, seed=seed)
    values, terms, visited = zip(*distribute(work, model, batches(len(chosen), batch), pool, progress), strict=True)
    space = model.recipe.space
    protocol = protocol_of(
        model, images, len(chosen), seed, levels=visited[0], edge=recipe.edge, faithful=recipe.faithful,
        units=f"variance 1 (divided by {space.std:.5f})" if isinstance(space, Standardised) else "bits",
    )  # fmt: skip
    pixels = shape[1] * shape[2] if shape[1] > 1 else 1
    each = torch.cat(values) / pixels
    divergences = torch.stack(terms).sum(0) / len(chosen)
    details = {
        "null": recipe.null / pixels, "gain": float(each.mean()) - recipe.null / pixels,
        "divergences": [round(v, 7) for v in divergences.tolist()],
    }  # fmt: skip
    dims, unit = math.prod(shape), "bits/pixel" if pixels > 1 else "bits"
    bits = None if recipe.faithful else bits_per_dim(float(each.mean()) * pixels, dims, space)
    report = Report("K (2015)", unit, each[None], bits, protocol, details)
    if bits is not None:
        details["bits_error"] = report.standard_error * pixels / dims
    return report


def bits_per_dim(k: float, dims: int, space: Space) -> float | None:
    """K, bits per data point, as its successors count: at most so many bits a number, for grey levels.

    The same images, made continuous by uniform noise and counted in grey levels instead of deviations (Theis et al.
    2016, section 3.1). None for bits, for data that are no grey levels, and for the authors' noise, which has another
    width than a grey level, so that their K bounds no probability of 8-bit data.
    """
    if not isinstance(space, Standardised) or space.faithful or not space.bin:
        return None
    return -k / dims - math.log2(space.bin / space.std)


def _k(model: Model, keys: range, *, images: Tensor, levels: Tensor | None, seed: int) -> tuple[Tensor, Tensor, int]:
    """K of each image of these keys, the sum over them at each level, and the number of levels, on the host."""
    lower_bound = model.diffusion.lower_bound
    assert lower_bound is not None
    x0 = to_float(images[list(keys)].to(model.device))
    with torch.inference_mode():
        bound: LowerBound = lower_bound(model.network, x0, ImageNoise(seed, keys), levels)
    return bound.K.double().cpu(), bound.divergences.double().sum(0).cpu(), len(bound.levels)
