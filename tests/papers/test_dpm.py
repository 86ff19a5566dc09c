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
from sfumato.core.beliefs import Believed
from sfumato.core.nonequilibrium import LowerBound
from sfumato.core.posterior import Known, Multiplied
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import finish
from sfumato.data import open_source
from sfumato.data.loader import to_float
from sfumato.data.toys import DeadLeaves, heartbeats, swiss_roll
from sfumato.evaluate.likelihood import k_of
from sfumato.model import Model
from sfumato.papers.dpm import DPM

BITS = DPM(shape=(1, 1, 20), diffusion="binomial", network="bits", betas="jsd", hidden=16, layers=2, steps=50)
POINTS = DPM(shape=(1, 1, 2), network="local", hidden=8, bumps=3, steps=10, betas="even", first_beta=1e-3, bin=0.0,
             reading="attractor", learn_betas=True)  # fmt: skip
LEAVES = DPM(shape=(1, 8, 8), hidden=8, layers=2, scales=2, dense=16, bumps=3, steps=20, first_beta=0.01)


def data(recipe: DPM, n: int = 64) -> torch.Tensor:
    if recipe is BITS:
        return to_float(heartbeats(n))
    return swiss_roll(n) if recipe is POINTS else to_float(DeadLeaves(8)(n))


RECIPES = pytest.mark.parametrize("recipe", [BITS, POINTS, LEAVES], ids=["bits", "points", "leaves"])


@RECIPES
def test_the_loss_of_every_level_adds_up_to_K_and_reaches_every_weight(recipe: DPM) -> None:
    x0 = data(recipe)
    fitted = recipe.standardised(x0)
    torch.manual_seed(0)
    model = fitted.model()
    for parameter in model.parameters():
        if parameter.dtype == torch.float32 and parameter.abs().max() == 0:
            torch.nn.init.normal_(parameter, std=0.05)
    dims, D = math.prod(recipe.shape), len(x0)
    levels = torch.arange(2, recipe.steps + 1)
    losses = torch.stack([
        fitted.loss(model, x0, t.expand(D), ImageNoise(int(t), range(D))).detach() for t in levels
    ])  # fmt: skip
    expected = fitted.null - dims * losses.mean().item()
    K = torch.stack([fitted.lower_bound(model, x0, ImageNoise(s, range(D))).K.detach() for s in range(4)]).mean()
    assert K.item() == pytest.approx(expected, rel=0.15, abs=1.0)
    t, _ = fitted.times().draw(torch.arange(D) / D)
    fitted.loss(model, x0, t).sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.parameters())


@RECIPES
def test_the_walk_ends_in_the_units_of_the_data_whatever_the_number_of_steps(recipe: DPM) -> None:
    x0 = data(recipe)
    fitted = recipe.standardised(x0)
    model = fitted.model()
    for steps in (None, 7, 10_000):
        moves = fitted.moves(fitted.denoiser(model), steps)
        assert len(moves) in ((7, 8) if steps == 7 else (recipe.steps,))  # the last is the edge, from level 1
        assert (moves[-1][1], moves[-1][2]) == (1, 0)
        x = finish(fitted.prior((5, *recipe.shape)).sample(), moves)
        assert x.shape == (5, *recipe.shape)
        if recipe is BITS:
            assert set(x.unique().tolist()) <= {-1.0, 1.0}
    if recipe is LEAVES:  # a silent network keeps the prior, which has the data's moments
        x = finish(fitted.prior((200, *recipe.shape)).sample(), fitted.moves(fitted.denoiser(model)))
        assert x.mean().item() == pytest.approx(fitted.data_mean, abs=0.05)
        assert x.std().item() == pytest.approx(fitted.data_std, rel=0.05)


def test_standardised_data_have_mean_0_and_variance_1_with_their_dequantisation() -> None:
    x0 = data(LEAVES, 400)
    fitted = LEAVES.standardised(x0)
    inside = fitted.inside(x0)
    assert inside.mean().item() == pytest.approx(0, abs=1e-3)
    assert inside.var().item() == pytest.approx(1, abs=1e-3)
    width = (fitted.inside(x0) - (x0 - fitted.data_mean) / fitted.data_std).abs().max() * 2 * fitted.data_std
    assert width.item() == pytest.approx(2 / 255, rel=0.01)


