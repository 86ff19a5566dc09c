"""The EDM recipe: its loss and times beside the paper's formulas, its sampler on known data, and a run end to end."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.conditioning import Labels
from sfumato.core.exact import gaussian
from sfumato.core.sampling import finish
from sfumato.data import open_source, to_float
from sfumato.fitting import fit_to_data
from sfumato.likelihood import ode_likelihood, runge_kutta
from sfumato.models import Model
from sfumato.papers.edm import EDM
from sfumato.papers.presets import preset
from sfumato.samplers import FAST, Heun
from sfumato.spaces import Measured, Pixels, Standardised, UnitPixels
from tests.likelihood.test_flow import dequantised
from tests.papers import whole
from tests.papers.whole import MEAN, STD

TINY = EDM((1, 8, 8), whole.NETWORK, Labels(10, 0.2), Measured(0.6), steps=6)
PLAIN = EDM((1, 2, 2), space=Pixels())


class Asked(nn.Module):
    """Answers with a function of what it sees, and keeps what that was."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.x, self.label = x, label
        return 0.3 * x.sin() + 0.01


class Ideal(nn.Module):
    """F for N(MEAN, STD^2) pixels, whatever sigma_data: (D - c_skip x) / c_out."""

    def __init__(self, sigma_data: float = 0.5) -> None:
        super().__init__()
        self.sigma_data = sigma_data
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        sigma = torch.exp(4 * label.double())[:, None, None, None]
        norm = (sigma**2 + self.sigma_data**2).sqrt()
        x = norm * x
        D = (STD**2 * x + sigma**2 * MEAN) / (STD**2 + sigma**2)
        return (D - (self.sigma_data / norm) ** 2 * x) / (sigma * self.sigma_data / norm)


def test_the_loss_is_eq_8_and_its_weight_makes_it_the_error_in_f() -> None:
    recipe, network, d = replace(PLAIN, sigma_data=0.7), Asked(), 0.7
    sigma = torch.tensor([0.002, 0.5, 80.0], dtype=torch.float64)
    y, n = torch.rand(3, 1, 2, 2).double() * 2 - 1, torch.randn(3, 1, 2, 2).double()
    diffusion = recipe.build()
    loss = diffusion.loss(network, y, (sigma / 80) ** (1 / 7), lambda _: n)
    s = sigma[:, None, None, None]
    norm = (s**2 + d**2).sqrt()
    x = y + s * n
    torch.testing.assert_close(network.x, x / norm)  # c_in
    torch.testing.assert_close(network.label, (sigma.log() / 4).float())  # c_noise
    F = 0.3 * (x / norm).sin() + 0.01
    D = (d / norm) ** 2 * x + s * d / norm * F
    torch.testing.assert_close(loss, ((norm / (s * d)) ** 2 * (D - y) ** 2).mean((1, 2, 3)))
    target = (y - (d / norm) ** 2 * x) / (s * d / norm)
    torch.testing.assert_close(loss, ((F - target) ** 2).mean((1, 2, 3)))


def test_sigma_is_log_normal_and_goes_with_the_deviation_of_the_data() -> None:
    u = (torch.arange(10_000, dtype=torch.float64) + 0.5) / 10_000
    for sigma_data in (0.5, 0.25):
        diffusion = replace(PLAIN, sigma_data=sigma_data).build()
        log_sigma = diffusion.gaussian.schedule.alpha_sigma(diffusion.times.draw(u)[0])[1].log()
        assert float(log_sigma.mean()) == pytest.approx(-1.2 + math.log(2 * sigma_data), abs=1e-3)
        assert float(log_sigma.std()) == pytest.approx(1.2, rel=5e-3)


def test_sigma_data_is_measured_or_given_or_the_spaces() -> None:
    digits = open_source("digits")
    fitted = fit_to_data(preset("edm/digits").recipe, digits)
    assert fitted.deviation == fitted.space.std == pytest.approx(to_float(digits.images).std().item(), rel=1e-4)
    assert fit_to_data(replace(PLAIN, sigma_data=0.3), digits).deviation == 0.3
    assert (PLAIN.deviation, EDM(space=UnitPixels()).deviation, EDM(space=Standardised()).deviation) == (0.5, 0.25, 1.0)


