"""The kernels on data whose answer is known: every one converges at its declared order, on every kind of schedule.

For Gaussian data each kernel is affine in x, so its mean and variance are carried exactly, without a sample.
"""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.core import (
    DDIM,
    VP,
    Ancestral,
    Cosine,
    Denoise,
    GaussianDiffusion,
    GaussianMixture,
    LinearFlow,
    Schedule,
    SubVP,
    Table,
    anneal,
    clipped,
    descend,
    finish,
    from_betas,
    large,
    learned_range,
    predict_correct,
    small,
    walk,
)
from sfumato.core.exact import gaussian, gaussian_flow
from sfumato.core.kernels import Clean
from sfumato.core.schedules import linear_betas
from sfumato.core.times import strided

SCHEDULES: dict[str, Schedule] = {
    "linear": from_betas(linear_betas(4096, 0.1 / 4096, 20 / 4096)),
    "VP": VP(),
    "sub-VP": SubVP(),
    "cosine": Cosine(),
    "flow": LinearFlow(),
}
KERNELS: dict[str, Any] = {
    "ancestral small": partial(Ancestral, std=small),
    "ancestral large": partial(Ancestral, std=large),
    "DDIM 0": DDIM,
    "DDIM 0.5": partial(DDIM, eta=0.5),
    "DDIM 1": partial(DDIM, eta=1.0),
}
MEAN, STD = torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)


def grid(schedule: Schedule, n: int) -> Tensor:
    """n moves, not quite to the ends, where some schedules are singular."""
    if isinstance(schedule, Table):
        return strided(schedule.T, n).clamp(min=32)
    return torch.linspace(0.98, 0.01, n + 1, dtype=torch.float64)


