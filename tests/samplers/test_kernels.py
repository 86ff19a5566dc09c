"""Ancestral and DDIM steps on data whose answer is known; what the loop makes of their steps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core import (
    VP,
    Denoise,
    Denoiser,
    GaussianDiffusion,
    GaussianMixture,
    clipped,
    descend,
    finish,
    fixed_large,
    fixed_small,
    from_betas,
    learned_range,
    predict_eps,
    trajectory,
)
from sfumato.core.betas import linear_betas
from sfumato.core.exact import gaussian
from sfumato.core.sampling import DenoiseToZero
from sfumato.core.schedules import strided
from sfumato.samplers.ancestral import AncestralStep
from sfumato.samplers.ddim import DDIMStep

MEAN, STD = torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)


def test_ddim_with_eta_one_is_the_ancestral_step() -> None:
    process = GaussianDiffusion(from_betas(linear_betas(1000)))
    denoise = gaussian(MEAN, STD).denoise(process)
    x = torch.randn(32, 2, dtype=torch.float64)
    for t, s in ((1000, 999), (700, 300), (2, 1), (5, 0)):
        moves = (torch.tensor(t), torch.tensor(s))
        one, other = DDIMStep(process, denoise, eta=1.0)(x, *moves).to, AncestralStep(process, denoise)(x, *moves).to
        assert torch.allclose(one.mean, other.mean, atol=1e-10)
        assert torch.allclose(one.std, other.std, atol=1e-12)


def test_encoding_and_decoding_come_back() -> None:
    """s > t runs classifier_gradient noise; there and back is the identity up to the solver's error."""
    process = GaussianDiffusion(from_betas(linear_betas(1000)))
    kernel = DDIMStep(process, gaussian(MEAN, STD).denoise(process))
    x = MEAN + STD * torch.randn(64, 2, dtype=torch.float64)
    up = torch.arange(1, 1001)
    back = finish(finish(x, descend(kernel, up)), descend(kernel, up.flip(0)))
    assert float((back - x).pow(2).mean()) < 1e-3


def test_variances_lie_between_small_and_large() -> None:
    process = GaussianDiffusion(from_betas(linear_betas(100, 1e-3, 0.2)))
    x, t, s = torch.randn(4, 2, 3, 3), torch.tensor([90, 50, 2, 1]), torch.tensor([70, 49, 1, 0])
    denoise = constant_head(process, torch.tensor([-1.0, 0.0, 1.0])[torch.randint(3, (4, 2, 3, 3))])
    spread = AncestralStep(process, denoise, learned_range)(x, t, s).to.std
    low, high = (AncestralStep(process, denoise, fixed)(x, t, s).to.std for fixed in (fixed_small, fixed_large))
    assert bool((spread >= low * (1 - 1e-5)).all())
    assert bool((spread <= high.clamp(min=0) * (1 + 1e-5)).all())
    assert bool((spread[3] == 0).all())  # into clean data
    with pytest.raises(ValueError, match="variance head"):
        AncestralStep(process, constant_head(process, None), learned_range)(x, t, s)


def constant_head(process: GaussianDiffusion, variance: Tensor | None) -> Denoise:
    return lambda x, t: replace(predict_eps(torch.zeros_like(x), x, t, process), variance=variance)


@pytest.mark.parametrize("kernel", [DDIMStep, partial(DDIMStep, eta=1.0), AncestralStep])
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


def test_levels_may_differ_within_a_batch() -> None:
    """A batch of times is the same as one time after the other."""
    mixture = GaussianMixture(torch.tensor([0.3, 0.7]), torch.randn(2, 3), torch.full((2, 3), 0.4))
    process = GaussianDiffusion(from_betas(linear_betas(100, 1e-3, 0.2)))
    kernel = DDIMStep(process, mixture.denoise(process), eta=0.5)
    x, t, s = torch.randn(3, 3), torch.tensor([90, 40, 3]), torch.tensor([80, 1, 0])
    together = kernel(x, t, s).to
    for i in range(3):
        alone = kernel(x[i : i + 1], t[i], s[i]).to
        assert torch.allclose(together.mean[i], alone.mean[0], atol=1e-5)
        assert torch.allclose(together.std[i].flatten(), alone.std.float().expand(1), atol=1e-6)


def test_the_sampling_loop_moves_no_coefficient_to_the_device() -> None:
    """On the meta device, where every copy from the host would show, a whole trajectory runs."""
    process = GaussianDiffusion(from_betas(linear_betas(100, 1e-3, 0.2)))

    def network(x: Tensor, t: Tensor) -> Tensor:
        return x

    denoise = clipped(Denoiser(network, process, predict_eps))  # type: ignore[arg-type]
    x = torch.empty(2, 3, 4, 4, device="meta")
    for kernel in (
        DDIMStep(process, denoise),
        AncestralStep(process, denoise),
        AncestralStep(process, denoise, fixed_large),
    ):
        for state, _ in trajectory(x, descend(kernel, strided(100, 5))):
            assert state.device.type == "meta"
            assert state.dtype == torch.float32


def test_denoising_to_zero_goes_straight_to_x0() -> None:
    process = GaussianDiffusion(VP())
    denoise = gaussian(MEAN, STD).denoise(process)
    x, t = torch.randn(3, 2, dtype=torch.float64), torch.tensor(0.5)
    assert torch.equal(DenoiseToZero(denoise)(x, t, torch.tensor(0.0)).to.sample(), denoise(x, t).x0)
