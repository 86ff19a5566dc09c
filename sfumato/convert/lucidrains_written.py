"""Our models as checkpoints of denoising-diffusion-pytorch: which of its diffusions stands for a recipe, and its state.

What cannot be written is what the package has no place for: other networks, recipes and conditionings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sfumato.convert import lucidrains, lucidrains_karras
from sfumato.convert.foreign_lucidrains import TABLES
from sfumato.convert.keys import Key
from sfumato.convert.lucidrains_continuous import writable
from sfumato.convert.pixels import check_space
from sfumato.convert.state import ForeignError, State
from sfumato.core import losses
from sfumato.core.schedules import Level
from sfumato.networks.lucidrains_karras import LucidrainsKarras
from sfumato.networks.lucidrains_unet import LucidrainsUNet
from sfumato.papers.continuous import ContinuousDDPM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.mixed import MixedDDPM
from sfumato.papers.recipe import Trainable

# ---------------------------------------------------------------- networks


@dataclass(frozen=True)
class Held:
    """How the package holds one of its networks.

    Attributes:
        keys: (network, channels of images) -> key map.
        labelled: (the network's configuration, the share of labels hidden in training) -> whether it takes labels so.
    """

    keys: Callable[[Any, int], Iterator[Key]]
    labelled: Callable[[Any, float], bool]


HELD: dict[type[Any], Held] = {
    LucidrainsUNet: Held(lucidrains.keys, lambda made, hidden: not (made.memory or made.attention) and hidden > 0),
    LucidrainsKarras: Held(lucidrains_karras.keys, lambda made, hidden: hidden == 0),
}
"""The networks that the package has."""

# ---------------------------------------------------------------- diffusions


def _of_ddpm(recipe: DDPM) -> State:
    if recipe.zero_terminal_snr or recipe.variance == "learned" or recipe.prediction == "mean":
        raise _inexpressible(recipe)
    return _tables(recipe, recipe.prediction, "min-snr" if recipe.weight == "min-snr" else "eps")


def _of_improved(recipe: ImprovedDDPM) -> State:
    if recipe.variance != "learned_range" or recipe.rescale_times:
        raise _inexpressible(recipe)
    return _tables(recipe, recipe.prediction)


def _of_mixed(recipe: MixedDDPM) -> State:
    if (recipe.noise_weight, recipe.data_weight) != (0.1, 0.1):
        raise _inexpressible(recipe)
    return _tables(recipe, "v")  # the package's default, where there is no other to choose


def _of_continuous(recipe: ContinuousDDPM) -> State:
    writable(recipe)
    return {}


@dataclass(frozen=True)
class Counterpart:
    """The diffusion of the package that stands for a kind of recipe.

    Attributes:
        buffers: recipe -> what lies beside the network's weights. ForeignError for one that it cannot express.
        prefix: what the names of the weights begin with.
        feeds_back: whether the network may see its own prediction.
    """

    buffers: Callable[[Any], State]
    prefix: str = "model."
    feeds_back: bool = False


COUNTERPARTS: dict[type[Any], Counterpart] = {
    DDPM: Counterpart(_of_ddpm, feeds_back=True),  # GaussianDiffusion
    ImprovedDDPM: Counterpart(_of_improved),  # LearnedGaussianDiffusion
    MixedDDPM: Counterpart(_of_mixed),  # WeightedObjectiveGaussianDiffusion
    ContinuousDDPM: Counterpart(_of_continuous),  # ContinuousTime- and VParamContinuousTimeGaussianDiffusion
    EDM: Counterpart(lambda recipe: {}, "net.", feeds_back=True),  # ElucidatedDiffusion
}
"""The diffusion of each recipe that one stands for."""


def training_state(recipe: Trainable, network: nn.Module) -> dict[str, Any]:
    """What its Trainer writes of a model, without an optimiser: `diffusion.load_state_dict(torch.load(path)["model"])`.

    Raises: ForeignError for another network, a recipe that no diffusion of the package stands for, or a space that is
        not pixels in [-1, 1].
    """
    held, counterpart = HELD.get(type(recipe.network)), COUNTERPARTS.get(type(recipe))
    if held is None:
        raise ForeignError(f"denoising-diffusion-pytorch holds its own U-Net, not {type(recipe.network).__name__}")
    if counterpart is None:
        raise _inexpressible(recipe)
    conditioning = recipe.conditioning
    if conditioning.pictured:
        raise ForeignError("denoising-diffusion-pytorch has no pictures as inputs, so it cannot hold this model")
    if conditioning.classes and not held.labelled(recipe.network, conditioning.dropout):
        raise ForeignError("its class-conditional Unet has linear attention without memory, and a null label")
    if conditioning.feeds_back and (conditioning.classes or not counterpart.feeds_back):
        raise ForeignError(
            "its networks see their own predictions only without labels, in GaussianDiffusion and ElucidatedDiffusion"
        )
    check_space(recipe, "denoising-diffusion-pytorch")
    ours = {name: value.detach().float().cpu() for name, value in network.state_dict().items()}
    weights = {
        f"{counterpart.prefix}{key.official}": key.read(ours[key.ours]).clone().contiguous()
        for key in held.keys(network, recipe.shape[0])
    }
    return {"step": 0, "model": {**counterpart.buffers(recipe), **weights}}


def _inexpressible(recipe: Any) -> ForeignError:
    return ForeignError(f"GaussianDiffusion of denoising-diffusion-pytorch cannot express this {type(recipe).__name__}")


def _tables(recipe: Any, returned: str, weight: str = "eps") -> State:
    """The buffers of GaussianDiffusion, from our process; `returned` is what the network returns."""
    process = recipe.build().gaussian
    t = torch.arange(1, recipe.steps + 1)
    alpha, sigma = process.schedule.alpha_sigma(t)
    before, _ = process.schedule.alpha_sigma(t - 1)
    of_x, of_x0, deviation = process.posterior_coefficients(t, t - 1)
    variance, level = deviation**2, Level(alpha, sigma)
    weights = losses.WEIGHTS[weight](level) / losses.WEIGHTS[returned](level)  # of the error in what is returned
    values = (
        1 - (alpha / before) ** 2, alpha**2, before**2, alpha, sigma, (sigma**2).log(), 1 / alpha, sigma / alpha,
        variance, variance.clamp(min=1e-20).log(), of_x0, of_x, weights,
    )  # fmt: skip
    return {name: value.float() for name, value in zip(TABLES, values, strict=False)}
