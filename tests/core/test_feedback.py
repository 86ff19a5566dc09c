"""Self-conditioning: what is fed when, in training and in sampling, and that solvers keep their accuracy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.conditioning import CONDITIONINGS, Labels, SelfConditioned, Together
from sfumato.convert.onnx import ExportError, export
from sfumato.core.continuous import VP
from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.feedback import Feedback
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import finish
from sfumato.data import open_source
from sfumato.likelihood import ode_likelihood, runge_kutta
from sfumato.models import Model
from sfumato.papers.ddpm import DDPM
from sfumato.samplers import DDIM, SAMPLERS, Heun, by_name
from sfumato.spec import construct
from tests.papers import whole

SELF = SelfConditioned()
PROCESS = GaussianDiffusion(VP())
RANGE = (-100.0, 100.0)


def exact(weight: float) -> Any:
    """Makes denoisers of N(0.3, 0.4^2) that add a share of how far what is fed is from the truth."""

    def make(inputs: Mapping[str, Tensor]) -> Denoise:
        def denoise(x: Tensor, t: Tensor) -> Prediction:
            level = PROCESS.level(t, x)
            gain = level.alpha * whole.STD**2 / ((level.alpha * whole.STD) ** 2 + level.sigma**2)
            best = whole.MEAN + gain * (x - level.alpha * whole.MEAN)
            x0 = best + weight * (inputs["previous"].to(x) - best)
            return Prediction(x, level, level.eps(x, x0), x0)

        return denoise

    return make


class Sees(nn.Module):
    """Keeps what it sees beside x, its copies in the same list; predicts a half of what it is fed, and 1/4."""

    fed: ClassVar[list[Tensor]] = []

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.fed.clear()

    def forward(self, x: Tensor, t: Tensor, **given: Tensor) -> Tensor:
        x, previous = x.chunk(2, dim=1)
        self.fed.append(previous.detach())
        return 0 * x + previous / 2 + 0.25 + self.weight


RECIPE = DDPM((1, 8, 8), whole.NETWORK, SELF, prediction="x0", weight="x0", steps=100)


def test_training_looks_twice_at_a_share() -> None:
    """The first pass sees zeros, and the second what the first said where an image was chosen, else zeros."""
    network, x0, t = Sees(), torch.zeros(400, 1, 8, 8), torch.full((400,), 50)
    loss = RECIPE.build().loss(network, x0, t, ImageNoise(0, range(400)))
    first, second = tuple(network.fed)
    assert bool((first == 0).all())
    flat = second.flatten(1)
    assert sorted(flat.unique().tolist()) == [0.0, 0.25]
    assert bool((flat.amin(1) == flat.amax(1)).all())
    assert len(first) == int((flat[:, 0] > 0).sum()) == pytest.approx(200, abs=40)
    (slope,) = torch.autograd.grad(loss.sum(), network.weight)
    said = flat[:, 0] / 2 + 0.25
    torch.testing.assert_close(slope, (2 * said).sum())  # the first pass has no gradient
    part = Sees()
    RECIPE.build().loss(part, x0[10:20], t[10:20], ImageNoise(0, range(10, 20)))
    assert torch.equal(part.fed[1], second[10:20])


@pytest.mark.parametrize(("share", "seen"), [(0.0, 0.0), (1.0, 0.25)])
def test_none_or_all_are_seen_twice(share: float, seen: float) -> None:
    network = Sees()
    recipe = replace(RECIPE, conditioning=SelfConditioned(share))
    recipe.build().loss(network, torch.zeros(5, 1, 8, 8), torch.full((5,), 50), ImageNoise(0, range(5)))
    assert bool((network.fed[1] == seen).all())


def test_sampling_feeds_the_last_prediction_of_a_noisier_level() -> None:
    """Of 0, 1/4, 3/8, ... Heun's second evaluation at a level and the first of the next move see the same."""
    network = Sees()
    model = Model(RECIPE, network)
    model.sample(2, steps=4, sampler=DDIM(), precision="float32")
    assert [float(fed.amax()) for fed in network.fed] == [0, 0.25, 0.375, 0.4375]
    network.fed.clear()
    model.sample(2, steps=3, sampler=Heun(), precision="float32")
    assert [float(fed.amax()) for fed in network.fed] == [0, 0.25, 0.25, 0.375, 0.375]


