"""The NCSN and NCSNv2 recipes: losses and Langevin steps in the papers' units, plans, techniques, a run end to end.

The papers' images u lie in [0, 1], ours inside the model in [-1/2, 1/2]: what they state of u is checked against that.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.core import techniques
from sfumato.core.sampling import DenoiseToZero, Move, finish
from sfumato.core.schedules import strided
from sfumato.data import open_source
from sfumato.models import load_model
from sfumato.networks.refinenet import RefineNet, RefineNetV2
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2, explained, fitted
from sfumato.papers.training import TrainConfig
from sfumato.train.loop import train

TINY = NCSN(shape=(1, 8, 8), network=RefineNet(8), moves_per_level=5)
TINY2 = NCSNv2(shape=(1, 8, 8), network=RefineNetV2(8), steps=12, first_sigma=5.0, moves_per_level=3, step_size=2e-5)


class Answer(nn.Module):
    """0.5 sin(u), and a little of the label where the network is given the level; keeps what it was asked."""

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.numbered, self.asked = isinstance(recipe, NCSN), torch.empty(0)

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.asked = label
        out = 0.5 * ((x + 1) / 2).sin()
        return out + 0.001 * label[:, None, None, None] if self.numbered else out


def planned(recipe: Any, steps: Any = None) -> list[Move]:
    """The moves of the recipe's own sampler."""
    diffusion = recipe.build()
    return diffusion.own.plan(diffusion.gaussian, diffusion.denoise(Answer(recipe), {}), steps)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("recipe", [TINY, TINY2], ids=["NCSN", "NCSNv2"])
def test_the_loss_is_the_papers_of_images_in_the_unit_range(recipe: Any, power: float) -> None:
    recipe = replace(recipe, anneal_power=power)
    network, t, numbered = Answer(recipe), torch.tensor([1, 4, recipe.steps]), isinstance(recipe, NCSN)
    u, z = torch.rand(3, 1, 8, 8), torch.randn(3, 1, 8, 8)
    loss = recipe.build().loss(network, 2 * u - 1, t, lambda _: z)
    label = recipe.steps - t
    falling = (recipe.last_sigma / recipe.first_sigma) ** (label / (recipe.steps - 1))
    sigma = (recipe.first_sigma * falling)[:, None, None, None]
    output = 0.5 * (u + sigma * z).sin()
    score = output + 0.001 * label[:, None, None, None] if numbered else output / sigma  # technique 3
    by_hand = 0.5 * ((score + z / sigma) ** 2).sum((1, 2, 3)) * sigma.flatten() ** power
    assert torch.allclose(loss, by_hand, rtol=1e-4)
    assert not numbered or torch.equal(network.asked, label)


@pytest.mark.parametrize("recipe", [TINY, TINY2], ids=["NCSN", "NCSNv2"])
def test_sampling_is_the_papers_on_images_in_the_unit_range(recipe: Any) -> None:
    """The same loop written out for u, beside the recipe's plan."""
    draws = [torch.randn(2, 1, 8, 8) for _ in range(recipe.steps * recipe.moves_per_level)]
    u, left = torch.rand(2, 1, 8, 8), iter(draws)
    x = finish(u - 0.5, planned(recipe), lambda _: next(left))
    numbered = isinstance(recipe, NCSN)
    sigmas = [
        recipe.first_sigma * (recipe.last_sigma / recipe.first_sigma) ** (i / (recipe.steps - 1))
        for i in range(recipe.steps)
    ]

    def score(u: Tensor, i: int) -> Tensor:
        return 0.5 * u.sin() + 0.001 * i if numbered else 0.5 * u.sin() / sigmas[i]

    left = iter(draws)
    for i, sigma in enumerate(sigmas):
        alpha = recipe.step_size * sigma**2 / recipe.last_sigma**2
        for _ in range(recipe.moves_per_level):
            u = u + alpha * score(u, i) + (2 * alpha) ** 0.5 * next(left)
    if not numbered:
        u = u + recipe.last_sigma**2 * score(u, recipe.steps - 1)
    assert torch.allclose(recipe.space.decode(x), 2 * u - 1, atol=1e-4)


def test_steps_are_moves_spread_over_the_levels() -> None:
    def plan(recipe: Any, steps: Any) -> list[int]:
        moves = planned(recipe, steps)
        assert all(t == s for kernel, t, s in moves if not isinstance(kernel, DenoiseToZero))
        return [int(t) for _, t, _ in moves]

    assert plan(TINY, None) == [t for t in range(10, 0, -1) for _ in range(5)]
    assert plan(TINY, 25) == sorted(plan(TINY, 25), reverse=True)
    assert len(plan(TINY, 25)) == 25
    assert plan(TINY, 3) == [10, 7, 3]
    assert plan(TINY, lambda T: strided(T, 2)) == [10] * 5 + [5] * 5
    assert len(plan(TINY2, None)) == 12 * 3 + 1
    assert len(plan(TINY2, 25)) == 25
    assert isinstance(planned(TINY2, 25)[-1][0], DenoiseToZero)
    with pytest.raises(ValueError, match="at least 1"):
        plan(TINY, 0)


