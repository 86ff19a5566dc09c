"""The Frechet distance of a network while it trains (Heusel et al. 2017), by the protocol of `evaluate`: the samples of
the recipe's default sampler against held-out images, beside the floor of real images at the same N.

Training does not import this module: `sfumato.fitting` hands what is made here to the loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import nn

from sfumato.data import Images, eight_bits
from sfumato.evaluate.distances import Statistics, frechet_distance, statistics
from sfumato.evaluate.features import FeatureNet, usual
from sfumato.evaluate.run import floor, planned
from sfumato.evaluate.samples import sampled
from sfumato.evaluate.sets import FeatureSet, measured
from sfumato.models.generate import Request, plan
from sfumato.models.model import Model
from sfumato.models.real import inputs_of

MOST = 10_000
"""Images of the reference, at most, spread over the set."""
SEED = 0
"""Of the samples: every measurement is of the same noise."""


@dataclass(frozen=True)
class TrainingDistance:
    """Measures a network in evaluation mode; the statistics of real images are computed once, when first needed.

    Attributes:
        recipe, classes: of the model.
        reference: real images that the samples are held against.
        other: real images outside the reference, for the floor; None for halves of it.
        net: whose features are compared.
        request: which samples.
    """

    recipe: Any
    classes: tuple[str, ...]
    reference: Images
    other: Images | None
    net: FeatureNet
    request: Request

    def __call__(self, network: nn.Module) -> dict[str, Any]:
        """The distance as `fd`, with its `floor` and its protocol in short: what is equal where two can be compared."""
        made = sampled(Model(self.recipe, network, self.classes), self.request)
        found = frechet_distance(self._statistics(made.images), self._real.pooled)
        how = made.how
        return {
            "fd": found, "floor": self._floor, "name": self.net.distance, "n": self.request.n, "on": self._real.spec,
            "reference": f"{len(self.reference):,} images, sha256 {self._real.sha256[:16]}",
            "sampler": how["sampler"], "evaluations": how["network_evaluations"],
        }  # fmt: skip

    def _statistics(self, images: torch.Tensor) -> Statistics:
        return statistics(self.net(eight_bits(images)).pooled)

    @cached_property
    def _real(self) -> FeatureSet:
        return measured(self.reference, self.net)

    @cached_property
    def _floor(self) -> float | None:
        """Of as many real images."""
        found = floor(self.request.n, self.reference, self._real, self.net, self.other, lambda s: measured(s, self.net))
        if found.samples is None or found.real is None:
            return None
        return frechet_distance(found.samples.pooled, found.real.pooled)


def training_distance(
    recipe: Any, network: nn.Module, count: int, images: Images, held_out: Images | None, device: str
) -> TrainingDistance | None:
    """What measures a recipe's network while it trains on images; None for a classifier, which makes no pictures.

    Args:
        network: the recipe's, without weights.
        count: samples of a measurement.
        held_out: the reference; the training images where None.

    Raises: ValueError where the net is not installed or not for these images, or the samples cannot be made.
    """
    if recipe.build().sampler is None:
        return None
    reference = held_out or images
    inputs = None
    if len(reference) > MOST:
        reference = reference.take(torch.arange(MOST) * len(reference) // MOST)
    if recipe.conditioning.pictured:
        count = min(count, len(reference))
        inputs = inputs_of(recipe, reference.take(torch.arange(count) * len(reference) // count), count)
    model = Model(recipe, network, images.classes)
    has = reference.attributes if recipe.conditioning.names else None
    told = None if has is None else has.values[torch.arange(count) * len(reference) // count]
    steps = model.diffusion.usual(model.sampler(None))
    request = Request(count, steps, seed=SEED, picture=inputs, attributes=told)
    plan(model, request)
    net = usual(reference.spec, reference.shape, device)
    other = images if held_out is not None else None
    planned(count, tuple(recipe.shape), reference, net, measures=(), other=other)
    return TrainingDistance(recipe, images.classes, reference, other, net, request)
