"""Bounds in one kind of report: what they say, on what, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch

from sfumato.conditioning import LowRes
from sfumato.data import open_source
from sfumato.likelihood import Report, bound_of, k_of
from sfumato.spaces import Standardised, UnitPixels
from tests.models.small import OF_2015, RECIPES, made

DIGITS = open_source("digits:test")


def test_the_bound_is_the_sum_of_its_parts_and_the_same_in_any_batch() -> None:
    model = made(RECIPES["iddpm"])
    report = bound_of(model, DIGITS, limit=7, steps=10)
    assert report.values.shape == (1, 7)
    more = report.details
    assert report.total == pytest.approx(more["prior"] + sum(more["terms"]), rel=1e-5)
    assert more["decoder"] == pytest.approx(more["terms"][-1], rel=1e-5)
    assert len(more["rate"]) == len(more["distortion"]) == len(more["levels"]) == 10
    assert report.bits_per_dim == report.total
    assert report.standard_error == pytest.approx(float(report.values.std()) / 7**0.5)
    parts = bound_of(model, DIGITS, limit=7, steps=10, batch=3)
    assert torch.allclose(parts.values, report.values, rtol=1e-4)
    protocol = {"data": "digits:test", "images": 7, "levels": 10, "clipped": True}
    assert report.protocol.items() >= protocol.items()
    assert json.loads(json.dumps(report.to_json()))["unit"] == "bits/dim"


def test_labels_and_small_images_are_given_to_the_network() -> None:
    names = tuple("0123456789")
    conditional = replace(RECIPES["adm"], conditioning=replace(RECIPES["adm"].conditioning, classes=10))
    assert bound_of(made(conditional, names), DIGITS, limit=3, steps=4).values.isfinite().all()
    upsampler = replace(RECIPES["ddpm"], conditioning=LowRes(4))
    assert bound_of(made(upsampler), DIGITS, limit=3, steps=4).values.isfinite().all()
    with pytest.raises(ValueError, match="classes that digits:test does not have"):
        bound_of(made(RECIPES["adm"], ("a", "b", "c")), DIGITS, limit=3)


def test_k_in_its_own_units_and_in_bits_per_dim() -> None:
    recipe = replace(OF_2015["dpm"], space=Standardised(-0.4, 0.7))
    report = k_of(made(recipe), DIGITS, limit=6, steps=5)
    assert (report.unit, report.method) == ("bits/pixel", "K (2015)")
    assert report.details["gain"] == pytest.approx(report.total - report.details["null"])
    assert report.details["null"] == pytest.approx(-2.047, abs=1e-3)  # one normal number a pixel
    bins = torch.tensor(2 / 255 / 0.7).log2()
    assert report.bits_per_dim == pytest.approx(-report.total - float(bins), rel=1e-5)
    assert report.details["bits_error"] == pytest.approx(report.standard_error)  # one colour
    assert "divided by 0.70000" in report.protocol["units"]
    assert "bits/pixel" in str(report)


@pytest.mark.parametrize(
    ("estimate", "recipe", "words"),
    [
        (bound_of, RECIPES["VE"], "has no decoder"),
        (bound_of, RECIPES["ncsn"], "has no decoder"),
        (bound_of, OF_2015["dpm"], "has no decoder"),
        (bound_of, replace(RECIPES["ddpm"], space=UnitPixels()), "has no decoder"),
        (bound_of, replace(RECIPES["ddpm"], shape=(3, 8, 8)), r"makes \(3, 8, 8\) images"),
        (k_of, RECIPES["ddpm"], "not by K"),
        (k_of, replace(OF_2015["dpm"], shape=(3, 8, 8)), r"makes \(3, 8, 8\) images"),
    ],
)
def test_what_has_no_such_bound_is_refused(estimate: Any, recipe: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        estimate(made(recipe), DIGITS, limit=2)


def test_a_report_of_several_estimates_tells_their_error_apart() -> None:
    values = torch.tensor([[1.0, 3.0], [1.2, 3.2]], dtype=torch.float64)
    report = Report("probability flow", "bits/dim", values, 2.1, {})
    assert report.total == pytest.approx(2.1)
    assert report.standard_error == pytest.approx(1.0)
    assert report.estimate_error == pytest.approx((0.02 / 4) ** 0.5)
    assert "estimate_error" not in replace(report, values=values[:1]).to_json()
