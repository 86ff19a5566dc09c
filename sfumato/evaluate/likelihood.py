"""Likelihood of images under a trained model, on the recipe's own chain: the variational bound in bits per dimension.

Ho et al. 2020, eq. 5 and section 4.3; Nichol & Dhariwal 2021, section 3. Every figure carries what it was measured on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.core.likelihood import Bound, variational_bound
from sfumato.core.randomness import ImageNoise
from sfumato.core.times import Steps, visits
from sfumato.data.loader import to_float
from sfumato.data.sources import Images
from sfumato.model import Model
from sfumato.papers.recipe import Bounded, low_res_side


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
    progress: Callable[[int], object] | None = None,
) -> BoundReport:
    """The variational bound of images under a model, in float32, with the mean clipped as in sampling.

    Args:
        steps: the chain, see `Model.sample`; None takes every level.
        limit: only so many images, spread over the set.
        seed: noise of image i depends on (seed, i) alone.
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
    parts: list[Bound] = []
    for keys in torch.arange(count).split(batch):
        x0 = to_float(images.images[chosen[keys]].to(model.device))
        labels: dict[str, Any] = {}
        if recipe.classes and images.labels is not None:
            labels["y"] = images.labels[chosen[keys]].to(model.device)
        if side := low_res_side(recipe):
            labels["low_res"] = torch.nn.functional.interpolate(x0, side, mode="area")
        denoise = recipe.denoiser(model.network, **labels)
        with torch.inference_mode():
            found = variational_bound(
                recipe.process(), denoise, recipe.std(), x0, times, ImageNoise(seed, keys.tolist())
            )
        parts.append(Bound(times, *(getattr(found, name).cpu() for name in FIELDS)))
        if progress:
            progress(len(keys))
    whole = Bound(times, *(torch.cat([getattr(part, name) for part in parts]) for name in FIELDS))
    protocol = {
        "data": images.spec, "fingerprint": images.card.fingerprint, "images": count, "levels": len(times) - 1,
        "seed": seed, "weights": model.about.get("weights"), "clipped": getattr(recipe, "clip", False),
        "decoder": "Gaussian in 256 bins, width of the second level", "precision": "float32",
    }  # fmt: skip
    return BoundReport(whole, protocol)


FIELDS = ("prior", "terms", "x0_error", "eps_error")
