"""The recipe of 2015: its units, its loss against K, its slips by name, sampling, and the whole way through the CLI."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato import papers
from sfumato.cli import main
from sfumato.core.dpm2015.beliefs import BelievedStep
from sfumato.core.dpm2015.nonequilibrium import LowerBound
from sfumato.core.dpm2015.products import Known, Multiplied
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Move, finish
from sfumato.data import open_source
from sfumato.data.loader import to_float
from sfumato.data.toys import DeadLeaves, heartbeats, swiss_roll
from sfumato.likelihood import k_of
from sfumato.models import Model
from sfumato.networks.dpm2015 import DPMBits, DPMImage, DPMLocal
from sfumato.papers.dpm import DPM
from sfumato.spaces import Bits, Standardised

BITS = DPM(shape=(1, 1, 20), network=DPMBits(hidden=16, layers=2), space=Bits(), betas="jsd", steps=50)
POINTS = DPM(
    shape=(1, 1, 2), network=DPMLocal(hidden=8, bumps=3), space=Standardised(bin=0.0), steps=10, betas="even",
    first_beta=1e-3, prediction="attractor", learn_betas=True,
)  # fmt: skip
IMAGE = DPMImage(hidden=8, layers=2, scales=2, dense=16, bumps=3)
LEAVES = DPM(shape=(1, 8, 8), network=IMAGE, steps=20, first_beta=0.01)


def data(recipe: DPM, n: int = 64) -> torch.Tensor:
    if recipe is BITS:
        return to_float(heartbeats(n))
    return swiss_roll(n) if recipe is POINTS else to_float(DeadLeaves(8)(n))


def fit(recipe: DPM, x0: torch.Tensor) -> DPM:
    """The recipe with the moments of its data."""
    return replace(recipe, space=recipe.space.fitted([x0]))


def moves_of(recipe: DPM, model: Any, steps: int | None = None) -> list[Move]:
    """The moves of its own sampler."""
    diffusion = recipe.build()
    return diffusion.own.plan(diffusion.process, diffusion.denoise(model, {}), steps)


RECIPES = pytest.mark.parametrize("recipe", [BITS, POINTS, LEAVES], ids=["bits", "points", "leaves"])


@RECIPES
def test_the_loss_of_every_level_adds_up_to_K_and_reaches_every_weight(recipe: DPM) -> None:
    x0 = data(recipe)
    fitted = fit(recipe, x0)
    diffusion = fitted.build()
    torch.manual_seed(0)
    model = fitted.model()
    for parameter in model.parameters():
        if parameter.dtype == torch.float32 and parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    dims, D = math.prod(recipe.shape), len(x0)
    levels = torch.arange(2, recipe.steps + 1)
    losses = torch.stack([
        diffusion.loss(model, x0, t.expand(D), ImageNoise(int(t), range(D))).detach() for t in levels
    ])  # fmt: skip
    expected = fitted.null - dims * losses.mean().item()
    K = torch.stack([fitted.lower_bound(model, x0, ImageNoise(s, range(D))).K.detach() for s in range(4)]).mean()
    assert K.item() == pytest.approx(expected, rel=0.15, abs=1.0)
    t, _ = diffusion.times.draw(torch.arange(D) / D)
    diffusion.loss(model, x0, t).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@RECIPES
def test_sampling_ends_in_the_units_of_the_data_whatever_the_number_of_steps(recipe: DPM) -> None:
    x0 = data(recipe)
    fitted = fit(recipe, x0)
    model, prior, space = fitted.model(), fitted.build().prior, fitted.space
    for steps in (None, 7, 10_000):
        moves = moves_of(fitted, model, steps)
        assert len(moves) in ((7, 8) if steps == 7 else (recipe.steps,))  # the last is the edge, from level 1
        assert (moves[-1][1], moves[-1][2]) == (1, 0)
        x = space.decode(finish(prior((5, *recipe.shape)).sample(), moves))
        assert x.shape == (5, *recipe.shape)
        if recipe is BITS:
            assert set(x.unique().tolist()) <= {-1.0, 1.0}
    if recipe is LEAVES:  # a silent network keeps the prior, which has the data's moments
        x = space.decode(finish(prior((200, *recipe.shape)).sample(), moves_of(fitted, model)))
        assert x.mean().item() == pytest.approx(space.mean, abs=0.05)
        assert x.std().item() == pytest.approx(space.std, rel=0.05)


def test_the_slip_of_the_published_code_that_counts_one_divergence_too_many() -> None:
    """T divergences instead of T - 1; the slips of the space are its own (`test_spaces`)."""
    x0 = data(LEAVES, 100)
    right = replace(LEAVES, space=Standardised(bin=0.0).fitted([x0]))
    both = (right, replace(right, faithful=True))
    model, noise = right.model(), lambda: ImageNoise(0, range(100))
    a, b = (r.lower_bound(model, x0, noise()) for r in both)
    assert torch.allclose(a.ends - a.K, (b.ends - b.K) * 19 / 20)
    t = torch.full((100,), 5)
    losses = [r.build().loss(model, x0, t, noise()) for r in both]
    ends = a.ends / 64 - right.null / 64
    assert torch.allclose((losses[1] + ends) / (losses[0] + ends), torch.tensor(20 / 19).double())


def test_known_pixels_stay_and_the_others_do_not() -> None:
    x0 = data(LEAVES, 6)
    recipe = fit(LEAVES, x0)
    model, known = recipe.model(), torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    inside = recipe.space.encode(x0)
    moves = [(Multiplied(kernel, Known(inside, known)), t, s) for kernel, t, s in moves_of(recipe, model)]
    x = finish(recipe.build().prior((6, 1, 8, 8)).sample(), moves)
    assert torch.equal(x[..., known], inside[..., known])
    assert (x[..., ~known] != inside[..., ~known]).all()
    with pytest.raises(ValueError, match="does not fit"):
        Known(x0, torch.ones(9, 9, dtype=torch.bool))


@pytest.mark.parametrize(("changes", "message"), [
    ({"prediction": "eps"}, "prediction is one of"),
    ({"space": Bits()}, "bits have the betas"),
    ({"betas": "jsd"}, "bits have the betas"),
    ({"edge": "learned"}, "no bound for real numbers"),
])  # fmt: skip
def test_choices_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LEAVES, **changes)


def test_bits_and_learned_levels_are_sampled_by_their_own_steps_alone() -> None:
    for recipe in (BITS, POINTS):
        with pytest.raises(ValueError, match="sampled by its own"):
            _ = recipe.build().gaussian
    assert LEAVES.build().gaussian.schedule.end == 20  # fixed betas: an ordinary chain
    with pytest.raises(ValueError, match="bits, 0 or 1"):
        BITS.build().loss(BITS.model(), torch.zeros(2, 1, 1, 20), torch.tensor([3, 4]))


@RECIPES
def test_json_round_trip(recipe: DPM) -> None:
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe


def test_K_of_a_set_does_not_depend_on_the_batch() -> None:
    images = open_source("heartbeat:test?limit=20")
    recipe = fit(BITS, to_float(images.images))
    model = Model(recipe, recipe.model().requires_grad_(False), (), {})  # type: ignore[arg-type]
    a, b = (k_of(model, images, batch=n) for n in (20, 7))
    assert torch.allclose(a.values, b.values, atol=1e-4)
    assert a.details["gain"] == pytest.approx(a.total + 14.4386, abs=1e-3)
    with pytest.raises(ValueError, match="makes"):
        k_of(model, open_source("digits:test"))


def test_K_in_bits_per_dim_is_the_entropy_of_grey_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model as good as N(mean, std) and no better: at most the bits that a rounded normal variable takes."""
    images = open_source("digits:test?limit=16")
    network, space = DPMImage(hidden=4, scales=1, dense=0), Standardised(std=0.5, bin=2 / 16)
    recipe = DPM(shape=(1, 8, 8), network=network, space=space, steps=4, betas="even")
    model = Model(recipe, recipe.model().requires_grad_(False), (), {})  # type: ignore[arg-type]

    def as_the_null(self: DPM, model: Any, x0: torch.Tensor, noise: Any, levels: Any = None) -> LowerBound:
        n = len(x0)
        return LowerBound(torch.tensor([2]), torch.zeros(n, 1), torch.full((n,), self.null), 1)

    monkeypatch.setattr(DPM, "lower_bound", as_the_null)
    report = k_of(model, images)
    edges = torch.arange(-40.5, 41).double() * (2 / 16) / 0.5
    mass = torch.special.ndtr(edges).diff()
    mass = mass[mass > 0]
    entropy = float(-(mass * mass.log2()).sum())
    assert report.bits_per_dim == pytest.approx(entropy, abs=0.02)
    assert report.to_json()["bits_per_dim"] == report.bits_per_dim
    faithful = Model(replace(recipe, faithful=True), model.network, (), {})  # type: ignore[arg-type]
    assert k_of(faithful, images).bits_per_dim is None


def test_a_heartbeat_from_training_to_K_through_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A short run learns the beat; the command that it prints samples from it, and K is above independent bits'."""
    out = tmp_path / "run"
    options = ["--recipe.steps", "100", "--train.images", "32k", "--train.batch", "64", "--train.threads", "1"]
    assert main(["train", "dpm/heartbeat", *options, "--train.learning-rate", "0.01", "--out", str(out)]) == 0
    assert main(["sample", str(out), "-n", "50"]) == 0
    assert main(["likelihood", str(out), "--limit", "100"]) == 0
    assert "K - L_null" in capsys.readouterr().out
    (path,) = (out / "likelihood").glob("k*/k.json")
    found = json.loads(path.read_text())
    assert found["unit"] == "bits"
    assert found["gain"] > 7
    assert -8 < found["total"] < -math.log2(5)


def test_a_believed_step_is_a_kernel() -> None:
    recipe = fit(POINTS, data(POINTS))
    believe = recipe.build().denoise(recipe.model(), {})
    step = BelievedStep(believe)(data(POINTS), torch.tensor(5), torch.tensor(4)).to
    assert step.mean.shape == (64, 1, 1, 2)
