"""ControlNet of the papers' recipes: before training every one samples what the frozen model samples, guided or not."""

from __future__ import annotations

from dataclasses import replace
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


def test_the_frozen_model_may_guide_its_control() -> None:
    """D_frozen + w (D_control - D_frozen), which is the frozen model's where the control adds nothing."""
    model = made(replace(RECIPES["ddpm"], clip=False))
    control = before_training(model, Picture("edges"))
    x, t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([5, 30])
    picture = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    plain = model.denoiser()(x, t)
    guided = control.denoiser(picture=picture, scale=3.0, guide_model=model)
    torch.testing.assert_close(guided(x, t).x0, plain.x0)
    torch.manual_seed(0)
    zero: Any = control.network.zero
    with torch.no_grad():
        for parameter in zero.parameters():
            parameter.normal_(std=0.1)
    told = control.denoiser(picture=picture)(x, t)
    assert not torch.allclose(told.x0, plain.x0, atol=1e-2)
    torch.testing.assert_close(guided(x, t).x0, plain.x0 + 3 * (told.x0 - plain.x0), atol=1e-5, rtol=1e-5)
    with pytest.raises(ValueError, match="same pictures as inputs as the model, or none"):
        model.sample(1, steps=2, scale=2.0, guide_model=control)


@pytest.mark.parametrize("name", ["ncsn", "ncsnv2"])
def test_networks_without_skips_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"conditioned on|for U-Nets"):
        controlled(RECIPES[name], Picture("edges")).model()
