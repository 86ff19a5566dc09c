"""Guidance by name on small models: specs, what is compared with what, and refusals before any work."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.conditioning import Labels
from sfumato.models import Model
from sfumato.models.guidance import GUIDANCE, Autoguidance, Guidance, Interval, by_name, listed
from tests.models.small import RECIPES, made

NAMES = ("shirt", "shoe", "bag")


def labelled(dropout: float = 0.2) -> Any:
    return made(replace(RECIPES["adm"], conditioning=Labels(3, dropout)), NAMES)


def pictures(model: Model, **options: Any) -> Tensor:
    return model.sample(3, steps=4, seed=1, precision="float32", **options)


SPECS = {"negative": "negative?negative=shoe&scale={}", **{name: name + "?scale={}" for name in GUIDANCE}}


@pytest.mark.parametrize("name", GUIDANCE)
def test_every_kind_guides_and_at_scale_one_changes_no_bit(name: str) -> None:
    model = labelled()
    spec = SPECS[name] if name != "negative" else "negative?negative=shoe&scale={}"
    options: dict[str, Any] = {"sampler": "ddim", "guide_model": labelled() if name == "autoguidance" else None}
    if name == "autoguidance":
        with torch.no_grad():
            for parameter in options["guide_model"].network.parameters():
                parameter.mul_(0.9)
    plain = pictures(model, sampler="ddim")
    if name != "cfg++":
        assert torch.equal(pictures(model, guidance=spec.format(1), **options), plain)
    strong = "0.5" if name == "cfg++" else "6&high=9" if name == "interval" else "6"
    assert not torch.equal(pictures(model, guidance=spec.format(strong), **options), plain)


def test_scale_is_classifier_free_guidance() -> None:
    model = labelled()
    assert torch.equal(pictures(model, scale=3.0), pictures(model, guidance="classifier-free?scale=3"))


def test_a_negative_class_needs_no_label_dropout() -> None:
    model = labelled(0.0)
    found = pictures(model, guidance="negative?negative=bag&scale=4")
    assert not torch.equal(found, pictures(model))
    with pytest.raises(ValueError, match="label dropout"):
        pictures(model, guidance="interval")


def test_a_model_without_classes_is_guided_by_a_worse_one() -> None:
    model, guide = made(RECIPES["ddpm"]), made(RECIPES["ddpm"])
    assert torch.equal(pictures(model, guide_model=guide), pictures(model))  # the same model: nothing to push away from
    with torch.no_grad():
        for parameter in guide.network.parameters():
            parameter.mul_(0.8)
    first = pictures(model, guide_model=guide)
    assert torch.equal(first, pictures(model, guidance=Autoguidance(), guide_model=guide))
    assert torch.equal(pictures(model, guide_model=guide, scale=1.0), pictures(model))  # 1 is none where it is said
    assert not torch.equal(first, pictures(model))


def test_evaluations_of_both_are_counted_and_an_interval_saves_some() -> None:
    from sfumato.models.generate import Request, fulfilled

    model = made(RECIPES["ddpm"])

    def cost(guidance: Guidance) -> float:
        request = Request(2, 8, "ddim", guidance=guidance, guide_model=made(RECIPES["ddpm"]))
        return fulfilled(model, request).evaluations

    assert cost(Autoguidance()) == 16
    assert 8 < cost(Autoguidance(low=0.3, high=2.0)) < 16


def test_specs_are_typed_and_listed() -> None:
    assert by_name("interval?scale=2&low=0.3&high=inf") == Interval(scale=2.0, low=0.3, high=float("inf"))
    assert [line.split()[0] for line in listed().splitlines()] == list(GUIDANCE)
    for wrong, said in {
        "intervall": "did you mean interval",
        "interval?low=3": "0 <= low < high",
        "negative": "needs negative",
        "cfg++?scale=2": "between 0 and 1",
        "threshold?threshold=2": "quantile",
        "rescale?shares=1": "no option",
    }.items():
        with pytest.raises(ValueError, match=said):
            by_name(wrong)


def test_what_does_not_fit_is_refused() -> None:
    model = labelled()
    with pytest.raises(ValueError, match="needs a guide"):
        pictures(model, guidance="autoguidance")
    with pytest.raises(ValueError, match="sampler ddim"):
        pictures(model, guidance="cfg++", sampler="heun")
    with pytest.raises(ValueError, match="one of its options"):
        pictures(model, guidance="interval", scale=2.0)
    with pytest.raises(ValueError, match="unknown class"):
        pictures(model, guidance="negative?negative=hat")
    with pytest.raises(ValueError, match="trained without classes"):
        pictures(made(RECIPES["ddpm"]), guidance="negative?negative=hat")
    other_space = "the guide's --recipe.space is unit-pixels, the model's pixels"
    for guide, said in ((made(RECIPES["VP"]), "noise levels"), (made(RECIPES["VE"]), other_space)):
        with pytest.raises(ValueError, match=said):
            pictures(made(RECIPES["ddpm"]), guide_model=guide)
    with pytest.raises(ValueError, match="other classes"):
        pictures(model, guide_model=made(model.recipe, ("a", "b", "c")))


def test_momentum_needs_the_same_times_for_all_images() -> None:
    """Adaptive steps are each image's own: with momentum a picture would depend on its batch, without it does not."""
    model = labelled()
    options: dict[str, Any] = {"sampler": "adaptive?rtol=0.5&atol=0.5", "seed": 1, "precision": "float32"}
    with pytest.raises(ValueError, match=r"allow no momentum: take apg\?momentum=0"):
        model.sample(3, guidance="apg?scale=2", **options)
    together, alone = (model.sample(3, guidance="apg?scale=2&momentum=0", batch=b, **options).int() for b in (3, 1))
    assert (together - alone).abs().max() <= 1