def test_its_own_sampler_is_the_papers() -> None:
    assert whole.evaluations(preset("edm/cifar10").recipe) == 35
    assert whole.evaluations(preset("edm/ffhq64").recipe) == 79
    net64 = preset("edm/imagenet64").recipe
    assert whole.evaluations(net64) == 511
    assert net64.build().own == Heun(churn=40, s_min=0.05, s_max=50, s_noise=1.003)
    diffusion = PLAIN.build()
    assert (diffusion.own, diffusion.own_steps, diffusion.sampler) == (Heun(), 18, FAST)
    assert float(diffusion.prior((1, 1)).std) == pytest.approx(80)  # type: ignore[attr-defined]


@pytest.mark.parametrize("sigma_data", [0.5, 0.9])
def test_its_sampler_is_of_second_order_whatever_sigma_data(sigma_data: float) -> None:
    order, error = whole.converges(replace(PLAIN, sigma_data=sigma_data), Ideal(sigma_data), (40, 80))
    assert order == pytest.approx(2, abs=0.1)
    assert error < 3e-3


@pytest.mark.parametrize("churn", [0.0, 20.0])
def test_gaussian_pixels_come_out_with_mean_and_deviation(churn: float) -> None:
    diffusion = replace(PLAIN, churn=churn, s_noise=1.0).build()
    x = diffusion.prior((4000, 1, 2, 2)).sample(torch.randn_like)
    plan = diffusion.own.plan(diffusion.gaussian, diffusion.denoise(Ideal(), {}), 60)
    made = finish(x, plan)
    assert float(made.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(made.std()) == pytest.approx(STD, rel=0.05)


def test_the_denoiser_of_gaussian_data_is_the_exact_one() -> None:
    """Through preconditioning, at every level; for mean 0 and sigma_data itself it is c_skip x."""
    process = PLAIN.build().gaussian
    exact = gaussian(torch.full((4,), MEAN), torch.full((4,), STD)).denoise(process)
    for t in (0.22, 0.5, 0.8, 1.0):
        x, time = torch.randn(5, 1, 2, 2).double(), torch.tensor(t, dtype=torch.float64)
        found, truth = PLAIN.build().denoise(Ideal(), {})(x, time), exact(x.flatten(1), time)
        torch.testing.assert_close(found.x0.flatten(1), truth.x0.to(x), rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.eps.flatten(1), truth.eps.to(x), rtol=1e-5, atol=1e-5)


def test_the_likelihood_of_gaussian_pixels_is_theirs() -> None:
    """Up to the noise of the least level, 0.002, and what quantisation adds."""
    images = open_source("digits")
    x = (MEAN + STD * torch.randn(30, 1, 2, 2, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    pixels = (x * 127.5 + 127.5).round().byte()
    source = replace(images, images=pixels, labels=None, card=replace(images.card, shape=(1, 2, 2)))
    report = ode_likelihood(Model(PLAIN, Ideal()), source, runge_kutta(100), kind="exact")
    assert report.protocol["start"] == pytest.approx((0.002 / 80) ** (1 / 7))
    z = (dequantised(pixels, torch.tensor(0.5)) - MEAN) / STD
    nats = 0.5 * z.square().mean() + math.log(STD) + 0.5 * math.log(2 * math.pi)
    assert report.bits_per_dim == pytest.approx(float(nats) / math.log(2) + 7, abs=5e-3)


def test_training_reads_nothing_on_the_host() -> None:
    whole.check_no_host(TINY)
    whole.check_no_host(replace(TINY, weight="min-snr"))


def test_from_training_to_onnx(tmp_path: Path) -> None:
    whole.check_the_whole_way(replace(TINY, churn=2.0), tmp_path)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"weight": "snr"}, "weight is one of eps, x0, v"),
        ({"sigma_min": 0.0}, "sigma_min"),
        ({"sigma_min": 90.0}, "below sigma_max"),
        ({"sigma_max": math.inf}, "sigma_max"),
        ({"rho": 0.0}, "rho"),
        ({"sigma_data": -1.0}, "sigma_data"),
        ({"p_std": math.nan}, "p_std"),
        ({"p_mean": math.nan}, "p_mean"),
        ({"steps": 0}, "steps"),
        ({"churn": -1.0}, "churn"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        EDM(**values)