def carried(kernel: Any, times: Tensor, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance at the end of a chain of affine kernels: x -> a x + b, plus noise."""
    for t, s in pairwise(times):
        at_0, at_1 = (kernel(torch.full((1, 2), x, dtype=torch.float64), t, s) for x in (0.0, 1.0))
        slope = at_1.mean[0] - at_0.mean[0]
        mean = slope * mean + at_0.mean[0]
        variance = slope**2 * variance + at_0.std**2
    return mean, variance


def moments(schedule: Schedule, t: Tensor) -> tuple[Tensor, Tensor]:
    alpha, sigma = schedule.alpha_sigma(t)
    return alpha * MEAN, (alpha * STD) ** 2 + sigma**2


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
@pytest.mark.parametrize("name", KERNELS)
def test_order_of_convergence(name: str, schedule: Schedule) -> None:
    """The error of the final standard deviation falls as steps^-order."""
    process = GaussianDiffusion(schedule)
    kernel = KERNELS[name](process, gaussian(MEAN, STD).denoise(process))
    counts, errors = (64, 128, 256, 512), []
    for n in counts:
        times = grid(schedule, n)
        _, variance = carried(kernel, times, *moments(schedule, times[0]))
        truth = moments(schedule, times[-1])[1]
        errors.append(float((variance.sqrt() - truth.sqrt()).abs().max()))
    slope = -np.polyfit(np.log(counts), np.log(errors), 1)[0]
    assert abs(slope - kernel.order) < 0.2, (slope, errors)


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_ddim_follows_the_probability_flow(schedule: Schedule) -> None:
    """Point by point, the exact solution of the ODE for Gaussian data, at first order."""
    process = GaussianDiffusion(schedule)
    kernel = DDIM(process, gaussian(MEAN, STD).denoise(process))
    x, errors = torch.randn(64, 2, dtype=torch.float64), []
    for n in (128, 256, 512):
        times = grid(schedule, n)
        truth = gaussian_flow(MEAN, STD, x, process.level(times[0], x), process.level(times[-1], x))
        errors.append(float((finish(x, descend(kernel, times)) - truth).abs().max()))
    assert errors[-1] < 0.05
    assert 1.7 < errors[0] / errors[1] < 2.3
    assert 1.7 < errors[1] / errors[2] < 2.3


def test_ddim_with_eta_one_is_the_ancestral_step() -> None:
    process = GaussianDiffusion(from_betas(linear_betas(1000)))
    denoise = gaussian(MEAN, STD).denoise(process)
    x = torch.randn(32, 2, dtype=torch.float64)
    for t, s in ((1000, 999), (700, 300), (2, 1), (5, 0)):
        moves = (torch.tensor(t), torch.tensor(s))
        one, other = DDIM(process, denoise, eta=1.0)(x, *moves), Ancestral(process, denoise)(x, *moves)
        assert torch.allclose(one.mean, other.mean, atol=1e-10)
        assert torch.allclose(one.std, other.std, atol=1e-12)


def test_encoding_and_decoding_come_back() -> None:
    """s > t runs towards noise; there and back is the identity up to the solver's error."""
    process = GaussianDiffusion(from_betas(linear_betas(1000)))
    kernel = DDIM(process, gaussian(MEAN, STD).denoise(process))
    x = MEAN + STD * torch.randn(64, 2, dtype=torch.float64)
    up = torch.arange(1, 1001)
    back = finish(finish(x, descend(kernel, up)), descend(kernel, up.flip(0)))
    assert float((back - x).pow(2).mean()) < 1e-3


def test_variances_lie_between_small_and_large() -> None:
    process = GaussianDiffusion(from_betas(linear_betas(100, 1e-3, 0.2)))
    x, t, s = torch.randn(4, 2, 3, 3), torch.tensor([90, 50, 2, 1]), torch.tensor([70, 49, 1, 0])
    denoise = constant_head(process, torch.tensor([-1.0, 0.0, 1.0])[torch.randint(3, (4, 2, 3, 3))])
    spread = Ancestral(process, denoise, learned_range)(x, t, s).std
    low, high = (Ancestral(process, denoise, std)(x, t, s).std for std in (small, large))
    assert bool((spread >= low * (1 - 1e-5)).all())
    assert bool((spread <= high.clamp(min=0) * (1 + 1e-5)).all())
    assert bool((spread[3] == 0).all())  # into clean data
    with pytest.raises(ValueError, match="variance head"):
        Ancestral(process, constant_head(process, None), learned_range)(x, t, s)


def constant_head(process: GaussianDiffusion, variance: Tensor | None) -> Denoise:
    from dataclasses import replace

    from sfumato.core import predict_eps

    return lambda x, t: replace(predict_eps(torch.zeros_like(x), x, t, process), variance=variance)


@pytest.mark.parametrize("kernel", [DDIM, partial(DDIM, eta=1.0), Ancestral])
def test_a_mixture_is_sampled_with_its_weights(kernel: Any) -> None:
    weights = torch.tensor([0.2, 0.5, 0.3])
    means = torch.tensor([[-3.0, 0.0], [0.0, 2.0], [3.0, -1.0]])
    mixture = GaussianMixture(weights, means, torch.full((3, 2), 0.3))
    process = GaussianDiffusion(from_betas(linear_betas(1000)))
    generator = torch.Generator().manual_seed(0)
    noise = partial(_noise, generator)
    x = noise(torch.empty(4000, 2))
    x = finish(x, descend(kernel(process, mixture.denoise(process)), strided(1000, 100)), noise)
    nearest = torch.cdist(x, means).argmin(1)
    shares = torch.bincount(nearest, minlength=3) / len(x)
    assert torch.allclose(shares, weights, atol=4 * 0.5 / len(x) ** 0.5)
    for k in range(3):
        spread = (x[nearest == k] - means[k]).std(0)
        assert torch.allclose(spread, torch.full((2,), 0.3), atol=0.05)


def _noise(generator: torch.Generator, x: Tensor) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)


def test_exact_mixture_obeys_tweedie() -> None:
    """The denoiser's score is the gradient of its own log density, and x0 follows from it."""
    means = torch.tensor([[-1.0, 0.5], [2.0, 0.0]])
    mixture = GaussianMixture(torch.tensor([0.3, 0.7]), means, torch.full((2, 2), 0.4))
    process = GaussianDiffusion(VP())
    t = torch.tensor(0.4)
    x = torch.randn(16, 2, requires_grad=True)
    level = process.level(t, x)
    (score,) = torch.autograd.grad(mixture.log_prob(x, level).sum(), x)
    prediction = mixture.denoise(process)(x.detach(), t)
    assert torch.allclose(prediction.score, score, atol=1e-4)
    assert torch.allclose(level.x0(x.detach(), prediction.eps), prediction.x0, atol=1e-4)


