"""Guidance by name: a frozen value out of a spec such as "interval?scale=2&high=1.5", and what it asks of a model.

What guides is a weaker denoiser: the model without its labels, with the labels of another class (`negative`), or a
worse model of the same images (autoguidance). The formulas are in `core.guidance_shelf`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from sfumato import spec
from sfumato.core.denoisers import Denoise
from sfumato.core.guidance_shelf import Combine, Projected, extrapolated, guided, renoised, rescaled, thresholded
from sfumato.core.sampling import Sampler
from sfumato.samplers import DDIM
from sfumato.spaces import SPACES

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass(frozen=True, kw_only=True)
class Guidance:
    """Classifier-free guidance (Ho & Salimans 2022)."""

    scale: float = 2.0
    """1 is none, more exaggerates what the model is conditioned on."""
    low: float = 0.0
    """Guided only above this noise, sigma / alpha."""
    high: float = math.inf
    """Guided only up to this noise."""
    negative: str | None = None
    """A class to push away from, by name or number, or attributes, instead of the model without labels."""
    threshold: float | None = None
    """Dynamic thresholding at this quantile instead of clipping (Saharia et al. 2022)."""

    def __post_init__(self) -> None:
        if not math.isfinite(self.scale):
            raise ValueError(f"the scale of guidance is a finite number, not {self.scale:g}")
        if not 0 <= self.low < self.high:
            raise ValueError(f"guidance needs 0 <= low < high, not {self.low:g} and {self.high:g}")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise ValueError(f"a threshold is a quantile between 0 and 1, not {self.threshold:g}")

    @property
    def none(self) -> bool:
        """Whether nothing is guided."""
        return self.scale == 1

    def combine(self) -> Combine:
        """How two predictions become one; made anew for each batch."""
        return extrapolated(self.scale)

    def check(self, model: Model, guide: Model | None, sampler: Sampler) -> None:
        """ValueError where the model, the guide or the sampler does not fit."""
        if sampler.two_times and not model.diffusion.averages and not self.none:
            raise ValueError("steps by an average velocity are not guided: take another model, or no guidance")
        if sampler.own_times and model.recipe.conditioning.feeds_back:
            raise ValueError(
                "each image goes by times of its own here, so a model is not fed its predictions: take heun"
            )
        if self.threshold is not None and model.recipe.space.bounds is None:
            raise ValueError("dynamic thresholding needs pixels, which have a range; latents have none")
        if guide is not None:
            _check_guide(model, guide)
            if self.negative is not None:
                raise ValueError("guidance is by another model or against a class, not both")

    def __call__(self, model: Model, network: nn.Module, given: Given, guide: Model | None) -> Denoise:
        """The guided denoiser of a model, x0 held in its range."""
        return self.clip(model)(self.unclipped(model, network, given, guide))

    def unclipped(self, model: Model, network: nn.Module, given: Given, guide: Model | None = None) -> Denoise:
        """The guided denoiser of a model, through which gradients pass."""
        denoise = given.denoiser(model, network, given.inputs(model))
        if self.none:
            return denoise
        return guided(denoise, self._weaker(model, network, given, guide), self.combine(), self.low, self.high)

    def clip(self, model: Model) -> Callable[[Denoise], Denoise]:
        """How x0 is held in the range of the model."""
        if self.none or self.threshold is None:
            return model.diffusion.clipped
        low, high = model.recipe.space.range
        return partial(thresholded, quantile=self.threshold, low=low, high=high)

    def _weaker(self, model: Model, network: nn.Module, given: Given, guide: Model | None) -> Denoise:
        if guide is not None:
            return given.denoiser(guide, guide.network, given.inputs(guide))
        conditioning, inputs = model.recipe.conditioning, given.inputs(model)
        if self.negative is None:
            return given.denoiser(model, network, conditioning.hidden(inputs))
        if conditioning.names and not conditioning.classes:
            other = replace(given, attributes=model.attributes([self.negative], len(given)))
        else:
            other = replace(given, labels=model.labels([self.negative], len(given)))
        return given.denoiser(model, network, other.inputs(model))


@dataclass(frozen=True)
class Given:
    """What a batch of pictures is conditioned on: labels (B,), a picture (B, C, h, w) in [-1, 1], attributes."""

    labels: Tensor | None = None
    picture: Tensor | None = None
    fed: bool = False
    """Whether a model that was trained so is fed its own predictions, along one trajectory."""
    attributes: Tensor | None = None
    """(B, A): 1, -1, or 0 for what is not known."""

    def __len__(self) -> int:
        return max(0 if value is None else len(value) for value in (self.labels, self.picture, self.attributes))

    def inputs(self, model: Model) -> Mapping[str, Tensor]:
        """The inputs of a model's network, on its device."""
        labels, picture, attributes = (
            None if value is None else value.to(model.device) for value in (self.labels, self.picture, self.attributes)
        )
        conditioning = model.recipe.conditioning
        return {**conditioning.inputs(labels, picture), **conditioning.told(attributes)}

    def denoiser(self, model: Model, network: nn.Module, inputs: Mapping[str, Tensor]) -> Denoise:
        """A model's denoiser with these inputs, neither guided nor clipped."""
        make = partial(model.diffusion.denoise, network)
        if not self.fed:
            return make(inputs)
        return model.recipe.conditioning.fed(make, inputs, model.recipe.space.range)


@dataclass(frozen=True, kw_only=True)
class Interval(Guidance):
    """Guidance in an interval of levels, unguided outside, which also costs less (Kynkaanniemi et al. 2024)."""

    low: float = 0.2
    high: float = 2.0


