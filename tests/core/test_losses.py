"""Weights of the squared error: their identities, and that a denoiser learns alike through every parameterization."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.core import losses
from sfumato.core.continuous import VP, LinearFlow, PowerVE
from sfumato.core.denoisers import (
    Parameterization,
    Prediction,
    predict_eps,
    predict_f,
    predict_score,
    predict_u,
    predict_v,
    predict_x0,
    unit_variance,
)
from sfumato.core.losses import WEIGHTS, Weight
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Continuous, Level

KAPPA = torch.tensor([0.003, 0.05, 0.3, 1.0, 4.0, 60.0], dtype=torch.float64)
"""sigma / alpha."""
PATHS: dict[str, Continuous] = {"VP": VP(), "flow": LinearFlow(), "EDM": PowerVE()}
READINGS: dict[str, Parameterization] = {
    "eps": predict_eps, "x0": predict_x0, "v": predict_v, "score": predict_score, "F": predict_f(0.6),
    "F of unit data": predict_f(1.0), "u": predict_u,
}  # fmt: skip


def levels(schedule: Continuous) -> Level:
    """The levels of KAPPA on a schedule, (6, 1)."""
    return schedule.level(schedule.at(-KAPPA.log()), torch.empty(6, 1, dtype=torch.float64))


def outputs(said: Prediction) -> dict[str, Tensor]:
    """What a network of each parameterization would have returned for this prediction."""
    level = said.level

    def f(sigma_data: float) -> Tensor:  # (D - c_skip x) / c_out, in the paper's frame
        kappa, norm = level.sigma / level.alpha, ((level.sigma / level.alpha) ** 2 + sigma_data**2)
        return (said.x0 - sigma_data**2 / norm * said.x / level.alpha) / (kappa * sigma_data / norm.sqrt())

    return {
        "eps": said.eps, "x0": said.x0, "v": said.v, "score": said.score, "F": f(0.6), "F of unit data": f(1.0),
        "u": said.eps - said.x0,
    }  # fmt: skip


def gradient(path: str, reading: str, weight: Weight) -> Tensor:
    """Of the loss in the parameters of one denoiser D(x / alpha, kappa), seen through a parameterization."""
    generator = torch.Generator().manual_seed(0)
    x0, eps, theta = (torch.randn(n, 5, generator=generator, dtype=torch.float64) for n in (6, 6, 2))
    theta.requires_grad_()
    schedule = PATHS[path]
    t = schedule.at(-KAPPA.log())
    level = schedule.level(t, x0)
    x = level.noise(x0, eps)
    D = torch.tanh(theta[0] * x / level.alpha + theta[1] * KAPPA[:, None])
    said = Prediction(x, level, level.eps(x, D), D)
    found = READINGS[reading](outputs(said)[reading], x, t, GaussianDiffusion(schedule))
    torch.testing.assert_close(found.x0, D, rtol=1e-8, atol=1e-9)
    loss = losses.weighted(found, x0, eps, weight).sum()
    (slope,) = torch.autograd.grad(loss, theta)
    return slope


@pytest.mark.parametrize("name", WEIGHTS)
def test_the_same_denoiser_has_the_same_gradient_through_every_parameterization(name: str) -> None:
    """And on every path, at the same sigma / alpha; v itself depends on the path."""
    weight = WEIGHTS[name]
    for path in PATHS:
        first = gradient("VP" if name != "v" else path, "eps", weight)
        for reading in READINGS:
            torch.testing.assert_close(gradient(path, reading, weight), first, rtol=1e-6, atol=1e-9)


X0_WEIGHTS: dict[str, Callable[[Tensor], Tensor]] = {
    "eps": lambda snr: snr,
    "x0": torch.ones_like,
    "v": lambda snr: snr + 1,
    "min-snr": lambda snr: snr.clamp(max=5),
    "soft-min-snr": lambda snr: 5 * snr / (snr + 5),
    "p2": lambda snr: snr / (1 + snr),
    "sigmoid": lambda snr: torch.sigmoid(2 - snr.log()) * snr,
    "edm": lambda snr: snr + 4,
    "flow": lambda snr: (1 + snr.sqrt()) ** 2,
}
"""What each is for the error in x0, as the papers have it."""


@pytest.mark.parametrize("name", WEIGHTS)
def test_weights_are_those_of_the_papers(name: str) -> None:
    snr = KAPPA**-2
    of_eps = WEIGHTS[name](levels(VP())).squeeze(1)
    torch.testing.assert_close(of_eps * snr, X0_WEIGHTS[name](snr), rtol=1e-9, atol=0)


def test_weights_that_are_one() -> None:
    level = levels(LinearFlow())
    same = torch.testing.assert_close
    same(losses.edm_weight(1.0)(levels(VP())), losses.v_weight(levels(VP())))
    same(losses.sigmoid(0.0)(level), losses.p2()(level))
    same(losses.sigmoid(math.log(5))(level), losses.soft_min_snr(5)(level))
    same(losses.flow_weight(level), 1 / level.alpha**2)  # 1 / t^2 in x0
    same(losses.p2(gamma=0.5, k=2)(level), (2 + (level.alpha / level.sigma) ** 2) ** -0.5)


@pytest.mark.parametrize(("reading", "name"), [("v", "v"), ("u", "flow"), ("F", "edm"), ("x0", "x0"), ("eps", "eps")])
def test_its_own_weight_makes_the_loss_the_error_of_the_output(reading: str, name: str) -> None:
    generator = torch.Generator().manual_seed(0)
    x0, eps, output = (torch.randn(6, 5, generator=generator, dtype=torch.float64) for _ in range(3))
    level = levels(VP())
    x = level.noise(x0, eps)
    found = READINGS[reading](output, x, VP().at(-KAPPA.log()), GaussianDiffusion(VP()))
    weight = losses.edm_weight(0.6) if name == "edm" else WEIGHTS[name]
    target = outputs(Prediction(x, level, eps, x0))[reading]
    by_hand = (output - target).square().mean(1)
    torch.testing.assert_close(losses.weighted(found, x0, eps, weight), by_hand, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", WEIGHTS)
@pytest.mark.parametrize("end", [(0.0, 1.0), (1.0, 0.0)], ids=["no signal", "no noise"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_losses_are_finite_at_both_ends(name: str, end: tuple[float, float], dtype: torch.dtype) -> None:
    """A schedule without signal at its end divides by 0 nowhere (Lin et al. 2024), nor does clean data."""
    level = Level(*(torch.full((2, 1), value, dtype=dtype) for value in end))
    x0, eps = torch.full((2, 3), 0.5, dtype=dtype), torch.full((2, 3), -1.0, dtype=dtype)
    wrong = Prediction(level.noise(x0, eps), level, eps + 0.25, x0 - 0.25)
    loss = losses.weighted(wrong, x0, eps, WEIGHTS[name])
    assert bool(loss.isfinite().all())
    if end == (0.0, 1.0) and name in ("v", "x0", "flow"):
        assert loss[0].item() == pytest.approx(0.0625)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("sigma_data", [0.5, 1.0])
def test_the_target_of_f_has_variance_1_at_every_level(path: str, sigma_data: float) -> None:
    """So has what the network is given (Karras et al. 2022, appendix B.6)."""
    generator = torch.Generator().manual_seed(0)
    x0, eps = (torch.randn(6, 200_000, generator=generator, dtype=torch.float64) for _ in range(2))
    x0, level = sigma_data * x0, levels(PATHS[path])
    x = level.noise(x0, eps)
    kappa = level.sigma / level.alpha
    norm = (kappa**2 + sigma_data**2).sqrt()
    target = (x0 - (sigma_data / norm) ** 2 * x / level.alpha) / (kappa * sigma_data / norm)
    assert torch.allclose(target.var(1), torch.ones(6, dtype=torch.float64), atol=0.02)
    assert torch.allclose((unit_variance(sigma_data)(level) * x).var(1), torch.ones(6, dtype=torch.float64), atol=0.02)
    t = PATHS[path].at(-KAPPA.log())
    again = predict_f(sigma_data)(target, x, t, GaussianDiffusion(PATHS[path]))
    torch.testing.assert_close(again.x0, x0, rtol=1e-8, atol=1e-8)


def test_f_of_unit_data_is_minus_v() -> None:
    x, output, t = torch.randn(4, 3).double(), torch.randn(4, 3).double(), torch.rand(4).double()
    process = GaussianDiffusion(VP())
    f, v = predict_f(1.0)(output, x, t, process), predict_v(-output, x, t, process)
    torch.testing.assert_close(f.x0, v.x0)
    torch.testing.assert_close(f.eps, v.eps)
