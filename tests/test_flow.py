"""The flow of a continuous model: there and back, likelihood with its errors, and what is refused."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.core.distributions import Gaussian
from sfumato.core.likelihood import bits_per_dim
from sfumato.core.randomness import ImageNoise, mix
from sfumato.core.schedules import VP
from sfumato.core.sde import runge_kutta
from sfumato.data import open_source
from sfumato.flow import DEQUANTISE, Flow, FlowReport, adaptive, dequantised, flow_likelihood
from sfumato.model import Model
from sfumato.papers.ncsn import NCSN
from sfumato.papers.score_sde import ScoreSDE
from tests.test_edit import RECIPE, images
from tests.test_lenses import RECIPES

TINY = ScoreSDE(
    shape=(1, 8, 8), sde="vp", reduction="mean", network="ddpmpp", channels=8, multipliers=(1, 2), blocks=1,
    attention=(), dropout=0.0, corrector="none",
)  # fmt: skip


STD = 0.6


class Exact(nn.Module):
    """What the best network would answer for images whose pixels are N(0, STD^2)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()), requires_grad=False)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        alpha, sigma = (c[:, None, None, None] for c in VP().alpha_sigma(seen.double() / 999))
        return self.weight * sigma * x / ((alpha * STD) ** 2 + sigma**2)


def model(recipe: Any = TINY) -> Model:
    """A recipe with that network."""
    return Model(recipe, Exact())


def digits(n: int = 8) -> Any:
    return replace(open_source("digits"), images=open_source("digits").images[:n])


def test_decoding_undoes_encoding() -> None:
    images = open_source("digits").images[:3]
    flow = Flow(model(), runge_kutta(60))
    back = flow.decode(flow.encode(images), clean=False)
    assert int((back.int() - images.int()).abs().max()) <= 1


def test_a_picture_follows_from_its_seed_and_number_alone() -> None:
    flow = Flow(model(), runge_kutta(10), start=1e-3)
    assert torch.equal(flow.sample(3, seed=4)[:1], flow.sample(1, seed=4))
    assert torch.allclose(flow.latents(2, 1, temperature=0.5), 0.5 * flow.latents(2, 1))


def test_the_adaptive_solver_agrees_with_small_steps_and_counts_its_calls() -> None:
    pytest.importorskip("torchdiffeq")
    calls: list[int] = []
    images = open_source("digits").images[:2]
    precise = Flow(model(), runge_kutta(100)).encode(images)
    ours = Flow(model(), adaptive(calls=calls)).encode(images)
    assert torch.allclose(ours, precise, atol=1e-4)
    assert len(calls) == 1
    assert calls[0] > 20


def test_without_torchdiffeq_the_error_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torchdiffeq", None)
    with pytest.raises(ValueError, match=r"pip install \"sfumato\[ode\]\""):
        adaptive()


def test_dequantisation_fills_the_range_evenly() -> None:
    images = torch.tensor([[0, 255]], dtype=torch.uint8)
    assert dequantised(images, torch.zeros(1, 2)).tolist() == [[-1.0, 1 - 1 / 128]]
    assert float(dequantised(images, torch.ones(1, 2))[0, 1]) == 1


def test_a_likelihood_says_what_it_is_and_how_sure() -> None:
    """Estimates by probes surround the exact trace's, within their own error; each image's is its own."""
    solve, images = runge_kutta(40), digits()
    exact = flow_likelihood(model(), images, solve, kind="exact", start=1e-3)
    probed = flow_likelihood(model(), images, solve, probes=2, repeats=4, start=1e-3)
    assert probed.values.shape == (4, 8)
    # the Jacobian is diagonal, so Rademacher probes are exact and only dequantisation differs
    assert abs(probed.bits_per_dim - exact.bits_per_dim) < 5 * probed.estimate_error
    assert 0 < probed.estimate_error < probed.standard_error
    x = digits().images.double() / 128 - 1 + 1 / 256
    nats = (0.5 * (x / STD) ** 2).mean() + math.log(STD) + 0.5 * math.log(2 * math.pi)
    assert exact.bits_per_dim == pytest.approx(float(nats) / math.log(2) + 7, abs=5e-3)
    halves = flow_likelihood(model(), images, solve, probes=2, start=1e-3, batch=3)
    assert torch.allclose(halves.values, probed.values[:1], atol=1e-4)
    values = probed.to_json()
    assert values["method"] == "probability flow"
    assert values["protocol"]["dequantisation"].startswith("uniform")
    assert values["protocol"]["divergence"] == "2 rademacher"
    assert FlowReport(torch.ones(1, 1), {}).standard_error != 0  # not a number: one image has no spread


@pytest.mark.parametrize(
    ("recipe", "match"),
    [
        (NCSN(shape=(1, 8, 8), channels=8), "no continuous time between them"),
        (replace(TINY, sde="ve", continuous=False), "no continuous time between them"),
    ],
)
def test_a_model_of_separate_levels_is_refused_with_the_reason(recipe: Any, match: str) -> None:
    with torch.device("meta"):
        network = recipe.model()
    with pytest.raises(ValueError, match=match):
        Flow(Model(recipe, network), runge_kutta(5))
    with pytest.raises(ValueError, match=match):
        flow_likelihood(Model(recipe, network), digits(), runge_kutta(5))


def test_a_model_of_levels_has_the_likelihood_of_its_first_level() -> None:
    """DDPM's flow between its levels, on independent Gaussian pixels, against their density at level 1."""
    recipe = replace(RECIPE, steps=400)
    test = images(20)
    alpha, sigma = (float(c) for c in recipe.process().schedule.alpha_sigma(torch.tensor(1)))
    digits = open_source("digits")
    source = replace(digits, images=test, card=replace(digits.card, shape=(1, 2, 2)))
    report = flow_likelihood(Model(recipe, nn.Linear(1, 1)), source, runge_kutta(150), kind="exact", seed=5)
    seed = mix(mix(5, 0), DEQUANTISE)
    u = torch.special.ndtr(ImageNoise(seed, range(20))(test.float()).double())
    density = Gaussian(torch.tensor(0.2 * alpha), torch.tensor(((0.3 * alpha) ** 2 + sigma**2) ** 0.5))
    wanted = bits_per_dim(density.log_prob(dequantised(test, u)).flatten(1).sum(1), 4, 1 / 128)
    assert torch.allclose(report.values[0], wanted, atol=2e-3)
    assert report.protocol["start"] == 1 / 400


def test_a_ddpm_flows_there_and_back() -> None:
    flow = Flow(Model(replace(RECIPE, steps=400, clip=True), nn.Linear(1, 1)), runge_kutta(40))
    back = flow.decode(flow.encode(images(5)), clean=False)
    assert int((back.int() - images(5).int()).abs().max()) <= 1


def test_every_model_of_preserving_levels_flows() -> None:
    for name in ("ddpm", "iddpm", "adm", "VP levels"):
        recipe = RECIPES[name]
        labels = torch.tensor([0, 2]) if recipe.classes else None
        flow = Flow(Model(recipe, recipe.model().eval()), runge_kutta(3), labels=labels)
        assert flow.sample(2).shape == (2, 1, 8, 8)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Flow(model(), runge_kutta(5), start=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        flow_likelihood(model(), digits(), runge_kutta(5), probes=0)
    with pytest.raises(ValueError, match="images"):
        flow_likelihood(model(replace(TINY, shape=(3, 8, 8))), digits(), runge_kutta(5))