@dataclass(frozen=True, kw_only=True)
class Autoguidance(Guidance):
    """Autoguidance, by a worse model of the same images such as an early checkpoint (Karras et al. 2024)."""

    def check(self, model: Model, guide: Model | None, sampler: Sampler) -> None:
        if guide is None:
            raise ValueError("autoguidance needs a guide: a smaller or less trained model of the same images")
        super().check(model, guide, sampler)


@dataclass(frozen=True, kw_only=True)
class Rescaled(Guidance):
    """Rescaled guidance, against overexposed pictures (Lin et al. 2023)."""

    scale: float = 3.0
    share: float = 0.7
    """How far each picture's deviation goes back to the unguided one."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1:
            raise ValueError(f"a share lies between 0 and 1, not {self.share:g}")

    def combine(self) -> Combine:
        return rescaled(self.scale, self.share)


@dataclass(frozen=True, kw_only=True)
class CFGPlusPlus(Guidance):
    """CFG++: the guided x0 is noised with the unguided eps; scale from 0 to 1, by DDIM alone (Chung et al. 2024)."""

    scale: float = 0.6

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.scale <= 1:
            raise ValueError(f"the scale of cfg++ lies between 0 and 1, not {self.scale:g}")

    @property
    def none(self) -> bool:
        return False

    def combine(self) -> Combine:
        return renoised(self.scale)

    def check(self, model: Model, guide: Model | None, sampler: Sampler) -> None:
        super().check(model, guide, sampler)
        if not isinstance(sampler, DDIM):
            raise ValueError("cfg++ noises again with an eps of its own, which the sampler ddim alone does")


@dataclass(frozen=True, kw_only=True)
class AdaptiveProjected(Guidance):
    """Adaptive projected guidance (APG), without what saturates colours (Sadat et al. 2024)."""

    scale: float = 3.0
    parallel: float = 0.0
    """The share kept of what is parallel to the prediction; 1 is classifier-free guidance."""
    momentum: float = -0.5
    """Of the difference from step to step."""
    norm: float = math.inf
    """The longest difference of a picture."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.norm > 0:
            raise ValueError(f"norm is above 0, not {self.norm:g}")

    def check(self, model: Model, guide: Model | None, sampler: Sampler) -> None:
        super().check(model, guide, sampler)
        if sampler.own_times and self.momentum:
            raise ValueError("each image goes by times of its own here, which allow no momentum: take apg?momentum=0")

    def combine(self) -> Combine:
        return Projected(self.scale, self.parallel, self.momentum, self.norm)


@dataclass(frozen=True, kw_only=True)
class Threshold(Guidance):
    """Strong guidance with dynamic thresholding (Saharia et al. 2022)."""

    scale: float = 4.0
    threshold: float | None = 0.995


@dataclass(frozen=True, kw_only=True)
class NegativeClass(Guidance):
    """Guidance away from a class, as by a negative prompt."""

    negative: str | None = field(kw_only=True)


GUIDANCE: dict[str, type[Guidance]] = {
    "classifier-free": Guidance,
    "interval": Interval,
    "autoguidance": Autoguidance,
    "rescale": Rescaled,
    "cfg++": CFGPlusPlus,
    "apg": AdaptiveProjected,
    "threshold": Threshold,
    "negative": NegativeClass,
}
"""Every kind of guidance by the name that the command line knows it by."""


def by_name(text: str) -> Guidance:
    """The guidance of a spec such as "interval?scale=2&low=0.2&high=2". ValueError names what is unknown."""
    return spec.construct(GUIDANCE, text, "guidance")


def chosen(guidance: Guidance | str | None, scale: float | None = None, guide: Model | None = None) -> Guidance:
    """The guidance of a request: by itself classifier-free at the scale, or autoguidance where there is a guide.

    Where no scale is said (None) there is none of the first kind, and the second has its usual one.

    ValueError where a scale is given beside a guidance, which has its own.
    """
    if guidance is not None:
        if scale not in (None, 1):
            raise ValueError("the scale of a guidance is one of its options, as in interval?scale=2")
        made = by_name(guidance) if isinstance(guidance, str) else guidance
        spec.finite(made, "the guidance")
        return made
    if guide is not None:
        return Autoguidance() if scale is None else Autoguidance(scale=scale)
    return Guidance(scale=1.0 if scale is None else scale)


def listed() -> str:
    """A line for each kind of guidance: its name and what it is."""
    return spec.listed(GUIDANCE)


def _check_guide(model: Model, guide: Model) -> None:
    """ValueError unless a worse model fits the one that it is to guide."""
    ours, theirs = model.recipe, guide.recipe
    if theirs.shape != ours.shape:
        raise ValueError(f"the guide makes {theirs.shape} images, the model {ours.shape}")
    if theirs.space != ours.space:
        other, own = (spec.written(SPACES, recipe.space) for recipe in (theirs, ours))
        raise ValueError(f"the guide's --recipe.space is {other}, the model's {own}: they are to be the same")
    asks = theirs.conditioning.asks(theirs.shape)
    if asks is not None and asks != ours.conditioning.asks(ours.shape):
        raise ValueError("a guide takes the same pictures as inputs as the model, or none")
    if theirs.conditioning.classes and guide.classes != model.classes:
        raise ValueError("the guide and the model were trained with other classes")
    if theirs.conditioning.names not in ((), ours.conditioning.names):
        raise ValueError("the guide and the model were trained with other attributes")
    here, there = (m.diffusion.gaussian.schedule for m in (model, guide))
    if here.end != there.end or not all(
        torch.allclose(a, b)
        for a, b in zip(here.alpha_sigma(here.times()), there.alpha_sigma(here.times()), strict=True)
    ):
        raise ValueError("the guide was trained on other noise levels than the model that it is to guide")
