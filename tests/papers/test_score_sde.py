"""The Score-SDE recipe: what networks are told and trained on, every sampler of every SDE, and a run end to end."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.core.exact import gaussian
from sfumato.core.ode import sde
from sfumato.core.sampling import Move, finish
from sfumato.data import open_source
from sfumato.models import Model, load_model
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp, SongUNet
from sfumato.papers.score_sde import ScoreSDE
from sfumato.papers.training import TrainConfig
from sfumato.spaces import Pixels, UnitPixels
from sfumato.train.loop import train

NET: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (2,)}
VP_NET: dict[str, Any] = {"network": DDPMpp(**NET, dropout=0.0), "space": Pixels(), "reduction": "mean"}
TINY = ScoreSDE(shape=(1, 8, 8), network=NCSNpp(**NET, dropout=0.0), steps=100, first_sigma=10.0)
VP = replace(TINY, sde="vp", corrector="none", **VP_NET)
RECIPES = {
    "VE": TINY,
    "VP": VP,
    "sub-VP": replace(VP, sde="subvp"),
    "VE levels": replace(TINY, continuous=False, network=NCSNpp(**NET, dropout=0.0, fourier=False)),
    "VP levels": replace(VP, continuous=False, network=SongUNet(**NET, dropout=0.0)),
}


class Asked(nn.Module):
    """Answers with a function of what it sees, and keeps the label."""

    def __init__(self) -> None:
        super().__init__()
        self.label = torch.empty(0)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.label = label
        return 0.3 * x.sin() + 0.01


@pytest.mark.parametrize("name", RECIPES)
def test_the_loss_is_the_papers(name: str) -> None:
    """Half the sum, or the mean, of (sigma score + noise)^2; VE networks give sigma times the score, others minus."""
    recipe, network = RECIPES[name], Asked()
    t = torch.tensor([0.001, 0.3, 1.0]).double() if recipe.continuous else torch.tensor([1, 40, 100])
    x0, z = torch.rand(3, 1, 8, 8) * 2 - 1, torch.randn(3, 1, 8, 8)
    diffusion = recipe.build()
    loss = diffusion.loss(network, x0, t, lambda _: z)
    level = diffusion.gaussian.level(t, x0)
    low, high = recipe.space.range
    out = 0.3 * (2 / (high - low) * level.noise(recipe.space.encode(x0), z)).sin() + 0.01  # of images 2 wide
    error = ((out + z) if recipe.sde == "ve" else (out - z)) ** 2
    by_hand = error.sum((1, 2, 3)) / 2 if recipe.reduction == "half_sum" else error.mean((1, 2, 3))
    assert torch.allclose(loss, by_hand, rtol=1e-4)
    sigma = diffusion.gaussian.schedule.alpha_sigma(t)[1]  # of images 1 wide
    given = {"VE": sigma, "VP": 999 * t, "sub-VP": 999 * t, "VE levels": 100 - t, "VP levels": t - 1}[name]
    assert torch.allclose(network.label, given.float())


@pytest.mark.parametrize("name", ["VE", "VP", "sub-VP"])
def test_likelihood_weighting_multiplies_by_g_squared_over_the_variance(name: str) -> None:
    recipe, t = RECIPES[name], torch.tensor([0.01, 0.3, 1.0], dtype=torch.float64)
    x0, z = torch.rand(3, 1, 8, 8) * 2 - 1, torch.randn(3, 1, 8, 8)
    plain, weighted = (
        replace(recipe, likelihood_weighting=w).build().loss(Asked(), x0, t, lambda _: z) for w in (False, True)
    )
    schedule = sde(recipe.build().gaussian)
    ratio = schedule.drift_diffusion(t)[1] / schedule.alpha_sigma(t)[1] ** 2
    assert torch.allclose(weighted / plain, ratio.float(), rtol=1e-4)


def samplers() -> list[Any]:
    """Every predictor with every corrector on every SDE that has it."""
    cases = []
    for name, predictor, corrector in product(
        RECIPES, ("reverse", "euler", "ancestral", "none"), ("langevin", "annealed", "none")
    ):
        refused = predictor == ("ancestral" if RECIPES[name].continuous else "euler") or predictor == corrector
        cases.append(pytest.param(name, predictor, corrector, refused, id=f"{name}-{predictor}-{corrector}"))
    return cases


@pytest.mark.parametrize(("name", "predictor", "corrector", "refused"), samplers())
def test_every_sampler_makes_gaussian_data_or_says_why_not(
    name: str, predictor: Any, corrector: Any, refused: bool
) -> None:
    """With the exact score of N(0.2, 0.5^2): mean and deviation of 40 images of 64 pixels.

    Correctors alone take longer steps, more of them, and so end less exactly.
    """
    recipe = RECIPES[name]
    if refused:
        with pytest.raises(ValueError, match=r"levels|time|predictor"):
            replace(recipe, predictor=predictor, corrector=corrector)
        return
    torch.manual_seed(0)
    recipe = replace(recipe, predictor=predictor, corrector=corrector, snr=0.1, corrections=2)
    recipe = replace(recipe, snr=0.4, corrections=4) if predictor == "none" else recipe
    diffusion, scale = recipe.build(), (recipe.space.range[1] - recipe.space.range[0]) / 2
    data = gaussian(torch.full((64,), 0.2 * scale), torch.full((64,), 0.5 * scale))
    with torch.inference_mode():
        moves = diffusion.own.plan(diffusion.gaussian, data.denoise(diffusion.gaussian))
        x = recipe.space.decode(finish(diffusion.prior((40, 64)).sample(), moves))
    per_time = (predictor != "none") + recipe.corrections * (corrector != "none")
    assert len(moves) == 100 * per_time
    slack = 0.1 if predictor == "none" or recipe.sde == "ve" else 0.05
    assert float(x.mean()) == pytest.approx(0.2, abs=slack)
    assert float(x.std()) == pytest.approx(0.5, rel=0.12 if slack > 0.05 else 0.08)


def planned(recipe: ScoreSDE, steps: int | None = None) -> list[Move]:
    """The moves of the official loop."""
    diffusion = recipe.build()
    return diffusion.own.plan(diffusion.gaussian, diffusion.denoise(Asked(), {}), steps)


@pytest.mark.parametrize("name", RECIPES)
def test_steps_are_predictions(name: str) -> None:
    recipe = replace(RECIPES[name], corrector="langevin")
    assert len(planned(recipe, 25)) == 50
    assert len(planned(recipe)) == 200
    with pytest.raises(ValueError, match="steps"):
        planned(recipe, 0)


def test_few_steps_of_vp_are_refused_with_the_reason() -> None:
    with pytest.raises(ValueError, match="at least 20 steps"):
        planned(RECIPES["VP"], 10)


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_trains_samples_and_loads(name: str, tmp_path: Path) -> None:
    recipe = RECIPES[name]
    settings = TrainConfig(images=32, batch=16, validation_images=8, preview_images=2, checkpoint_every=0)
    images = open_source("digits")
    train(recipe, images, settings, tmp_path / "run", config={"recipe": papers.to_json(recipe)}, quiet=True)
    model = load_model(tmp_path / "run")
    assert model.recipe == recipe
    pictures = model.sample(3, steps=20, sampler="own", seed=1)
    assert pictures.shape == (3, 1, 8, 8)
    alone = model.sample(1, steps=20, sampler="own", seed=1)
    assert int((pictures[:1].int() - alone.int()).abs().max()) <= 1


def test_an_image_does_not_depend_on_its_batch_with_a_corrector() -> None:
    torch.manual_seed(0)
    recipe = RECIPES["VE"]
    network = recipe.model().eval()
    model = Model(recipe, network)
    together, alone = (model.sample(n, steps=10, sampler="own", seed=3) for n in (4, 1))
    assert int((together[:1].int() - alone.int()).abs().max()) <= 1


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"sde": "edm"}, "sde is one of ve, vp, subvp"),
        ({"sde": "subvp", "continuous": False}, "sub-VP"),
        ({"likelihood_weighting": True, "continuous": False}, "continuous time"),
        ({"predictor": "none", "corrector": "none"}, "predictor or a corrector"),
    ],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        ScoreSDE(**values)


def test_the_papers_networks_have_the_papers_sizes() -> None:
    vp: dict[str, Any] = {"sde": "vp", "corrector": "none"}
    sizes = {
        ScoreSDE(): 62_758_915,
        ScoreSDE(network=NCSNpp(blocks=8)): 107_587_075,
        ScoreSDE(continuous=False, network=NCSNpp(fourier=False)): 62_693_251,
        ScoreSDE(network=DDPMpp(), **vp): 61_804_419,
        ScoreSDE(network=DDPMpp(blocks=8), **vp): 106_632_579,
        ScoreSDE(network=SongUNet(), **vp): 35_218_947,
    }
    for recipe, size in sizes.items():
        with torch.device("meta"):
            assert sum(p.numel() for p in recipe.model().parameters()) == size


def test_json_round_trip() -> None:
    for recipe in RECIPES.values():
        assert papers.from_json(papers.to_json(recipe)) == recipe


def test_the_space_follows_the_sde_unless_it_is_given() -> None:
    assert ScoreSDE().space == UnitPixels()
    assert ScoreSDE(sde="vp").space == Pixels()
    assert ScoreSDE(space=Pixels()).space == Pixels()


# ---------------------------------------------------------------- as the official sampler has it on separate levels


def test_vp_on_levels_is_conditioned_on_the_official_times_in_sampling() -> None:
    """t (N - 1) at N times evenly from 1 to 1e-3: no whole numbers, though the index was one in training."""
    recipe, network = replace(RECIPES["VP levels"], steps=25), Asked()
    denoise = recipe.build().denoise(network, {})
    official = 24 * torch.linspace(1, 1e-3, 25, dtype=torch.float64)
    for level, label in zip(range(25, 0, -1), official, strict=True):
        denoise(torch.zeros(2, 1, 8, 8), torch.tensor(level))
        assert network.label.tolist() == pytest.approx([float(label)] * 2, abs=1e-5)


@pytest.mark.parametrize("name", ["VE levels", "VP levels"])
def test_the_annealed_corrector_on_levels_has_the_continuous_sigma(name: str) -> None:
    """2 (1 - beta) (snr sigma(t))^2, where sigma is the SDE's at the official time of the level, not the table's."""
    recipe = replace(RECIPES[name], predictor="none", corrector="annealed", snr=0.2)
    kernels = [kernel for kernel, _, _ in planned(recipe)]
    times = torch.linspace(1, 1e-5 if recipe.sde == "ve" else 1e-3, 100, dtype=torch.float64)
    sigma = replace(recipe, continuous=True).build().gaussian.schedule.alpha_sigma(times)[1]
    process = recipe.build().gaussian
    for i in (0, 50, 99):
        t = torch.tensor(100 - i)
        found = kernels[i](torch.zeros(1, 1, 8, 8), t, t).to
        expected = 2 * process.between(t - 1, t).alpha ** 2 * (0.2 * sigma[i]) ** 2
        assert float(found.std**2 / 2) == pytest.approx(float(expected), rel=1e-6)  # type: ignore[attr-defined]