def test_exact_mixture_against_a_quadrature() -> None:
    """E[x_0 | x_t] by summing over a fine grid of x_0."""
    mixture = GaussianMixture(torch.tensor([0.4, 0.6]).double(), torch.tensor([[-1.0], [1.5]]).double(),
                              torch.tensor([[0.2], [0.5]]).double())  # fmt: skip
    process, t = GaussianDiffusion(VP()), torch.tensor(0.3)
    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    level = process.level(t, x)
    x0 = torch.linspace(-6, 6, 40_001, dtype=torch.float64)[:, None]
    prior = mixture.log_prob(x0).exp()
    likelihood = torch.exp(-0.5 * ((x - level.alpha * x0.T) / level.sigma) ** 2)
    expected = (likelihood * prior * x0[:, 0]).sum(1) / (likelihood * prior).sum(1)
    assert torch.allclose(mixture.denoise(process)(x, t).x0[:, 0], expected, atol=1e-6)


def test_levels_may_differ_within_a_batch() -> None:
    """A batch of times is the same as one time after the other."""
    mixture = GaussianMixture(torch.tensor([0.3, 0.7]), torch.randn(2, 3), torch.full((2, 3), 0.4))
    process = GaussianDiffusion(from_betas(linear_betas(100, 1e-3, 0.2)))
    kernel = DDIM(process, mixture.denoise(process), eta=0.5)
    x, t, s = torch.randn(3, 3), torch.tensor([90, 40, 3]), torch.tensor([80, 1, 0])
    together = kernel(x, t, s)
    for i in range(3):
        alone = kernel(x[i : i + 1], t[i], s[i])
        assert torch.allclose(together.mean[i], alone.mean[0], atol=1e-5)
        assert torch.allclose(together.std[i].flatten(), alone.std.float().expand(1), atol=1e-6)


def test_clipping_keeps_eps_consistent() -> None:
    process = GaussianDiffusion(from_betas(linear_betas(100, 1e-3, 0.2)))
    denoise = gaussian(torch.full((2,), 3.0), torch.full((2,), 0.1)).denoise(process)
    x, t = torch.randn(4, 2), torch.tensor(30)
    prediction = clipped(denoise)(x, t)
    assert float(prediction.x0.max()) <= 1
    assert torch.allclose(prediction.level.noise(prediction.x0, prediction.eps), x, atol=1e-5)


def test_plans() -> None:
    times = torch.tensor([5, 3, 0])
    down = [(int(t), int(s)) for _, t, s in descend(object(), times)]  # type: ignore[arg-type]
    assert down == [(5, 3), (3, 0)]
    stay = [(int(t), int(s)) for _, t, s in anneal(object(), times, 2)]  # type: ignore[arg-type]
    assert stay == [(5, 5), (5, 5), (3, 3), (3, 3), (0, 0), (0, 0)]
    both = [(str(k), int(t), int(s)) for k, t, s in predict_correct("P", "C", times)]  # type: ignore[arg-type]
    assert both == [("P", 5, 3), ("C", 3, 3), ("P", 3, 0), ("C", 0, 0)]


def test_walking_moves_no_coefficient_to_the_device() -> None:
    """On the meta device, where every copy from the host would show, a whole walk runs."""
    process = GaussianDiffusion(from_betas(linear_betas(100, 1e-3, 0.2)))
    from sfumato.core import Denoiser, predict_eps

    def network(x: Tensor, t: Tensor) -> Tensor:
        return x

    denoise = clipped(Denoiser(network, process, predict_eps))  # type: ignore[arg-type]
    x = torch.empty(2, 3, 4, 4, device="meta")
    for kernel in (DDIM(process, denoise), Ancestral(process, denoise), Ancestral(process, denoise, large)):
        for state in walk(x, descend(kernel, strided(100, 5))):
            assert state.device.type == "meta"
            assert state.dtype == torch.float32


def test_clean_goes_straight_to_x0() -> None:
    process = GaussianDiffusion(VP())
    denoise = gaussian(MEAN, STD).denoise(process)
    x, t = torch.randn(3, 2, dtype=torch.float64), torch.tensor(0.5)
    assert torch.equal(Clean(denoise)(x, t, torch.tensor(0.0)).sample(), denoise(x, t).x0)
