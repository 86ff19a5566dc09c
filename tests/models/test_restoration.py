"""Inpainting and colouring with small models: what is known comes back, the rest follows the seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sfumato.conditioning import LowRes
from sfumato.models import Model
from sfumato.models.restoration import colourise, inpaint
from tests.likelihood.exact import Exact
from tests.models.small import OF_2015, RECIPES, made

COLOUR: dict[str, Any] = {"shape": (3, 8, 8)}


def model(recipe: Any) -> Model:
    torch.manual_seed(0)
    return Model(recipe, recipe.model().eval().requires_grad_(False))


def coloured(name: str) -> Any:
    return replace(RECIPES[name], **COLOUR)


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_known_comes_back_and_the_rest_follows_the_seed(name: str) -> None:
    images, known = torch.randint(0, 256, (3, 1, 8, 8), dtype=torch.uint8), torch.arange(8) < 4
    labels = torch.tensor([0, 1, 2]) if RECIPES[name].conditioning.classes else None
    some = model(RECIPES[name])
    steps = 22  # VP times need 20
    filled = inpaint(some, images, known, steps=steps, labels=labels, seed=2)
    assert torch.equal(filled[..., :4], images[..., :4])
    first = inpaint(some, images[:1], known, steps=steps, labels=None if labels is None else labels[:1], seed=2)
    assert int((first.int() - filled[:1].int()).abs().max()) <= 1
    assert not torch.equal(filled, inpaint(some, images, known, steps=steps, labels=labels, seed=3))


def test_each_image_may_have_its_own_mask() -> None:
    images = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    known = torch.rand(2, 1, 8, 8) < 0.5
    filled = inpaint(model(RECIPES["ddpm"]), images, known, steps=5, batch=1)
    assert torch.equal(filled[known], images[known])


@pytest.mark.parametrize("name", ["ddpm", "ncsn", "VP"])
def test_colouring_keeps_the_grey(name: str) -> None:
    grey = torch.randint(80, 170, (2, 1, 8, 8), dtype=torch.uint8)
    some = Model(coloured(name), Exact()) if name == "VP" else model(coloured(name))
    pictures = colourise(some, grey, steps=22)
    assert pictures.shape == (2, 3, 8, 8)
    inside = ((pictures > 0) & (pictures < 255)).all(1)  # elsewhere a colour left the range, and was clamped
    assert float((pictures.float().mean(1) - grey[:, 0].float())[inside].abs().max()) <= 1


def test_what_does_not_fit_is_refused() -> None:
    images, known = torch.zeros(2, 1, 8, 8, dtype=torch.uint8), torch.ones(8, 8, dtype=torch.bool)
    with pytest.raises(ValueError, match="colour images"):
        colourise(model(RECIPES["ddpm"]), images)
    with pytest.raises(ValueError, match="true or false"):
        inpaint(model(RECIPES["ddpm"]), images, known.float())
    with pytest.raises(ValueError, match="does not fit"):
        inpaint(model(RECIPES["ddpm"]), images, torch.ones(5, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match="uint8 images"):
        inpaint(model(RECIPES["ddpm"]), images.float(), known)
    with pytest.raises(ValueError, match="label"):
        inpaint(model(RECIPES["adm"]), images, known)
    upsampler = replace(RECIPES["ddpm"], conditioning=LowRes(4))
    with pytest.raises(ValueError, match="noise alone"):
        inpaint(model(upsampler), images, known)
    with pytest.raises(ValueError, match="2015"):
        inpaint(made(OF_2015["learned betas"]), images, known)
