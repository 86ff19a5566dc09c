"""A model at another size or aspect ratio than that of its training, as after training in several buckets."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from sfumato.papers.recipe import of_shape
from sfumato.shapes import kind

if TYPE_CHECKING:
    from sfumato.models.model import Model


def sized(model: Model, width: int, height: int) -> Model:
    """The same weights for images of another size. ValueError where network or conditioning are made for one size."""
    recipe: Any = model.recipe
    if len(recipe.shape) != 3:
        raise ValueError(f"another size is for models of images, and this one is of {kind(recipe.shape)}")
    shape = (recipe.shape[0], height, width)
    if shape == tuple(recipe.shape):
        return model
    if recipe.conditioning.picture:
        raise ValueError("upsamplers make images of the size that they were trained with")
    try:
        other = replace(model, recipe=of_shape(recipe, shape))
        with torch.device("meta"):
            made = other.recipe.model().eval()
        held, wanted = ({key: value.shape for key, value in net.state_dict().items()} for net in (model.network, made))
        if held != wanted:
            raise ValueError("its weights are for one size")
        _evaluated(other, made)
    except (ValueError, RuntimeError) as error:
        name, why = type(recipe.network).__name__, str(error).strip().partition("\n")[0]
        raise ValueError(f"{name} cannot make images of {width}x{height} pixels: {why}") from None
    return other


def _evaluated(model: Model, network: nn.Module) -> None:
    """One evaluation of a network on the meta device, without numbers; an error where shapes do not fit each other."""
    conditioning, recipe = model.recipe.conditioning, model.recipe
    asked = conditioning.asks(recipe.shape)
    with torch.device("meta"):
        x = torch.empty(1, *recipe.space.shape(recipe.shape))
        labels = torch.zeros(1, dtype=torch.long) if conditioning.classes else None
        inputs = conditioning.inputs(labels, None if asked is None else torch.empty(1, *asked))
    t, _ = model.diffusion.times.draw(torch.tensor([0.5]))
    model.diffusion.denoise(network, inputs)(x, t)
