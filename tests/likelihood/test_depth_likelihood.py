"""Likelihoods of 8 bits, 16 bits and real numbers against closed forms: of decoders, of noise, and of exact models."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.core.distributions import Gaussian, discretised_log_prob, normal_cdf_tanh
from sfumato.core.likelihood import bits_per_dim
from sfumato.data.given import given
from sfumato.data.sources import parse_spec
from sfumato.likelihood import bound_of, ode_likelihood, runge_kutta
from sfumato.likelihood.flow import dequantised
from sfumato.models import Model
from sfumato.papers.ddpm import DDPM
from sfumato.spaces import Pixels, Standardised
from tests.likelihood.exact import STD, Exact
from tests.likelihood.test_flow import TINY
from tests.models.small import RECIPES, made

LEVELS = (256, 65536)
KINDS = {256: torch.uint8, 65536: torch.uint16}


def every_level(levels: int) -> Tensor:
    return 2 * torch.arange(levels, dtype=torch.float64) / (levels - 1) - 1


def mass(x: float, mean: float, std: float, half: float) -> float:
    """Of a bin of a Gaussian, in 64 bits, from the nearer tail."""
    near, far = ((abs(x - mean) - half) / std, (abs(x - mean) + half) / std)
    return 0.5 * (math.erfc(near / math.sqrt(2)) - math.erfc(far / math.sqrt(2)))


# ---------------------------------------------------------------- decoders


@pytest.mark.parametrize("levels", LEVELS)
@pytest.mark.parametrize("std", [0.3, 0.01, 1e-4])
def test_the_masses_of_all_levels_are_one(levels: int, std: float) -> None:
    decoder = Gaussian(torch.tensor(0.1, dtype=torch.float64), torch.tensor(std, dtype=torch.float64))
    total = discretised_log_prob(decoder, every_level(levels), levels=levels).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
@pytest.mark.parametrize("std", [0.3, 0.01, 2e-5])
def test_a_bin_of_16_bits_has_the_mass_of_the_normal_distribution(std: float, kind: torch.dtype) -> None:
    """From the middle to thirty deviations away."""
    levels, mean = every_level(65536), 0.1
    chosen = torch.unique((mean + std * torch.tensor([0, 0.5, -1, 3, -6, 12, 30, -30])).clamp(-0.9, 0.9).double())
    x = levels[torch.searchsorted(levels, chosen)].to(kind)
    decoder = Gaussian(torch.tensor(mean, dtype=kind), torch.tensor(std, dtype=kind))
    found = discretised_log_prob(decoder, x, levels=65536).double()
    exact = [mass(float(v), float(decoder.mean), float(decoder.std), 1 / 65535) for v in x]
    far = [i for i, p in enumerate(exact) if p > 1e-290]
    assert len(far) >= 3
    assert found[far].tolist() == pytest.approx([math.log(exact[i]) for i in far], rel=1e-5, abs=1e-5)
    assert found.isfinite().all()


def test_wide_decoders_cost_eight_more_bits_at_16() -> None:
    """Where a bin is narrow beside the deviation, its mass is density times width; 65535 / 255 = 257."""
    x = torch.tensor([0.2, -0.4, 0.01], dtype=torch.float64)
    decoder = Gaussian(torch.zeros((), dtype=torch.float64), torch.tensor(0.3, dtype=torch.float64))
    density = discretised_log_prob(decoder, x, levels=0)
    assert torch.equal(density, decoder.log_prob(x))
    deep = discretised_log_prob(decoder, x, levels=65536)
    assert torch.allclose(deep, density + math.log(2 / 65535), atol=1e-8)
    assert torch.allclose(discretised_log_prob(decoder, x) - deep, torch.tensor(math.log(257.0)).double(), atol=5e-3)


def test_what_a_right_decoder_of_ddpm_costs_at_16_bits() -> None:
    """Its last step has a deviation of 0.01: 9.7 bits even where the mean is the pixel (docs/data.md)."""
    std = DDPM().build().gaussian.schedule.alpha_sigma(torch.tensor(1))[1]
    assert float(std) == pytest.approx(0.01)
    decoder = Gaussian(torch.zeros((), dtype=torch.float64), std)
    nats = -discretised_log_prob(decoder, every_level(65536)[32767:32769], levels=65536)
    assert (nats / math.log(2)).tolist() == pytest.approx([9.68, 9.68], abs=5e-3)


def test_gradients_of_deep_decoders_point_to_the_pixel() -> None:
    mean = torch.tensor([0.1, 0.3], requires_grad=True)
    x = torch.tensor([0.2, 0.2])
    (slope,) = torch.autograd.grad(
        discretised_log_prob(Gaussian(mean, torch.tensor(0.01)), x, levels=65536).sum(), mean
    )
    assert torch.allclose(slope, (x - mean.detach()) / 0.01**2, rtol=1e-3)


def test_eight_bits_are_bit_for_bit_what_they_were() -> None:
    """The formula of before, written out."""
    dice = torch.Generator().manual_seed(0)
    x0 = torch.randint(0, 256, (4, 1, 8, 8), generator=dice) / 127.5 - 1
    p = Gaussian(torch.randn(4, 1, 8, 8, generator=dice), torch.rand(4, 1, 8, 8, generator=dice) + 0.01)
    above = normal_cdf_tanh((x0 - p.mean + 1 / 255) / p.std)
    below = normal_cdf_tanh((x0 - p.mean - 1 / 255) / p.std)
    before = torch.where(x0 < -0.999, above, torch.where(x0 > 0.999, 1 - below, above - below)).clamp(min=1e-12).log()
    assert torch.equal(discretised_log_prob(p, x0), before)
    pixels = torch.arange(256).to(torch.uint8)
    u = torch.rand(256, generator=dice, dtype=torch.float64)
    assert torch.equal(dequantised(pixels, u), (pixels.double() + u) / 128 - 1)


# ---------------------------------------------------------------- dequantisation


@pytest.mark.parametrize(("levels", "bits"), [(256, 8), (65536, 16)])
def test_uniform_noise_has_its_bits_under_the_uniform_model(levels: int, bits: int) -> None:
    """Density 1 / 2 over [-1, 1], into which dequantisation spreads all levels evenly."""
    dims = 12
    x = torch.randint(0, levels, (50, dims), generator=torch.Generator().manual_seed(0)).to(KINDS[levels])
    u = torch.rand(50, dims, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    points = dequantised(x, u)
    assert points.abs().max() <= 1
    assert float(dequantised(x[:1, :1] * 0, u[:1, :1] * 0)) == -1
    inside = torch.where(points.abs() <= 1, 0.5, 0.0).log().sum(1)
    assert bits_per_dim(inside, dims, 2 / levels).tolist() == pytest.approx([bits] * 50)


def deep(n: int, bits: str) -> Any:
    """Gaussian pixels of deviation STD as a data set of that depth."""
    x = (0.4 * STD * torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(2))).clamp(-1, 1)
    return given(parse_spec(f"memory?bits={bits}"), x, values=(-1.0, 1.0))


def test_the_flow_in_bits_of_8_and_of_16_and_in_nats() -> None:
    """An exact model of Gaussian pixels: the density's cross entropy, and 7, 15 or no bits of a bin."""
    model, found = Model(TINY, Exact()), {}
    for bits in ("8", "16", "float"):
        images = deep(4, bits)
        found[bits] = ode_likelihood(model, images, runge_kutta(40), kind="exact", start=1e-3)
        x = dequantised(images.images, torch.full((), 0.5, dtype=torch.float64))
        nats = float((0.5 * (x / STD) ** 2).mean() + math.log(STD) + 0.5 * math.log(2 * math.pi))
        more = {"8": 7, "16": 15}.get(bits)
        wanted = nats if more is None else nats / math.log(2) + more
        assert found[bits].total == pytest.approx(wanted, abs=8e-3)
    assert [found[bits].unit for bits in found] == ["bits/dim", "bits/dim", "nats/dim"]
    assert found["float"].bits_per_dim is None
    assert "a density, and no bits" in found["float"].protocol["dequantisation"]
    assert found["16"].protocol["dequantisation"] == "uniform, 65536 bins over [-1, 1]"


