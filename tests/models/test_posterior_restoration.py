"""Restoration by posterior sampling: what was seen comes back, draws differ and are right, misfits are said."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from sfumato.conditioning import Labels
from sfumato.inverse import POSTERIORS, Blur, Function, Grey, Mask, MeanPool
from sfumato.models.restoration import restore
from sfumato.spaces import Standardised
from tests.models.small import EXACT, MEAN, OF_2015, RECIPES, STD, made

HALF = torch.arange(8) < 4


def pictures(channels: int = 1, n: int = 2) -> torch.Tensor:
    return torch.randint(80, 170, (n, channels, 8, 8), dtype=torch.uint8)


@pytest.mark.parametrize("name", ["ddpm", "adm", "ncsn", "VE", "VP"])
def test_what_was_seen_comes_back_and_each_draw_follows_its_seed(name: str) -> None:
    model, images = made(RECIPES[name]), pictures()
    labels = torch.tensor([0, 2]) if model.recipe.conditioning.classes else None
    options: dict[str, Any] = {"steps": 22 if name == "VP" else 4, "seed": 3}
    found = restore(model, images, Mask(HALF), draws=2, labels=labels, **options)
    assert found.draws.shape == (2, 2, 1, 8, 8)
    assert torch.equal(found.draws[..., :4], images[:, None, :, :, :4].expand(-1, 2, -1, -1, -1))
    assert float(found.error.max()) == 0
    assert not torch.equal(found.draws[:, 0], found.draws[:, 1])
    assert float(found.deviation[..., :4].max()) == 0
    alone = restore(
        model,
        images[1:].expand(2, -1, -1, -1),
        Mask(HALF),
        labels=None if labels is None else labels[[1, 1]],
        **options,
    )
    assert int((alone.draws[1, 0].int() - found.draws[1, 0].int()).abs().max()) <= 1
    assert found.mean.dtype == torch.uint8


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_method_and_a_space_of_its_own(name: str) -> None:
    for space in (RECIPES["ddpm"].space, Standardised(0.3, 0.4)):
        model = made(replace(RECIPES["ddpm"], space=space))
        seen = torch.nn.functional.avg_pool2d(pictures().float() / 127.5 - 1, 2)
        found = restore(model, seen, MeanPool(2), method=name, steps=4, sampler="ancestral", batch=1)
        assert found.draws.shape == (2, 1, 1, 8, 8)
        if name not in ("dps", "sdedit"):
            inside = (found.draws > 0) & (found.draws < 255)
            small = torch.nn.functional.avg_pool2d(found.draws[:, 0].float() / 127.5 - 1, 2)
            whole = torch.nn.functional.avg_pool2d(inside[:, 0].float(), 2) == 1
            assert float((small - seen).abs()[whole].max()) < 1e-2


def test_the_posterior_of_independent_pixels_is_the_prior_where_nothing_was_seen() -> None:
    model = made(EXACT)
    images = torch.full((400, 1, 2, 2), 200, dtype=torch.uint8)
    known = torch.tensor([[True, False], [False, False]])
    found = restore(model, images, Mask(known), steps=50, sampler="heun", batch=400).draws[:, 0, 0].float() / 127.5 - 1
    assert float(found[:, 1].mean()) == pytest.approx(MEAN, abs=0.05)
    assert float(found[:, 1].std()) == pytest.approx(STD, rel=0.1)
    made_of = restore(model, images, Mask(known), steps=50, sampler="heun", noise=STD, batch=400)
    noisy = made_of.draws[:, 0, 0, 0, 0].float() / 127.5 - 1
    assert float(noisy.mean()) == pytest.approx((MEAN + 200 / 127.5 - 1) / 2, abs=0.05)  # as much noise as data
    assert float(noisy.std()) == pytest.approx(STD / 2**0.5, rel=0.15)


def test_guided_restoration_and_any_function() -> None:
    model = made(replace(RECIPES["adm"], conditioning=Labels(3, 0.2)))
    labels = torch.tensor([0, 1])
    plain, strong = (
        restore(model, pictures(), Mask(HALF), labels=labels, steps=4, guidance=guidance)
        for guidance in (None, "interval?scale=5&high=9")
    )
    assert not torch.equal(plain.draws, strong.draws)
    seen = (pictures().float() / 127.5 - 1).square()
    made_of = restore(made(RECIPES["VE"]), seen, Function(torch.square), steps=4, sampler="ddim")
    assert made_of.error.shape == (2, 1)


def test_what_does_not_fit_is_said() -> None:
    model, images = made(RECIPES["ddpm"]), pictures()
    for y, operator, options, words in (
        (images, Mask(HALF[:5]), {}, "a mask of"),
        (images, MeanPool(3), {}, "MeanPool by 3"),
        (images, MeanPool(2), {}, r"sees \(1, 4, 4\)"),
        (images, Grey(), {}, "grey of 3"),
        (images, Mask(torch.ones(3, 1, 8, 8, dtype=torch.bool)), {}, "3 masks"),
        (images, Blur(), {"noise": -1.0}, "noise"),
        (images, Blur(), {"method": "mmsp"}, "did you mean mmps"),
        (images, Function(torch.square), {"method": "mmps"}, "linear"),
    ):
        with pytest.raises(ValueError, match=words):
            restore(model, y, operator, **options)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="label"):
        restore(made(RECIPES["adm"]), images, Mask(HALF))
    with pytest.raises(ValueError, match="2015"):
        restore(made(OF_2015["learned betas"]), images, Mask(HALF))