def test_a_second_trajectory_remembers_nothing_of_the_first() -> None:
    fed = Feedback(exact(0.5), {}, RANGE)
    x = torch.randn(3, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    moves = Heun().plan(PROCESS, fed, 7)
    assert torch.equal(finish(x, moves), finish(x, moves))
    model = Model(RECIPE, RECIPE.model().eval())
    assert torch.equal(model.sample(3, steps=5, seed=2), model.sample(3, steps=5, seed=2))
    assert torch.equal(model.sample(3, steps=5, seed=2, precision="float32", batch=3)[1:2],
                       model.sample(3, steps=5, seed=2, precision="float32", batch=3)[1:2])  # fmt: skip


@pytest.mark.parametrize("sampler", ["ddim", "heun", "dpmpp-2m", "unipc", "ab"])
def test_a_solver_loses_no_order_where_what_is_fed_changes_nothing(sampler: str) -> None:
    x = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    chosen = by_name(sampler) if sampler in SAMPLERS else Heun()
    plain = finish(x, chosen.plan(PROCESS, exact(0.0)({"previous": torch.zeros(())}), 10))
    assert torch.equal(finish(x, chosen.plan(PROCESS, Feedback(exact(0.0), {}, RANGE), 10)), plain)


@pytest.mark.parametrize("sampler", ["heun", "unipc", "dpmpp-2m"])
def test_where_it_does_errors_halve_and_are_below_those_of_ddim(sampler: str) -> None:
    """What is fed lags a move behind, an error of first order, whatever the solver; the limit agrees with itself."""
    x = torch.randn(4, 1, 2, 2, generator=torch.Generator().manual_seed(0)).double()
    best = finish(x, Heun().plan(PROCESS, exact(0.0)({"previous": torch.zeros(())}), 800))

    def error(name: str, steps: int) -> float:
        made = finish(x, by_name(f"{name}?grid=karras").plan(PROCESS, Feedback(exact(0.3), {}, RANGE), steps))
        return float((made - best).abs().max())

    few, more, most = (error(sampler, steps) for steps in (20, 40, 80))
    assert few / more == pytest.approx(2, abs=0.3)
    assert more / most == pytest.approx(2, abs=0.3)
    assert most < 0.6 * error("ddim", 80)


def test_from_training_to_pictures_with_labels_and_guidance(tmp_path: Path) -> None:
    recipe = DDPM((1, 8, 8), whole.NETWORK, Together((Labels(10, 0.2), SELF)), betas="cosine", prediction="v")
    assert papers.from_json(papers.to_json(recipe)) == recipe
    model = whole.trained(recipe, tmp_path / "run")
    whole.trained(recipe, tmp_path / "halves", stop=True)
    again = whole.trained(recipe, tmp_path / "halves", resume=True)
    for name, value in model.network.state_dict().items():
        assert torch.equal(again.network.state_dict()[name], value)
    for sampler, guidance in (("ddim", None), ("heun", "interval?scale=2"), ("unipc", "apg?scale=2")):
        assert model.sample(2, steps=4, sampler=sampler, guidance=guidance).shape == (2, 1, 8, 8)
    for guidance in (None, "apg?scale=2&momentum=0"):  # without momentum
        with pytest.raises(ValueError, match="each image goes by times of its own here, so a model is not fed"):
            model.sample(2, sampler="adaptive", guidance=guidance)
    report = ode_likelihood(model, open_source("digits?limit=2"), runge_kutta(4))
    assert math.isfinite(report.total)
    with pytest.raises(ExportError, match="fed its own predictions"):
        export(recipe, model.network, tmp_path / "onnx")
    assert not (tmp_path / "onnx").exists()


def test_it_is_refused_twice_and_by_word() -> None:
    assert construct(CONDITIONINGS, "self?share=0.25", "conditioning") == SelfConditioned(0.25)
    with pytest.raises(ValueError, match="fed back once"):
        Together((SELF, SELF))
    with pytest.raises(ValueError, match="share is between 0 and 1"):
        SelfConditioned(1.5)
