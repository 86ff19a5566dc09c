"""Any recipe with any weight, density of times, noising and conditioning trains ten steps and samples; pairwise."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from itertools import combinations, product
from typing import Any, Literal, get_args, get_type_hints

import pytest
import torch

from sfumato.conditioning import Conditioning, Labels, Picture, SelfConditioned, Together, Unconditional
from sfumato.core.losses import WEIGHTS
from sfumato.core.randomness import ImageNoise
from sfumato.core.uncertainty import Uncertainty
from sfumato.models import Model
from sfumato.networks.unet import HoUNet
from sfumato.noising import NOISINGS
from sfumato.papers.adm import ADM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.score_sde import ScoreSDE

NETWORK = HoUNet(channels=32, multipliers=(1,), blocks=1, attention=(), dropout=0.0)
SMALL: dict[str, Any] = {"shape": (1, 4, 4), "network": NETWORK}
CHOICES: dict[str, list[Any]] = {
    "recipe": [
        DDPM(**SMALL, betas="cosine", prediction="v", steps=50),
        DDPM(**SMALL, betas="cosine", prediction="x0", steps=50, zero_terminal_snr=True, shift=(1.0, 2.0)),
        ImprovedDDPM(**SMALL, steps=50, importance=True, shift=(2.0,)), ADM(**SMALL, steps=50, betas="cosine"),
        ScoreSDE(**SMALL, sde="vp", reduction="mean", corrector="none"), EDM(**SMALL),
        FlowMatching(**SMALL), FlowMatching(**SMALL, shift=2.0),
    ],
    "weight": list(WEIGHTS),
    "times": ["uniform", "logit-normal", "mode", "learned"],
    "noising": [kind() for kind in NOISINGS.values()],
    "conditioning": [
        Unconditional(), Labels(3, 0.2), SelfConditioned(), Together((Labels(3), SelfConditioned())),
        Together((Labels(3), Picture("mean-pool", 0.2, 0.5))),
    ],
    "uncertainty": [False, True],
}  # fmt: skip
"""Every choice along each axis; a recipe that has no such field leaves it out."""

Row = Mapping[str, int]


def pairwise(sizes: Mapping[str, int]) -> Iterator[dict[str, int]]:
    """Rows in which every two choices of different axes meet, greedily few."""
    left = {
        (a, i, b, j)
        for a, b in combinations(sizes, 2)
        for i, j in product(range(sizes[a]), range(sizes[b]))
    }  # fmt: skip
    while left:
        a, i, b, j = min(left)
        row = {a: i, b: j}
        for axis in sizes:
            if axis not in row:
                row[axis] = max(range(sizes[axis]), key=lambda k: len(covered({**row, axis: k}) & left))
        left -= covered(row)
        yield row


def covered(row: Row) -> set[tuple[str, int, str, int]]:
    """The pairs of a row."""
    order = list(CHOICES)
    axes = sorted(row, key=order.index)
    return {(a, row[a], b, row[b]) for a, b in combinations(axes, 2)}


ROWS = list(pairwise({axis: len(values) for axis, values in CHOICES.items()}))


def made(row: Row) -> tuple[Any, bool]:
    """The recipe of a row, and whether uncertainty is learned."""
    chosen = {axis: CHOICES[axis][number] for axis, number in row.items()}
    recipe, uncertainty = chosen.pop("recipe"), chosen.pop("uncertainty")
    known = {field.name for field in fields(recipe)}
    if chosen["times"] not in get_args(get_type_hints(type(recipe)).get("times", Literal[()])):
        known.discard("times")
    return replace(recipe, **{name: value for name, value in chosen.items() if name in known}), uncertainty


def test_every_two_choices_meet() -> None:
    sizes = {axis: len(values) for axis, values in CHOICES.items()}
    met = set().union(*map(covered, ROWS))
    for a, b in combinations(sizes, 2):
        assert {(i, j) for x, i, y, j in met if (x, y) == (a, b)} == set(product(range(sizes[a]), range(sizes[b])))
    assert len(ROWS) < 1.5 * sizes["weight"] * sizes["recipe"]


@pytest.mark.parametrize("part", [0, 1, *(pytest.param(i, marks=pytest.mark.slow) for i in range(2, 8))])
def test_it_trains_ten_steps_and_samples(part: int) -> None:
    for row in ROWS[part::8]:
        recipe, uncertain = made(row)
        torch.manual_seed(0)
        network, diffusion = recipe.model(), recipe.build()
        curve = Uncertainty() if uncertain else None
        parameters = [*network.parameters(), *(curve.parameters() if curve else ())]
        optimizer = torch.optim.Adam(parameters, lr=1e-3)
        before = [p.detach().clone() for p in network.parameters()]
        x0, y = 2 * torch.rand(6, 1, 4, 4) - 1, torch.arange(6) % 3
        labels = {"y": y} if conditioning_of(recipe).classes else {}
        for step in range(10):
            t, weight = diffusion.times.draw((torch.arange(6) + 0.5) / 6)
            losses = diffusion.loss(network, x0, t, ImageNoise(step, range(6)), **labels)
            diffusion.times.update(t, losses.detach())
            assert losses.shape == (6,), row
            assert bool(losses.isfinite().all()), (row, t, losses)
            if curve is not None and diffusion.process is not None:
                losses = curve.balanced(losses, diffusion.process.schedule.log_snr(t))
            optimizer.zero_grad()
            (losses * weight).mean().backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
        assert any(not torch.equal(a, b) for a, b in zip(before, network.parameters(), strict=True)), row
        model = Model(recipe, network.eval().requires_grad_(False))
        asked = conditioning_of(recipe).asks(recipe.shape)
        picture = None if asked is None else torch.zeros(2, *asked, dtype=torch.uint8)
        assert model.sample(2, steps=3, picture=picture, precision="float32").shape == (2, 1, 4, 4), row


def conditioning_of(recipe: Any) -> Conditioning:
    found: Conditioning = recipe.conditioning
    return found
