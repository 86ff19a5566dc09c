"""Recipes as JSON: every paper and every part of one comes back from it, and what is unknown is named."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from sfumato import papers
from sfumato.conditioning import Labels, LowRes, Together
from sfumato.networks import NETWORKS
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.dpm import DPM
from sfumato.spaces import Bits, Standardised, UnitPixels


def again(recipe: Any) -> Any:
    return papers.from_json(json.loads(json.dumps(papers.to_json(recipe))))


@pytest.mark.parametrize("paper", papers.PAPERS)
def test_every_paper_comes_back(paper: str) -> None:
    recipe = papers.PAPERS[paper]()
    assert again(recipe) == recipe
    assert papers.to_json(recipe)["paper"] == paper


@pytest.mark.parametrize("network", NETWORKS)
def test_any_network_in_any_recipe_comes_back(network: str) -> None:
    recipe = DDPM(network=NETWORKS[network]())
    assert papers.to_json(recipe)["network"]["kind"] == network
    assert again(recipe) == recipe


def test_nested_parts_come_back_with_their_options() -> None:
    conditioning = Together((Labels(3, 0.25), LowRes(4)))
    recipe = DDPM(network=HoUNet(multipliers=(1, 3)), conditioning=conditioning, space=UnitPixels(), betas="cosine")
    assert again(recipe) == recipe
    values = papers.to_json(recipe)["conditioning"]
    assert [part["kind"] for part in values["parts"]] == ["labels", "low-res"]
    for space in (Standardised(0.1, 0.6, faithful=True), replace(DPM(betas="jsd", space=Bits()), steps=3).space):
        assert again(DDPM(space=space)).space == space


@pytest.mark.parametrize(("changes", "message"), [
    ({"paper": "vae"}, "unknown paper 'vae' in a recipe; this version knows dpm, ddpm"),
    ({"paper": None}, "unknown paper None"),
    ({"colour": 1}, "unknown options of ddpm in a recipe: colour"),
    ({"network": {"kind": "mlp"}}, "unknown kind 'mlp'"),
    ({"network": {"kind": "ddpm-unet", "depth": 3}}, "unknown options of ddpm-unet in a recipe: depth"),
    ({"conditioning": {"kind": "labels", "classes": 0, "dropout": 0.1}}, "label dropout needs classes"),
    ({"space": {"kind": "standardised", "std": 0.0}}, "above 0"),
    ({"betas": "cubic"}, "betas is one of linear"),
])  # fmt: skip
def test_what_is_unknown_is_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        papers.from_json({**papers.to_json(DDPM()), **changes})


def test_a_kind_without_a_name_is_refused() -> None:
    class Mine(HoUNet):
        """No row of NETWORKS."""

    with pytest.raises(ValueError, match="Mine has no name among"):
        papers.to_json(DDPM(network=Mine()))
