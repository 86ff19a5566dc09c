"""Likelihood of images under a trained model, on the recipe's own chain: the variational bound in bits per dimension.

Ho et al. 2020, eq. 5 and section 4.3; Nichol & Dhariwal 2021, section 3; K of a model of 2015 in its own units. Every
figure carries what it was measured on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sfumato.core.likelihood import Bound, variational_bound
from sfumato.core.randomness import ImageNoise
from sfumato.core.times import Steps, visits
from sfumato.data.loader import to_float
from sfumato.data.sources import Images
from sfumato.model import Model
from sfumato.papers.recipe import Bounded, Nonequilibrium, low_res_side
from sfumato.runtime.workers import WorkerPool, batches, distribute


@dataclass(frozen=True)
class BoundReport:
    """The bound over a set of images.

    Attributes:
        bound: of every image, term by term.
        protocol: data, their fingerprint, number of images, levels visited, seed, weights, clipping.
    """

    bound: Bound
    protocol: dict[str, Any]

    @property
    def bits_per_dim(self) -> float:
        """The mean over images."""
        return float(self.bound.total.double().mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, over images (their noise is drawn once each)."""
        total = self.bound.total.double()
        return float(total.std() / len(total) ** 0.5) if len(total) > 1 else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain values: the totals, their parts, and the mean of each term from noise to data."""
        bound = self.bound

        def means(values: Tensor) -> list[float]:
            return [round(v, 7) for v in values.double().mean(0).tolist()]

        return {
            "method": "variational bound", "unit": "bits/dim", "total": self.bits_per_dim,
            "standard_error": self.standard_error, "prior": float(bound.prior.double().mean()),
            "decoder": float(bound.terms[:, -1].double().mean()), "protocol": self.protocol,
            "levels": bound.times[:-1].tolist(), "terms": means(bound.terms), "rate": means(bound.rate),
            "distortion": means(bound.distortion), "eps_error": means(bound.eps_error),
        }  # fmt: skip


def bound_of(
    model: Model,
    images: Images,
    *,
    steps: Steps = None,
    limit: int | None = None,
    seed: int = 0,
    batch: int = 256,
    team: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> BoundReport:
    """The variational bound of images under a model, in float32, with the mean clipped as in sampling.

    Args:
        steps: the chain, see `Model.sample`; None takes every level.
        limit: only so many images, spread over the set.
        seed: noise of image i depends on (seed, i) alone.
        team: processes that share the images, batch by batch, and load this very model.
        progress: called with the number of images that are done.

    Raises:
        ValueError: a model without a decoder, images of another shape or without the labels that the model needs.
    """
    recipe = model.recipe
    if not isinstance(recipe, Bounded):
        raise ValueError(f"{type(recipe).__name__} has no decoder and so no variational bound")
    if images.shape != recipe.shape:
        raise ValueError(f"the model makes {recipe.shape} images, {images.spec} has {images.shape}")
    if recipe.classes and (images.labels is None or images.classes != model.classes):
        raise ValueError(f"the model was trained with classes that {images.spec} does not have")
    times = visits(int(recipe.process().schedule.end), steps)
    count = min(limit or len(images), len(images))
    chosen = torch.arange(count) * len(images) // count
    labels = None if images.labels is None else images.labels[chosen]
    work = partial(_bound, images=images.images[chosen], labels=labels, times=times, seed=seed)
    parts = distribute(work, model, batches(count, batch), team, progress)
    whole = Bound(times, *(torch.cat([getattr(part, name) for part in parts]) for name in FIELDS))
    protocol = {
        "data": images.spec, "fingerprint": images.card.fingerprint, "images": count, "levels": len(times) - 1,
        "seed": seed, "weights": model.about.get("weights"), "clipped": getattr(recipe, "clip", False),
        "decoder": "Gaussian in 256 bins, width of the second level", "precision": "float32",
    }  # fmt: skip
    return BoundReport(whole, protocol)


def _bound(model: Model, keys: range, *, images: Tensor, labels: Tensor | None, times: Tensor, seed: int) -> Bound:
    """The bound of the images of these keys, on the host; images and labels are those of all keys."""
    recipe: Any = model.recipe
    mine = list(keys)
    x0 = to_float(images[mine].to(model.device))
    inputs: dict[str, Any] = {}
    if recipe.classes and labels is not None:
        inputs["y"] = labels[mine].to(model.device)
    if side := low_res_side(recipe):
        inputs["low_res"] = torch.nn.functional.interpolate(x0, side, mode="area")
    denoise = recipe.denoiser(model.network, **inputs)
    with torch.inference_mode():
        found = variational_bound(recipe.process(), denoise, recipe.std(), x0, times, ImageNoise(seed, keys))
    return Bound(times, *(getattr(found, name).cpu() for name in FIELDS))


FIELDS = ("prior", "terms", "x0_error", "eps_error")


# ---------------------------------------------------------------- K, the bound of 2015


@dataclass(frozen=True)
class KReport:
    """K over a set of data, in bits per data point or per pixel (all colours together).

    Attributes:
        values: (n,) K of each, per data point.
        null: L_null, the likelihood under the simplest model of the same moments, per data point.
        pixels: by how many numbers an image's figure is divided: 1 for points and sequences.
        divergences: (levels,) their means, bits per data point.
        protocol: data, their fingerprint, count, levels, seed, weights, units.
        dims: how many numbers a data point has.
        grey: the width of a grey level in the units of K; 0 for data that are no grey levels.
    """

    values: Tensor
    null: float
    pixels: int
    divergences: Tensor
    protocol: dict[str, Any]
    dims: int = 1
    grey: float = 0.0

    @property
    def K(self) -> float:
        return float(self.values.mean()) / self.pixels

    @property
    def gain(self) -> float:
        """K - L_null, what was learned."""
        return self.K - self.null / self.pixels

    @property
    def standard_error(self) -> float:
        """Of the mean, over the data."""
        n = len(self.values)
        return float(self.values.std() / n**0.5) / self.pixels if n > 1 else float("nan")

    @property
    def bits_per_dim(self) -> float | None:
        """K as its successors count: at most so many bits a number, for grey levels made continuous by uniform noise.

        The same images, counted in grey levels instead of deviations (Theis et al. 2016, section 3.1); None for bits
        and for data that are no grey levels.
        """
        return -self.K * self.pixels / self.dims - math.log2(self.grey) if self.grey else None

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "method": "K (2015)", "unit": "bits/pixel" if self.pixels > 1 else "bits", "K": self.K,
            "standard_error": self.standard_error, "null": self.null / self.pixels, "gain": self.gain,
            "bits_per_dim": self.bits_per_dim, "protocol": self.protocol,
            "divergences": [round(v, 7) for v in self.divergences.tolist()],
        }  # fmt: skip


def k_of(
    model: Model,
    images: Images,
    *,
    steps: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    batch: int = 256,
    team: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> KReport:
    """K of data under a model of 2015 (Sohl-Dickstein et al. 2015, section 2.4), in float32.

    Args:
        steps: only so many of the levels, evenly spread, which stand for the others; None takes all.
        limit: only so many images, spread over the set.
        seed: noise of image i depends on (seed, i) alone.
        team: processes that share the images, batch by batch, and load this very model.
        progress: called with the number of images that are done.

    Raises:
        ValueError: a model of another kind, images of another shape, steps that are no number of levels.
    """
    if not isinstance(model.recipe, Nonequilibrium):
        raise ValueError(f"{type(model.recipe).__name__} is bounded in bits/dim, not by K")
    recipe: Any = model.recipe
    if images.shape != recipe.shape:
        raise ValueError(f"the model makes {recipe.shape} images, {images.spec} has {images.shape}")
    levels = None if steps is None else visits(recipe.steps, steps)[:-1].clamp(min=2).unique()
    count = min(limit or len(images), len(images))
    chosen = torch.arange(count) * len(images) // count
    work = partial(_k, images=images.images[chosen], levels=levels, seed=seed)
    values, terms, visited = zip(*distribute(work, model, batches(count, batch), team, progress), strict=True)
    protocol = {
        "data": images.spec, "fingerprint": images.card.fingerprint, "images": count, "levels": visited[0],
        "seed": seed, "weights": model.about.get("weights"), "edge": recipe.edge, "faithful": recipe.faithful,
        "units": "bits" if recipe.diffusion == "binomial" else f"variance 1 (divided by {recipe.data_std:.5f})",
    }  # fmt: skip
    pixels = recipe.shape[1] * recipe.shape[2] if recipe.shape[1] > 1 else 1
    # the authors' noise has another width than a grey level, so that their K bounds no probability of 8-bit data
    grey = recipe.bin / recipe.data_std if recipe.diffusion == "gaussian" and not recipe.faithful else 0.0
    divergences = torch.stack(terms).sum(0) / count
    return KReport(torch.cat(values), recipe.null, pixels, divergences, protocol, math.prod(recipe.shape), grey)


def _k(model: Model, keys: range, *, images: Tensor, levels: Tensor | None, seed: int) -> tuple[Tensor, Tensor, int]:
    """K of each image of these keys, the sum over them at each level, and the number of levels, on the host."""
    recipe: Any = model.recipe
    x0 = to_float(images[list(keys)].to(model.device))
    with torch.inference_mode():
        bound = recipe.lower_bound(model.network, x0, ImageNoise(seed, keys), levels)
    return bound.K.double().cpu(), bound.divergences.double().sum(0).cpu(), len(bound.levels)
