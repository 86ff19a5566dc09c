"""ControlNet of any recipe (Zhang et al. 2023): that of a trained model, its U-Net beside a copy that sees a picture
(`networks.control`). What the network's output means, and how it is sampled, stay as they are.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from sfumato.conditioning import Conditioning, Together, Unconditional
from sfumato.networks.control import Control


def controlled(recipe: Any, picture: Conditioning) -> Any:
    """The recipe of a model's control by a picture; that of a model which has this control stays as it is.

    ValueError for a model that is given another picture or makes none, and for a recipe without a network of its own.
    """
    if recipe.build().sampler is None:
        raise ValueError("a control is of a model that makes pictures, which a classifier or an autoencoder does not")
    if recipe.network.frozen and picture in recipe.conditioning.each:
        return recipe
    if recipe.network.frozen:
        raise ValueError("this model has a control by another picture: begin at the model that it controls, by --from")
    if recipe.conditioning.pictured:
        raise ValueError("this model is given pictures already, and a model takes one: control one that is given none")
    if "network" not in {field.name for field in fields(recipe)}:
        raise ValueError("a distilled model has no network of its own to control: take the model it was distilled from")
    network = Control(recipe.network)
    return replace(recipe, network=network, conditioning=_with(recipe.conditioning, picture))


def _with(conditioning: Conditioning, picture: Conditioning) -> Conditioning:
    """A conditioning, and a picture."""
    kept = [part for part in conditioning.each if part != Unconditional()]
    return Together((*kept, picture)) if kept else picture
