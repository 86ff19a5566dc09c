"""The guidance shelf on Gaussians, whose guided variance is known in closed form, and each formula against its own."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core import VE, VP, Denoise, GaussianDiffusion, Prediction
from sfumato.core.exact import gaussian
from sfumato.core.guidance import classifier_free, clipped
from sfumato.core.guidance_shelf import (
    Projected,
    Renoised,
    extrapolated,
    guided,
    renoised,
    rescaled,
    thresholded,
)

PROCESS = GaussianDiffusion(VE(1e-3, 1e4))
CONDITIONAL, UNCONDITIONAL = 0.25, 1.0


def of_variance(variance: float) -> Denoise:
    one = torch.ones(1, dtype=torch.float64)
    return gaussian(0 * one, variance**0.5 * one).denoise(PROCESS)


def sampled_variance(denoise: Denoise, start: float, steps: int = 3000) -> float:
    """The variance at the end of the probability flow of a linear denoiser, from a known one at the first level."""
    times = PROCESS.schedule.times(steps)
    x = torch.ones(1, 1, dtype=torch.float64) * (start + 1e8) ** 0.5
    return float(samplers.run("heun", PROCESS, denoise, x, times=times)) ** 2


def test_the_variance_under_guidance_is_not_that_of_the_tilted_density() -> None:
    """v1^w v0^(1 - w), since the flow moves by guided scores at every level."""
    w = 2.0
    both = of_variance(CONDITIONAL), of_variance(UNCONDITIONAL)
    made = sampled_variance(guided(*both, extrapolated(w)), CONDITIONAL)
    assert made == pytest.approx(CONDITIONAL**w * UNCONDITIONAL ** (1 - w), rel=1e-3)
    assert made < 0.5 / (w / CONDITIONAL + (1 - w) / UNCONDITIONAL)


def test_the_variance_under_guidance_in_an_interval() -> None:
    w, low, high = 2.0, 0.3, 3.0

    def share(v: float) -> float:
        return (v + low**2) / (v + high**2)

    both = of_variance(CONDITIONAL), of_variance(UNCONDITIONAL)
    made = sampled_variance(guided(*both, extrapolated(w), low, high), CONDITIONAL, 8000)
    assert made == pytest.approx(CONDITIONAL * (share(CONDITIONAL) / share(UNCONDITIONAL)) ** (w - 1), rel=1e-3)
    assert made == pytest.approx(0.0843, abs=1e-3)


# ---------------------------------------------------------------- one prediction

VP_PROCESS = GaussianDiffusion(VP())
T = torch.tensor(0.4, dtype=torch.float64)


def pictures() -> Tensor:
    return torch.randn(3, 2, 4, 4, dtype=torch.float64)


def fixed(x0: Tensor) -> Denoise:
    def inner(x: Tensor, t: Tensor) -> Prediction:
        level = VP_PROCESS.level(t, x)
        return Prediction(x, level, level.eps(x, x0), x0)

    return inner


@pytest.fixture
def both() -> tuple[Denoise, Denoise]:
    return fixed(pictures()), fixed(pictures())


def same(first: Prediction, second: Prediction) -> bool:
    return torch.equal(first.x0, second.x0) and torch.equal(first.eps, second.eps)


def test_an_interval_asks_the_weaker_one_inside_alone(both: tuple[Denoise, Denoise]) -> None:
    asked = []

    def weaker(x: Tensor, t: Tensor) -> Prediction:
        asked.append(t)
        return both[1](x, t)

    noise = {t: math.exp(-float(VP_PROCESS.schedule.log_snr(torch.tensor(t))) / 2) for t in (0.2, 0.4, 0.6)}
    some = guided(both[0], weaker, extrapolated(2.0), noise[0.2], noise[0.4])  # above the lower end, up to the upper
    x = pictures()
    whole = classifier_free(*both, 2.0)
    for t in noise:
        at = torch.tensor(t, dtype=torch.float64)
        assert same(some(x, at), (whole if t == 0.4 else both[0])(x, at))
    assert [float(t) for t in asked] == [0.4]
    mixed = some(x, torch.tensor(list(noise)))  # a level a picture
    for i, t in enumerate(noise):
        want = (whole if t == 0.4 else both[0])(x, torch.tensor([t] * 3))
        assert torch.equal(mixed.eps[i], want.eps[i])


def test_rescaled_pictures_have_the_deviation_of_unguided_ones(both: tuple[Denoise, Denoise]) -> None:
    x = pictures()
    plain, free = both[0](x, T), classifier_free(*both, 3.0)(x, T)
    found = guided(*both, rescaled(3.0, 1.0))(x, T)
    assert torch.allclose(found.x0.flatten(1).std(1), plain.x0.flatten(1).std(1))
    assert torch.allclose(guided(*both, rescaled(3.0, 0.0))(x, T).x0, free.x0)
    ratio = plain.x0[1].std() / free.x0[1].std()
    part = guided(*both, rescaled(3.0, 0.7))(x, T)
    assert torch.allclose(part.x0[1], 0.7 * ratio * free.x0[1] + 0.3 * free.x0[1])
    assert torch.allclose(part.level.noise(part.x0, part.eps), x)


def test_cfg_plus_plus_noises_with_the_weaker_eps_even_when_x0_is_clipped(both: tuple[Denoise, Denoise]) -> None:
    x, s = pictures(), torch.tensor(0.3, dtype=torch.float64)
    strong, weak = both[0](x, T), both[1](x, T)
    found = clipped(guided(*both, renoised(0.6)))
    x0 = (0.6 * strong.x0 + 0.4 * weak.x0).clamp(-1, 1)
    assert torch.allclose(found(x, T).x0, x0)
    assert torch.equal(found(x, T).eps, weak.eps)
    made = samplers.run("ddim", VP_PROCESS, found, x, times=torch.stack([T, s]))
    assert torch.allclose(made, VP_PROCESS.level(s, x).noise(x0, weak.eps))
    assert [f.name for f in fields(Renoised)] == [f.name for f in fields(Prediction)]


def test_what_is_parallel_to_the_prediction_is_left_out(both: tuple[Denoise, Denoise]) -> None:
    x = pictures()
    plain, weak = both[0](x, T), both[1](x, T)
    push = guided(*both, Projected(3.0))(x, T).x0 - plain.x0
    dots = (push * plain.x0).flatten(1).sum(1)
    assert torch.allclose(dots, 0 * dots, atol=1e-12)
    whole = guided(*both, Projected(3.0, parallel=1.0))(x, T)
    assert torch.allclose(whole.x0, classifier_free(*both, 3.0)(x, T).x0)
    short = guided(*both, Projected(2.0, parallel=1.0, norm=0.1))(x, T).x0 - plain.x0
    assert torch.allclose(short.flatten(1).norm(dim=1), torch.full((3,), 0.1, dtype=torch.float64))
    difference = plain.x0 - weak.x0
    running = guided(*both, Projected(2.0, parallel=1.0, momentum=-0.5))
    assert torch.allclose(running(x, T).x0 - plain.x0, difference)
    assert torch.allclose(running(x, T / 2).x0 - plain.x0, 0.5 * difference)
    assert torch.allclose(running(x, T).x0 - plain.x0, difference)  # a trajectory of its own


def test_dynamic_thresholding_shrinks_a_picture_into_the_range() -> None:
    x0 = pictures()
    x0[0] *= 0.1
    x0[1] *= 5
    found = thresholded(fixed(x0), 0.9, cap=math.inf)(pictures(), T).x0
    assert torch.equal(found[0], x0[0])
    size = float(x0[1].abs().float().flatten().quantile(0.9))
    assert torch.allclose(found[1], x0[1].clamp(-size, size) / size)
    half = thresholded(fixed(x0 / 2), 0.9, -0.5, 0.5, math.inf)(pictures(), T).x0
    assert torch.allclose(half, found / 2)
    most = thresholded(fixed(x0), 0.9, cap=1.0)(pictures(), T).x0
    assert torch.equal(most, x0.clamp(-1, 1))


@pytest.mark.parametrize(
    "combine", [extrapolated(1.0), rescaled(1.0, 0.7), Projected(1.0)], ids=["cfg", "rescale", "apg"]
)
def test_scale_one_changes_nothing_but_rounding(combine: Any, both: tuple[Denoise, Denoise]) -> None:
    x = pictures()
    assert torch.allclose(guided(*both, combine)(x, T).x0, both[0](x, T).x0, atol=1e-12)


@pytest.mark.parametrize("spec", samplers.SAMPLERS)
def test_guidance_composes_with_every_sampler(spec: str, both: tuple[Denoise, Denoise]) -> None:
    denoise = thresholded(guided(*both, rescaled(2.0), 0.2, 2.0))
    made = samplers.run(spec, VP_PROCESS, denoise, pictures(), steps=8)
    assert bool(made.isfinite().all())