@pytest.mark.parametrize("recipe", [TINY, TINY2], ids=["NCSN", "NCSNv2"])
def test_noise_to_start_from_is_the_first_levels_or_uniform_over_the_range(recipe: Any) -> None:
    x = recipe.build().prior((64, 1, 8, 8)).sample()
    assert float(x.std()) == pytest.approx(recipe.first_sigma, rel=0.05)
    x = replace(recipe, start="uniform").build().prior((64, 1, 8, 8)).sample()
    assert -0.5 <= float(x.min()) < -0.475
    assert 0.475 < float(x.max()) <= 0.5


@pytest.mark.parametrize("recipe", [TINY, TINY2], ids=["NCSN", "NCSNv2"])
def test_a_run_trains_samples_and_loads(recipe: Any, tmp_path: Path) -> None:
    settings = TrainConfig(images=64, batch=16, validation_images=8, preview_images=2, checkpoint_every=0)
    images = open_source("digits")
    train(recipe, images, settings, tmp_path / "run", config={"recipe": papers.to_json(recipe)}, quiet=True)
    model = load_model(tmp_path / "run")
    assert model.recipe == recipe
    pictures = model.sample(3, steps=12, sampler="own", seed=1)
    assert pictures.shape == (3, 1, 8, 8)
    assert torch.equal(pictures[:1], model.sample(1, steps=12, sampler="own", seed=1))
    assert model.sample(2, steps=5, sampler="ddim").shape == (2, 1, 8, 8)


@pytest.mark.parametrize(
    ("values", "match"),
    [({"classes": 3}, "unknown options"), ({"first_sigma": 0.001}, "falls"), ({"start": "black"}, "start is one of")],
)
def test_what_does_not_fit_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        papers.from_json({"paper": "ncsn", **values})


def test_the_papers_networks_have_the_papers_sizes() -> None:
    sizes = {
        NCSN(): 30_117_635,
        NCSN(shape=(1, 28, 28), network=RefineNet(64)): 7_638_657,
        NCSNv2(): 29_694_083,
        NCSNv2(shape=(3, 96, 96), network=RefineNetV2(depth=5)): 83_445_379,
        NCSNv2(shape=(3, 256, 256), network=RefineNetV2(depth=6)): 94_132_611,
    }
    for recipe, size in sizes.items():
        with torch.device("meta"):
            assert sum(p.numel() for p in recipe.model().parameters()) == size


# ---------------------------------------------------------------- techniques


def test_technique_1_is_the_largest_distance() -> None:
    images = torch.rand(40, 1, 4, 4)
    flat = images.flatten(1)
    assert techniques.largest_distance(images) == pytest.approx(float(torch.cdist(flat, flat).max()), rel=1e-5)
    assert techniques.largest_distance(images, limit=7) <= techniques.largest_distance(images)
    with pytest.raises(ValueError, match="two images"):
        techniques.largest_distance(images[:1])


def test_technique_2_makes_neighbours_overlap_by_half() -> None:
    """The published number of levels for CIFAR-10 is 232, of overlap 0.57; half needs 219."""
    for D in (64, 784, 3072):
        assert techniques.overlap(techniques.ratio_of_levels(D), D) == pytest.approx(0.5)
    assert techniques.number_of_levels(50.0, 0.01, 3072) == 219


def test_technique_4_finds_the_step_whose_noise_settles() -> None:
    """By the recursion itself: a step of size r keeps (1 - r)^2 of the variance and adds 2 r."""
    gamma, moves = 1.0376, 5
    size = techniques.best_step_size(0.01, gamma, moves)

    def after(r: float) -> float:
        variance = gamma**2
        for _ in range(moves):
            variance = (1 - r) ** 2 * variance + 2 * r
        return variance

    best = size / 0.01**2
    assert after(best) == pytest.approx(techniques.variance_ratio(best, gamma, moves))
    assert after(best) == pytest.approx(1.0, abs=0.06)
    assert after(best) <= min(after(0.9 * best), after(1.1 * best))


def test_a_recipe_fitted_to_digits_says_why() -> None:
    """NCSNv2's technique 1 on 8x8 digits: the largest distance is about 6 in [0, 1]^64."""
    images = open_source("digits").images.float() / 255
    recipe = fitted(NCSNv2(moves_per_level=5), images)
    assert recipe.shape == (1, 8, 8)
    assert recipe.first_sigma == pytest.approx(float(torch.pdist(images.flatten(1)).max()), rel=1e-4)
    text = explained(recipe).splitlines()
    assert [line[0] for line in text] == list("12345")
    assert f"{recipe.steps} levels" in text[1]
    assert "overlap 0.5" in text[1] or "overlap 0.49" in text[1]
