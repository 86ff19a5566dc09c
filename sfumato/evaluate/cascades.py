"""The noise-conditioning augmentation of a cascade, chosen by measurement (Ho et al. 2022, section 4.2): the Frechet
distance of its pictures at each of several levels, from the same small images and the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from sfumato.data import Images
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import FeatureNet
from sfumato.evaluate.run import planned
from sfumato.evaluate.sets import measured
from sfumato.models.cascade import Cascade

MOST = 10_000
"""Images of the reference, at most, spread over the set."""


@dataclass(frozen=True)
class AtLevel:
    """What was measured at one level of noise: the distance, and as floor that of real images, shrunk and enlarged."""

    level: float
    distance: float
    real: float
    """Of the upsampler alone, whose inputs are real images made small."""


def by_level(
    cascade: Cascade, levels: Sequence[float], n: int, reference: Images, net: FeatureNet, *,
    seed: int = 0, scale: float | Sequence[float] = 1.0, progress: Callable[[int], object] | None = None,
    **options: Any,
) -> Iterator[AtLevel]:  # fmt: skip
    """The Frechet distance of n pictures of a cascade at each level of noise on the last upsampler's input.

    Args:
        levels: deviations.
        reference: real images; the first n, made small, are also enlarged, which shows what the base model costs.
        options: of `Cascade.sample`.

    Raises:
        ValueError: at the first value, for levels and images that do not fit.
    """
    if len(reference) > MOST:
        reference = reference.take(torch.arange(MOST) * len(reference) // MOST)
    planned(n, cascade.shape, reference, net, measures=())
    if n > len(reference):
        raise ValueError(f"{reference.spec} holds {len(reference):,} images; {n:,} are asked for")
    others = cascade.levels[:-1]
    at = [cascade.with_levels((*others, level)) for level in levels]
    real = measured(reference, net)

    def distance(images: Tensor) -> float:
        return frechet_distance(statistics(net(images).pooled), real.pooled)

    labels = cascade.stages[0].labels(None, n)
    before = _before(cascade, n, seed, scale, labels, progress, options)
    whole = reference.take(torch.arange(n) * len(reference) // n)
    for each in at:
        model = each.stages[-1]
        small = _small(model, whole)
        last = scale if isinstance(scale, int | float) else scale[-1]
        more = {"seed": seed, "scale": last, "progress": progress, **options}
        has = bool(model.recipe.conditioning.classes)
        made = model.sample(n, picture=before, classes=labels if has else None, **more)
        theirs = model.sample(n, picture=small, classes=whole.labels if has else None, **more)
        yield AtLevel(each.levels[-1], distance(made), distance(theirs))


def _before(
    cascade: Cascade, n: int, seed: int, scale: float | Sequence[float], labels: Tensor | None, progress: Any,
    options: dict[str, Any],
) -> Tensor:  # fmt: skip
    """What the last upsampler is given."""
    more = {"seed": seed, "progress": progress, **options}
    scales = [scale] * len(cascade.stages) if isinstance(scale, int | float) else list(scale)
    first = cascade.stages[:-1]
    if len(first) == 1:
        return first[0].sample(n, classes=labels, scale=scales[0], **more)
    return replace(cascade, stages=first).sample(n, classes=labels, scale=scales[:-1], **more)


def _small(model: Any, images: Images) -> Tensor:
    """Real images made small as in training."""
    from sfumato.models.real import inputs_of

    return inputs_of(model.recipe, images, len(images))
