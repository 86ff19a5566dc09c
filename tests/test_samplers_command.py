"""`sfumato samplers`: the table of samplers, and which of them fit a model."""

from __future__ import annotations

import pytest

from sfumato.cli import main
from sfumato.samplers import SAMPLERS


def test_every_sampler_is_listed_with_its_order_and_price(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers"]) == 0
    rows = {line.split()[0]: line.split() for line in capsys.readouterr().out.splitlines() if line[:1].isalpha()}
    assert set(SAMPLERS) <= set(rows)
    assert rows["heun"][1:3] == ["2", "2"]
    assert rows["dpmpp-2m"][1:] == ["2", "1", "grid,", "noise"]
    assert rows["ancestral"][3] == rows["sde-dpmpp-2m"][3] == rows["euler-maruyama"][3] == "yes"
    assert "yes" not in rows["ddim"]


def test_a_model_says_what_it_is_sampled_by_and_what_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers", "ddpm/fashion"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0] == "by default: dpmpp-2m?grid=karras, 10 steps"
    assert "heun                 50 steps, 99 evaluations of the network" in said
    assert "adaptive             as many steps and evaluations as each image needs" in said
    assert any(line.startswith("euler-ode ") and "does not fit: " in line for line in said)


def test_unknown_models_and_what_is_no_gaussian_diffusion(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["samplers", "nope"]) == 2
    assert "nope: no such run folder" in capsys.readouterr().err
    assert main(["samplers", "adm_classifier/fashion"]) == 2
    assert "is a classifier" in capsys.readouterr().err
