"""ControlNet of the papers' recipes: before training every one samples what the frozen model samples, guided or not."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sfumato.conditioning import Picture
from sfumato.models import Model
from sfumato.papers.controlled import controlled
from sfumato.train.initial import Initial, fitted
from tests.models.small import RECIPES, made

NAMES = ("a", "b", "c")


def before_training(model: Model, picture: Picture) -> Model:
    """The control of a model, with the model's weights."""
    recipe = controlled(model.recipe, picture)
    network = recipe.model().eval()
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    found = fitted(Initial(model.recipe, model.network.state_dict(), model.classes, {}), recipe, shapes, model.classes)
    assert {name.partition(".")[0] for name in found.fresh} == {"zero"}
    assert not found.left
    network.load_state_dict({**network.state_dict(), **found.tensors})
    return Model(recipe, network, model.classes)


@pytest.mark.parametrize("name", ["ddpm", "iddpm", "adm", "VE", "VP", "sub-VP", "edm", "flow"])
def test_every_recipe_samples_as_the_frozen_model(name: str) -> None:
    recipe = RECIPES[name]
    model = made(recipe, NAMES if recipe.conditioning.classes else ())
    control = before_training(model, Picture("edges"))
    options: Any = {"steps": 2, "precision": "float32", "seed": 5}
    if recipe.conditioning.dropout:
        options["scale"] = 2.0
    edges = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(control.sample(3, picture=edges, **options), model.sample(3, **options))


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2"])
def test_networks_without_skips_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"conditioned on|for U-Nets"):
        controlled(RECIPES[name], Picture("edges")).model()