def test_the_slips_of_the_published_code_are_there_by_name() -> None:
    """T divergences instead of T - 1, noise divided by the scale of the data, and moments of the first 512 images."""
    x0 = torch.cat([data(LEAVES, 512), torch.ones(100, 1, 8, 8)])
    right, faithful = LEAVES.standardised(x0), replace(LEAVES, faithful=True).standardised(x0)
    assert faithful.data_mean == pytest.approx(x0[:512].mean().item())
    assert right.data_mean == pytest.approx(x0.mean().item())
    one = replace(faithful, data_mean=right.data_mean, data_std=right.data_std)
    u = (one.inside(x0) - (x0 - one.data_mean) / one.data_std) * one.data_std
    assert u.abs().max().item() * 2 == pytest.approx(one.data_std**2 / 510, rel=0.02)
    smooth = [replace(r, bin=0.0) for r in (right, one)]
    model, noise = right.model(), lambda: ImageNoise(0, range(612))
    a, b = (r.lower_bound(model, x0, noise()) for r in smooth)
    assert torch.allclose(a.ends - a.K, (b.ends - b.K) * 19 / 20)
    t = torch.full((612,), 5)
    losses = [r.loss(model, x0, t, noise()) for r in smooth]
    ends = a.ends / 64 - smooth[0].null / 64
    assert torch.allclose((losses[1] + ends) / (losses[0] + ends), torch.tensor(20 / 19).double())


def test_known_pixels_stay_and_the_others_do_not() -> None:
    x0 = data(LEAVES, 6)
    recipe = LEAVES.standardised(x0)
    model, known = recipe.model(), torch.rand(8, 8, generator=torch.Generator().manual_seed(0)) < 0.5
    moves = recipe.moves(recipe.denoiser(model))
    factor = Known(x0, known)
    x = finish(recipe.prior((6, 1, 8, 8)).sample(), [(Multiplied(kernel, factor), t, s) for kernel, t, s in moves])
    assert torch.equal(x[..., known], x0[..., known])
    assert (x[..., ~known] != x0[..., ~known]).all()
    with pytest.raises(ValueError, match="does not fit"):
        Known(x0, torch.ones(9, 9, dtype=torch.bool))


@pytest.mark.parametrize(("changes", "message"), [
    ({"classes": 3}, "no labels"),
    ({"network": "bits"}, "belong together"),
    ({"betas": "jsd"}, "bits have the betas"),
    ({"edge": "learned"}, "no bound for real numbers"),
    ({"data_std": 0.0}, "above 0"),
])  # fmt: skip
def test_choices_that_do_not_fit_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(LEAVES, **changes)


def test_other_lenses_say_why_they_do_not_fit() -> None:
    for recipe in (BITS, POINTS, LEAVES.standardised(data(LEAVES))):
        with pytest.raises(ValueError, match="own units and levels"):
            recipe.process()
    assert LEAVES.process().schedule.end == 20  # data as they are, fixed betas: an ordinary chain
    with pytest.raises(ValueError, match="guidance"):
        LEAVES.denoiser(LEAVES.model(), scale=2.0)
    with pytest.raises(ValueError, match="bits, 0 or 1"):
        BITS.loss(BITS.model(), torch.zeros(2, 1, 1, 20), torch.tensor([3, 4]))


@RECIPES
def test_json_round_trip(recipe: DPM) -> None:
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe


def test_K_of_a_set_does_not_depend_on_the_batch() -> None:
    images = open_source("heartbeat:test?limit=20")
    recipe = BITS.standardised(to_float(images.images))
    model = Model(recipe, recipe.model().requires_grad_(False), (), {})  # type: ignore[arg-type]
    a, b = (k_of(model, images, batch=n) for n in (20, 7))
    assert torch.allclose(a.values, b.values, atol=1e-4)
    assert a.gain == pytest.approx(a.K + 14.4386, abs=1e-3)
    with pytest.raises(ValueError, match="makes"):
        k_of(model, open_source("digits:test"))


def test_K_in_bits_per_dim_is_the_entropy_of_grey_levels(monkeypatch: pytest.MonkeyPatch) -> None:
    """A model as good as N(mean, std) and no better: at most the bits that a rounded normal variable takes."""
    images = open_source("digits:test?limit=16")
    recipe = DPM(shape=(1, 8, 8), hidden=4, scales=1, dense=0, steps=4, betas="even", data_std=0.5, bin=2 / 16)
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
    options = ["--recipe.steps", "100", "--train.images", "48k", "--train.batch", "64", "--train.threads", "1"]
    assert main(["train", "dpm/heartbeat", *options, "--train.learning-rate", "0.01", "--out", str(out)]) == 0
    assert main(["sample", str(out), "-n", "50"]) == 0
    assert main(["likelihood", str(out), "--limit", "100"]) == 0
    assert "K - L_null" in capsys.readouterr().out
    found = json.loads((out / "likelihood" / "k.json").read_text())
    assert found["unit"] == "bits"
    assert found["gain"] > 7
    assert -8 < found["K"] < -math.log2(5)


def test_a_believed_step_is_a_kernel() -> None:
    recipe = POINTS.standardised(data(POINTS))
    step = Believed(recipe.denoiser(recipe.model()))(data(POINTS), torch.tensor(5), torch.tensor(4))
    assert step.mean.shape == (64, 1, 1, 2)