def test_the_bound_has_the_decoder_of_the_images() -> None:
    """The same pictures, all of them levels of 8 and of 16 bits: only the decoder's term differs, by about 8 bits."""
    pixels = np.random.default_rng(0).integers(0, 256, (5, 8, 8), dtype=np.uint8)
    model = made(RECIPES["ddpm"])
    reports = {bits: bound_of(model, given(parse_spec(f"memory?bits={bits}"), pixels), steps=10) for bits in
               ("8", "16", "float")}  # fmt: skip
    eight, sixteen, real = reports.values()
    assert sixteen.details["terms"][:-1] == pytest.approx(eight.details["terms"][:-1], rel=1e-5)
    std = float(model.diffusion.gaussian.schedule.alpha_sigma(torch.tensor(1))[1])
    assert "65536 bins" in sixteen.protocol["decoder"]
    assert real.unit == "nats/dim"
    assert real.bits_per_dim is None
    assert "no bits" in real.protocol["decoder"]
    # a density and the mass of a bin that is narrow beside the deviation differ by the bin's width; ends have no width
    assert std > 20 / 65535
    difference = sixteen.details["decoder"] - real.details["decoder"] / math.log(2)
    assert difference == pytest.approx(math.log2(65535 / 2), abs=0.3)


# ---------------------------------------------------------------- spaces


def test_a_space_takes_the_depth_of_the_data() -> None:
    assert Pixels().of_depth(65536) == Pixels(levels=65536)
    assert Standardised().of_depth(65536).bin == 2 / 65535
    assert Standardised().of_depth(0).bin == 0
    assert Standardised(bin=0.0).of_depth(65536).bin == 0
    assert Standardised().of_depth(256) == Standardised()
    assert Pixels().of_depth(0, (0.0, 10.0)).values == (0.0, 10.0)
    with pytest.raises(ValueError, match="set faithful to false"):
        Standardised(faithful=True).of_depth(65536)
    with pytest.raises(ValueError, match="levels is one of 0, 256, 65536, not 4,096"):
        Pixels(levels=4096)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="the lower first"):
        replace(Pixels(), values=(1.0, 0.0))
