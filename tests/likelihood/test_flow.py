"""The flow of a continuous model: there and back, likelihood with its errors, and what is refused."""

from __future__ import annotations

import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.conditioning import LowRes
from sfumato.core.distributions import Gaussian
from sfumato.core.likelihood import bits_per_dim
from sfumato.core.randomness import ImageNoise, mix
from sfumato.data import open_source
from sfumato.likelihood import Flow, Report, adaptive, ode_likelihood, runge_kutta
from sfumato.likelihood.flow import DEQUANTISE, dequantised
from sfumato.models import Model
from sfumato.networks.ncsnpp import DDPMpp
from sfumato.papers.score_sde import ScoreSDE
from tests.likelihood.exact import STD, Exact
from tests.models.small import EXACT, MEAN, OF_2015, PRESERVING, RECIPES, ExactSDE, exact_images, made
from tests.models.small import STD as PIXEL_STD

TINY = ScoreSDE(
    (1, 8, 8), DDPMpp(channels=8, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0), sde="vp",
    reduction="mean", corrector="none",
)  # fmt: skip


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
    exact = ode_likelihood(model(), images, solve, kind="exact", start=1e-3)
    probed = ode_likelihood(model(), images, solve, probes=2, repeats=4, start=1e-3)
    assert probed.values.shape == (4, 8)
    # the Jacobian is diagonal, so Rademacher probes are exact and only dequantisation differs
    assert abs(probed.bits_per_dim - exact.bits_per_dim) < 5 * probed.estimate_error
    assert 0 < probed.estimate_error < probed.standard_error
    x = digits().images.double() / 128 - 1 + 1 / 256
    nats = (0.5 * (x / STD) ** 2).mean() + math.log(STD) + 0.5 * math.log(2 * math.pi)
    assert exact.bits_per_dim == pytest.approx(float(nats) / math.log(2) + 7, abs=5e-3)
    halves = ode_likelihood(model(), images, solve, probes=2, start=1e-3, batch=3)
    assert torch.allclose(halves.values, probed.values[:1], atol=1e-4)
    values = probed.to_json()
    assert values["method"] == "probability flow"
    assert values["protocol"]["dequantisation"].startswith("uniform")
    assert values["protocol"]["divergence"] == "2 rademacher"
    one = Report("probability flow", "bits/dim", torch.ones(1, 1), 1.0, {})
    assert one.standard_error != one.standard_error  # not a number: one image has no spread


@pytest.mark.parametrize(
    ("recipe", "match"),
    [
        (RECIPES["ncsn"], "no continuous time between them"),
        (RECIPES["VE levels"], "no continuous time between them"),
        (OF_2015["dpm"], "2015"),
        (OF_2015["learned betas"], "2015"),
    ],
)
def test_a_model_of_separate_levels_is_refused_with_the_reason(recipe: Any, match: str) -> None:
    with torch.device("meta"):
        network = recipe.model()
    with pytest.raises(ValueError, match=match):
        Flow(Model(recipe, network), runge_kutta(5))
    with pytest.raises(ValueError, match=match):
        ode_likelihood(Model(recipe, network), digits(), runge_kutta(5))


def test_a_model_of_levels_has_the_likelihood_of_its_first_level() -> None:
    """DDPM's flow between its levels, on independent Gaussian pixels, against their density at level 1."""
    recipe = replace(EXACT, steps=400)
    test = exact_images(20)
    alpha, sigma = (float(c) for c in recipe.build().process.schedule.alpha_sigma(torch.tensor(1)))
    digits = open_source("digits")
    source = replace(digits, images=test, card=replace(digits.card, shape=(1, 2, 2)))
    report = ode_likelihood(Model(recipe, nn.Linear(1, 1)), source, runge_kutta(150), kind="exact", seed=5)
    seed = mix(mix(5, 0), DEQUANTISE)
    u = torch.special.ndtr(ImageNoise(seed, range(20))(test.float()).double())
    density = Gaussian(torch.tensor(0.2 * alpha), torch.tensor(((0.3 * alpha) ** 2 + sigma**2) ** 0.5))
    wanted = bits_per_dim(density.log_prob(dequantised(test, u)).flatten(1).sum(1), 4, 1 / 128)
    assert torch.allclose(report.values[0], wanted, atol=2e-3)
    assert report.protocol["start"] == 1 / 400


def test_a_ddpm_flows_there_and_back() -> None:
    flow = Flow(Model(replace(EXACT, steps=400, clip=True), nn.Linear(1, 1)), runge_kutta(40))
    back = flow.decode(flow.encode(exact_images(5)), clean=False)
    assert int((back.int() - exact_images(5).int()).abs().max()) <= 1


def test_every_model_of_preserving_levels_flows() -> None:
    for name in sorted(PRESERVING):
        labels = torch.tensor([0, 2]) if RECIPES[name].conditioning.classes else None
        flow = Flow(made(RECIPES[name]), runge_kutta(3), labels=labels)
        assert flow.sample(2).shape == (2, 1, 8, 8)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        Flow(model(), runge_kutta(5), start=0.0)
    with pytest.raises(ValueError, match="at least 1"):
        ode_likelihood(model(), digits(), runge_kutta(5), probes=0)
    with pytest.raises(ValueError, match="images"):
        ode_likelihood(model(replace(TINY, shape=(3, 8, 8))), digits(), runge_kutta(5))
    with pytest.raises(ValueError, match="out of noise alone"):
        Flow(made(replace(RECIPES["ddpm"], conditioning=LowRes(4))), runge_kutta(5))
    with pytest.raises(ValueError, match="needs its label"):
        Flow(made(RECIPES["adm"]), runge_kutta(5))


@pytest.mark.parametrize("sde", ["ve", "vp"])
def test_bits_per_dim_do_not_depend_on_the_units_inside(sde: Any) -> None:
    """VE works on images 1 wide, VP 2 wide: on Gaussian pixels both find these pixels' density in grey levels."""
    recipe = ExactSDE((1, 2, 2), sde=sde, corrector="none")
    source = open_source("digits")
    test = replace(source, images=exact_images(12), card=replace(source.card, shape=(1, 2, 2)))
    found = ode_likelihood(Model(recipe, nn.Linear(1, 1)), test, runge_kutta(150), kind="exact", seed=5)
    u = torch.special.ndtr(ImageNoise(mix(mix(5, 0), DEQUANTISE), range(12))(test.images.float()).double())
    std = (PIXEL_STD**2 + 0.02**2 * (sde == "ve")) ** 0.5  # VE's least noise, 0.01 on images 1 wide, is never gone
    of_pixel = Gaussian(torch.tensor(MEAN, dtype=torch.float64), torch.tensor(std, dtype=torch.float64))
    log_prob = of_pixel.log_prob(dequantised(test.images, u)).flatten(1).sum(1)
    assert torch.allclose(found.values[0], bits_per_dim(log_prob, 4, 1 / 128), atol=3e-3)
