"""Noising: what each draws, that a draw is each image's own, and that every recipe trains with it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sfumato import papers
from sfumato.conditioning import Labels
from sfumato.core.pairing import paired
from sfumato.core.randomness import ImageNoise
from sfumato.noising import NOISINGS, Explorative, Immiscible, Independent, Noising, Offset, Optimal
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.training import TrainConfig
from sfumato.spec import construct
from sfumato.train.setup import too_few_to_pair


def noise(keys: Any = range(24)) -> ImageNoise:
    return ImageNoise(3, list(keys))


class Zero(nn.Module):
    """Returns zeros, so that L_simple is the mean square of the noise itself."""

    def forward(self, x: torch.Tensor, t: torch.Tensor, **given: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(x)


@pytest.mark.parametrize("name", NOISINGS)
def test_each_is_of_the_shape_and_precision_of_the_images(name: str) -> None:
    kind = construct(NOISINGS, name, "noising")
    for x0 in (torch.rand(24, 3, 4, 4), torch.rand(24, 2).double()):
        eps = kind.draw(x0, noise())
        assert (eps.shape, eps.dtype) == (x0.shape, x0.dtype)
        assert torch.equal(eps, kind.draw(x0, noise()))


@pytest.mark.parametrize("kind", [Independent(), Immiscible(), Offset()])
def test_what_looks_at_one_image_does_not_depend_on_its_batch(kind: Noising) -> None:
    x0 = torch.rand(24, 1, 4, 4)
    whole = kind.draw(x0, noise())
    assert torch.equal(kind.draw(x0[5:9], noise(range(5, 9))), whole[5:9])


def test_independent_noise_is_the_noise_itself() -> None:
    x0 = torch.rand(24, 1, 4, 4)
    assert torch.equal(Independent().draw(x0, noise()), noise()(x0))
    assert torch.equal(Immiscible(1).draw(x0, noise()), noise()(x0))
    assert torch.equal(Offset(0.0).draw(x0, noise()), noise()(x0))


def test_optimal_noise_is_that_of_the_assignment() -> None:
    x0, y = torch.rand(24, 1, 4, 4), torch.arange(24) % 3
    for labels in (None, y):
        assert torch.equal(Optimal().draw(x0, noise(), labels), paired(x0, noise()(x0), labels))


def test_immiscible_noise_is_the_nearest_draw() -> None:
    x0, draw = torch.randn(24, 2, 4, 4), noise()
    draws = torch.stack([draw(x0) for _ in range(5)])
    best = (draws - x0).flatten(2).square().sum(2).argmin(0)
    assert torch.equal(Immiscible(5).draw(x0, noise()), draws[best, torch.arange(24)])
    assert len(best.unique()) > 1


def test_immiscible_noise_leans_along_the_image_by_the_mean_of_the_largest() -> None:
    """Nearest in one dimension of a far image is the largest of two normal numbers, of mean 1 / sqrt(pi)."""
    x0 = torch.full((20_000, 1), 1000.0)
    eps = Immiscible(2).draw(x0, torch.randn_like)
    assert float(eps.mean()) == pytest.approx(torch.pi**-0.5, abs=0.02)


def test_offset_noise_has_one_more_number_a_channel() -> None:
    """Variance 1 + s^2, and covariance s^2 within a channel alone."""
    eps = Offset(2.0).draw(torch.zeros(20_000, 2, 2, 1), torch.randn_like).flatten(1)
    expected = torch.eye(4) + 4 * torch.block_diag(torch.ones(2, 2), torch.ones(2, 2))
    assert torch.allclose(eps.T.cov(), expected, atol=0.2)


@pytest.mark.parametrize("recipe", [DDPM((1, 8, 8), weight="eps"), EDM((1, 8, 8)), FlowMatching((1, 8, 8))])
def test_the_loss_is_of_the_noise_that_is_drawn(recipe: Any) -> None:
    """More offset is more to predict, and nearer noise less."""
    x0, t = torch.rand(24, 1, 8, 8) * 2 - 1, recipe.build().times.draw(torch.full((24,), 0.7))[0]
    losses = {
        kind: float(replace(recipe, noising=kind).build().loss(Zero(), x0, t, noise()).mean())
        for kind in (Independent(), Offset(1.0), Immiscible(16))
    }
    assert len(set(losses.values())) == 3
    if isinstance(recipe, DDPM):
        assert losses[Offset(1.0)] > 1.5 > losses[Independent()]


def test_labels_bound_the_assignment_where_the_model_has_some() -> None:
    """Without label conditioning the labels of the data say nothing to it."""
    x0, y = torch.rand(24, 1, 8, 8), torch.arange(24) % 12
    t = torch.full((24,), 500)
    plain, free, bound = (
        replace(DDPM((1, 8, 8)), conditioning=conditioning, noising=kind).build().loss(Zero(), x0, t, noise(), y=y)
        for conditioning, kind in (
            (Labels(12), Independent()), (DDPM().conditioning, Optimal()), (Labels(12), Optimal()),
        )
    )  # fmt: skip
    assert not torch.equal(free, bound)
    assert not torch.equal(plain, bound)
    for label in range(12):
        assert torch.allclose(plain[y == label].sort().values, bound[y == label].sort().values)


def test_too_few_images_to_choose_among_are_said() -> None:
    recipe = DDPM((1, 8, 8), conditioning=Labels(100), noising=Optimal())
    said = too_few_to_pair(recipe, TrainConfig(batch=64), 1)
    assert said.startswith("noise is assigned within 64 images of 100 classes, 0.64 to choose among")
    assert not too_few_to_pair(recipe, TrainConfig(batch=400), 1)
    assert too_few_to_pair(recipe, TrainConfig(batch=400), 2)
    assert not too_few_to_pair(replace(recipe, noising=Immiscible()), TrainConfig(batch=4), 1)


def test_it_comes_back_from_a_checkpoint_also_from_one_of_before() -> None:
    recipe = FlowMatching(noising=Immiscible(3))
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe
    before = {key: value for key, value in papers.to_json(FlowMatching()).items() if key != "noising"}
    assert papers.from_json(before) == FlowMatching()
    for word, kind in (("independent", Independent()), ("optimal", Optimal())):
        assert papers.from_json({**before, "pairing": word}) == FlowMatching(noising=kind)
    assert papers.rewritten({**before, "pairing": "optimal"}) == papers.to_json(FlowMatching(noising=Optimal()))
    with pytest.raises(ValueError, match="unknown kind 'greedy'"):
        papers.from_json({**before, "pairing": "greedy"})


@pytest.mark.parametrize(("text", "message"), [
    ("offsett", "unknown noising 'offsett'; did you mean offset"),
    ("offset?strength=-1", "strength is between 0 and 10"),
    ("immiscible?candidates=0", "candidates is between 1 and 4,096"),
])  # fmt: skip
def test_bad_words_end_in_one_line(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        construct(NOISINGS, text, "noising")


def test_explorative_noise_is_the_draw_with_the_least_loss_in_training_alone() -> None:
    images, t = torch.rand(6, 1, 8, 8) * 2 - 1, torch.tensor([1, 50, 200, 500, 800, 1000])
    plain = DDPM((1, 8, 8)).build()
    several = DDPM((1, 8, 8), noising=Explorative(3)).build()
    drawn = noise(range(6))
    losses = [plain.loss(Zero(), images, t, drawn) for _ in range(3)]
    assert not torch.equal(losses[0], losses[1])
    found = several.loss(Zero(), images, t, noise(range(6)))
    torch.testing.assert_close(found, torch.stack(losses).amin(0))
    assert float(found.mean()) < float(losses[0].mean())
    torch.testing.assert_close(several.loss(Zero().eval(), images, t, noise(range(6))), losses[0])
    one = DDPM((1, 8, 8), noising=Explorative(1)).build()
    assert torch.equal(one.loss(Zero(), images, t, noise(range(6))), losses[0])
    given = torch.randn_like(images)  # pairs that were made before are kept
    torch.testing.assert_close(
        several.loss(Zero(), images, t, noise(range(6)), eps=given), given.square().flatten(1).mean(1)
    )
