"""The whole matrix of recipes, samplers and guidance on small models: each cell works or is refused with its reason."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core.sampling import finish
from sfumato.models import Guide, Model, Request
from sfumato.models.generate import fulfilled
from sfumato.samplers import SAMPLERS
from tests.models.small import CLASSIFIER, CONTINUOUS, OF_2015, PRESERVING, RECIPES, made

SPECS = (*SAMPLERS, "own", "ddim?eta=1", "ancestral?variance=large", "heun?churn=10", "reverse-diffusion?ode=true")
NAMES = ("cat", "dog", "hat")
SIGMAS = {"ncsn", "ncsnv2", "VE levels"}
"""Models of separate levels that are not variance preserving."""
REFUSED: tuple[tuple[set[str], set[str], str], ...] = (
    ({"euler-maruyama", "euler-ode"}, set(RECIPES) - CONTINUOUS, "separate noise levels"),
    ({"adaptive"}, SIGMAS, "separate noise levels"),
    ({"euler-maruyama"}, {"flow"}, "no signal is left at the first time"),
    ({"restart"}, PRESERVING | {"flow"}, "no level of this schedule lies between"),
    ({"reverse-diffusion?ode=true"}, {"ddpm", "iddpm", "flow"}, "nearly all signal is lost at once"),
    ({"own"}, {"VP"}, "VP needs at least 20 steps"),
)
"""Samplers, models that they do not fit in six steps, and the reason that is given; every other cell works."""


def towards_grey(x: Tensor, t: Tensor) -> Tensor:
    """A guide."""
    return -0.1 * x


def sampled(model: Model, spec: str, gradient: Any) -> Tensor:
    """Two pictures, as the diffusion sees them."""
    diffusion, sampler = model.diffusion, model.sampler(spec)
    denoise = model.denoiser(torch.tensor([0, 2]) if model.recipe.conditioning.classes else None)
    if gradient:
        sampler, denoise = sampler.guided(denoise, gradient, diffusion.clipped)
    with torch.inference_mode():
        x = diffusion.prior((2, *model.recipe.shape)).sample(lambda like: torch.randn_like(like))
        return finish(x, sampler.plan(diffusion.gaussian, denoise, 6))


@pytest.mark.parametrize("gradient", [None, towards_grey], ids=["plain", "guided"])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("name", RECIPES)
def test_any_model_through_any_sampler(name: str, spec: str, gradient: Any) -> None:
    model = made(RECIPES[name])
    reason = next((words for specs, names, words in REFUSED if spec in specs and name in names), None)
    if reason is not None:
        with pytest.raises(ValueError, match=reason):
            sampled(model, spec, gradient)
        return
    x = sampled(model, spec, gradient)
    assert x.shape == (2, 1, 8, 8)
    assert x.dtype == torch.float32  # no host number of a schedule widens the images
    assert bool(x.isfinite().all())


@pytest.mark.parametrize("spec", [*SAMPLERS, "own"])
@pytest.mark.parametrize("name", OF_2015)
def test_models_of_2015_through_any_sampler(name: str, spec: str) -> None:
    """Fixed levels of real numbers take any sampler of levels; bits and learned levels their own alone."""
    model = made(OF_2015[name])
    other = model.diffusion.process is None and spec != "own"
    if other or spec in ("euler-maruyama", "euler-ode"):
        with pytest.raises(ValueError, match="2015" if other else "separate noise levels"):
            model.sample(2, steps=6, sampler=spec)
    elif spec not in ("adaptive", "restart"):  # which want finer levels than these
        pictures = model.sample(2, steps=6, sampler=spec)
        assert pictures.shape == (2, *model.recipe.shape)


def test_a_request_counts_what_its_pictures_cost() -> None:
    """Heun's last move asks once; both passes of classifier-free guidance count, a classifier's do not."""
    conditioning = replace(RECIPES["adm"].conditioning, dropout=0.1)
    model, guide = made(replace(RECIPES["adm"], conditioning=conditioning), NAMES), Guide(made(CLASSIFIER, NAMES))
    for changes, cost in (
        ({"sampler": "ddim"}, 4),
        ({"sampler": "heun"}, 7),
        ({"sampler": "predictor-corrector"}, 8),
        ({"sampler": "ddim", "scale": 2.0}, 8),
        ({"sampler": "own", "guide": guide}, 4),
    ):
        request = Request(3, 4, batch=2, **changes)  # type: ignore[arg-type]
        assert fulfilled(model, request, model.labels(None, 3)).evaluations == cost


def test_the_name_of_a_sampler_makes_it_again() -> None:
    for spec in (*SAMPLERS, "ddim?eta=0.5", "heun?churn=40&s_noise=1.003", "ancestral?variance=large"):
        assert samplers.name(samplers.by_name(spec)) == spec
        assert spec.partition("?")[0] in samplers.listed()
