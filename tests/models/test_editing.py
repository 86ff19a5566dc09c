"""Editing on a model whose denoiser is exact, so that encoding, decoding and mixing have known answers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.conditioning import Labels, LowRes
from sfumato.models import Model
from sfumato.models.editing import Editor
from sfumato.samplers.ddim import slerp
from tests.models.small import EXACT as RECIPE
from tests.models.small import OF_2015, ExactSDE, exact_images, made
from tests.models.small import exact_images as images

MODEL = Model(RECIPE, nn.Linear(1, 1))


def test_reconstruction_error_falls_with_steps() -> None:
    errors = [float(Editor(MODEL, steps).reconstruct(images(16))[1].mean()) for steps in (10, 50, 200)]
    assert errors[0] > errors[1] >= errors[2]
    assert errors[2] < 2e-5


def test_latents_of_data_are_standard_normal() -> None:
    latents = Editor(MODEL, 200).encode(images(500))
    assert abs(float(latents.mean())) < 0.1
    assert float(latents.std()) == pytest.approx(1, abs=0.06)


def test_interpolation_meets_both_ends() -> None:
    editor = Editor(MODEL, 100)
    latents = torch.randn(6, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    rows = editor.between(latents[:3], latents[3:], points=5)
    assert rows.shape == (3, 5, 1, 2, 2)
    assert torch.equal(rows[:, 0], editor.decode(latents[:3]))
    assert torch.equal(rows[:, -1], editor.decode(latents[3:]))


def test_slerp_stays_on_the_sphere_and_moves_evenly() -> None:
    a, b = torch.randn(2, 5, 3, 8, 8, generator=torch.Generator().manual_seed(2))
    a, b = (v / v.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1) for v in (a, b))
    path = torch.stack([slerp(a, b, share) for share in (0.0, 0.25, 0.5, 0.75, 1.0)])
    assert torch.allclose(path[0], a, atol=1e-6)
    assert torch.allclose(path[-1], b, atol=1e-6)
    assert torch.allclose(path.flatten(2).norm(dim=2), torch.ones(5, 5), atol=1e-5)
    chords = path.diff(dim=0).flatten(2).norm(dim=2)
    assert torch.allclose(chords, chords[:1].expand_as(chords), rtol=1e-4)
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-5)


def test_mixtures_near_clean_data_are_the_pictures_themselves() -> None:
    first, second = images(8)[:4], images(8)[4:]
    rows = Editor(MODEL, 200).mixtures(first, second, level=2, points=3)
    assert (rows[:, 0].int() - first.int()).abs().max() <= 16  # a trace of noise is left
    assert (rows[:, -1].int() - second.int()).abs().max() <= 16  # a trace of noise is left
    middle = (first.int() + second.int()) // 2
    assert (rows[:, 1].int() - middle).abs().max() <= 16  # a trace of noise is left


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda: Editor(Model(replace(RECIPE, conditioning=LowRes(1)), nn.Linear(1, 1))), "out of noise alone"),
        (lambda: Editor(Model(replace(RECIPE, conditioning=Labels(3)), nn.Linear(1, 1))), "needs its label"),
        (lambda: Editor(made(OF_2015["bits"])), "2015"),
        (lambda: Editor(MODEL, 201), "between 1 and 200"),
        (lambda: Editor(MODEL).encode(torch.zeros(1, 1, 3, 3, dtype=torch.uint8)), "uint8 images"),
        (lambda: Editor(MODEL).mixtures(images(1), images(1), level=0), "level to mix"),
    ],
)
def test_refusals(ask: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ask()


# ---------------------------------------------------------------- continuous time

CONTINUOUS = {
    "VP": ExactSDE((1, 8, 8), sde="vp", corrector="none"),
    "sub-VP": ExactSDE((1, 8, 8), sde="subvp", corrector="none", predictor="euler"),
    "VE": ExactSDE((1, 8, 8), first_sigma=4.0),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_a_continuous_model_encodes_reconstructs_and_mixes(name: str) -> None:
    recipe: Any = CONTINUOUS[name]
    pictures, errors = exact_images(6, recipe.shape), []
    for steps in (20, 100):
        editor = Editor(Model(recipe, nn.Linear(1, 1)), steps)
        latents = editor.encode(pictures)
        errors.append(float(editor.reconstruct(pictures)[1].mean()))
    assert errors[1] < errors[0]
    assert errors[1] < 1e-3
    prior = editor.process.prior((1,))
    assert float(latents.std()) == pytest.approx(float(prior.std), rel=0.15)
    between = editor.between(latents[:3], latents[3:], 3)
    assert torch.equal(between[:, 0], editor.decode(latents[:3]))
    mixed = editor.mixtures(pictures[:3], pictures[3:], 0.01, 3)
    assert mixed.shape == (3, 3, 1, 8, 8)
    assert float((mixed[:, 0].float() - pictures[:3].float()).abs().mean()) < 12  # a little noise came and went
    with pytest.raises(ValueError, match="level to mix at lies between 1e-05 and 1"):
        editor.mixtures(pictures[:3], pictures[3:], 2, 3)
