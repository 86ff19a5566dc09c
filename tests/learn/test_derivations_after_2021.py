"""What the lessons on work after 2021 derive, evaluated: one test a derivation, on data whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.claims import CLAIMS, judge
from sfumato.claims.toys import cosine, normal, ring
from sfumato.core.continuous import VP, PowerVE
from sfumato.core.denoisers import predict_f, predict_v
from sfumato.core.exact import gaussian, gaussian_flow
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level
from sfumato.samplers import run
from sfumato.samplers.ddim import DDIMStep
from sfumato.samplers.grids import karras
from sfumato.samplers.heun import ChurnStep
from sfumato.samplers.multistep import exponential_moments, half_log_snr

ONE = torch.tensor(1.0, dtype=torch.float64)


def close(a: float | Tensor, b: float | Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=rtol, atol=1e-12
    )


# ---------------------------------------------------------------- fast solvers and EDM


def test_edm_exponential() -> None:
    """The exact integral along the exact path of Gaussian data; held constant, it is DDIM."""
    process, std = GaussianDiffusion(VP()), 0.4 * torch.ones(1, dtype=torch.float64)
    denoise = gaussian(0 * std, std).denoise(process)
    t, s = (torch.tensor(v, dtype=torch.float64) for v in (0.7, 0.5))
    x = normal(0, 6, 1)
    start, end = process.level(t, x), process.level(s, x)
    lambdas = torch.linspace(half_log_snr(start), half_log_snr(end), 2001, dtype=torch.float64)
    times = process.schedule.at(lambdas)
    x0 = torch.stack(
        [denoise(gaussian_flow(0 * std, std, x, start, process.level(time, x)), time).x0 for time in times]
    )
    integral = torch.trapezoid(torch.exp(lambdas - lambdas[-1])[:, None, None] * x0, lambdas, dim=0)
    found = end.sigma / start.sigma * x + end.alpha * integral
    close(found, gaussian_flow(0 * std, std, x, start, end), rtol=1e-5)
    h = float(lambdas[-1] - lambdas[0])
    held = end.sigma / start.sigma * x + end.alpha * -math.expm1(-h) * denoise(x, t).x0
    close(held, DDIMStep(process, denoise)(x, t, s).to.mean, rtol=1e-6)


def test_edm_multistep() -> None:
    h = 0.01
    moment = h * exponential_moments(h, 2)[1]
    close(moment, h - 1 + math.exp(-h), rtol=1e-6)
    assert moment == pytest.approx(h**2 / 2 - h**3 / 6, rel=1e-4)
    assert h / 2 * -math.expm1(-h) == pytest.approx(h**2 / 2 - h**3 / 4, rel=1e-4)
    process, mixture = GaussianDiffusion(VP()), ring()
    x, denoise = normal(0, 40, 2), mixture.denoise(process)
    exact = run("heun?grid=log-snr", process, denoise, x, steps=600)
    errors = [float((run("dpmpp-2m?grid=log-snr", process, denoise, x, steps=n) - exact).norm()) for n in (60, 120)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.35)


def test_edm_third() -> None:
    """Newton's parabola; the step without the 2 is the published one, of order 2."""
    r0, r1, a, b, c = 0.7, 1.3, 0.2, -0.5, 0.9
    at = {u: a + b * u + c * u**2 for u in (0.0, -r0, -(r0 + r1))}
    d0, d1 = (at[0.0] - at[-r0]) / r0, (at[-r0] - at[-(r0 + r1)]) / r1
    close(d0 + r0 * (d0 - d1) / (r0 + r1), b)
    close(2 * (d0 - d1) / (r0 + r1), 2 * c)
    verdict = judge(CLAIMS["solvers/third-order"], seeds=1, fast=True)
    assert verdict.mean("published: order") == pytest.approx(2, abs=0.2)
    assert verdict.mean("mended: order") > 2.7


def test_edm_preconditioning() -> None:
    data, x0, eps = 0.5, 0.5 * normal(0, 200_000, 1), normal(1, 200_000, 1)
    process = GaussianDiffusion(PowerVE())
    for sigma in (0.05, 0.5, 5.0):
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / math.hypot(sigma, data)
        x = x0 + sigma * eps
        assert float(((x0 - skip * x) / out).var()) == pytest.approx(1, abs=0.02)
        close(out**2, (1 - skip) ** 2 * data**2 + skip**2 * sigma**2)
        for other in (skip - 0.01, skip + 0.01):
            assert out**2 < (1 - other) ** 2 * data**2 + other**2 * sigma**2
        t = process.schedule.at(torch.tensor(-math.log(sigma), dtype=torch.float64))
        F = normal(2, 5, 1)
        close(predict_f(data)(F, x[:5], t, process).x0, skip * x[:5] + out * F, rtol=1e-6)
        close(1 / out**2, (sigma**2 + data**2) / (sigma * data) ** 2)
    vp, t = cosine(), torch.tensor(500)
    x, v = normal(3, 5, 1), normal(4, 5, 1)
    close(predict_f(1.0)(-v, x, t, vp).x0, predict_v(v, x, t, vp).x0, rtol=1e-6)


def test_edm_grid() -> None:
    n, rho = 18, 7.0
    i = torch.arange(n, dtype=torch.float64)
    stated = (80 ** (1 / rho) + i / (n - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    assert stated[1].item() == pytest.approx(57.59, abs=0.01)
    schedule = PowerVE()
    close(schedule.alpha_sigma(schedule.times(n))[1], torch.cat([stated, 0 * ONE[None]]), rtol=1e-9)
    h = -stated.log().diff()
    assert bool((h.diff() > 0).all())
    close(rho * (1e7 ** (1e-9 / rho) - 1), 1e-9 * math.log(1e7), rtol=1e-5)
    below = GaussianDiffusion(VP()).schedule
    roots = torch.exp(-below.log_snr(karras(below, 9)[:-1]) / 2 / rho).diff()
    close(roots, roots[0].expand(8), rtol=1e-4)


def test_edm_churn() -> None:
    """Up and down again is Langevin's step to first order; the level raised is exact."""
    process, std = GaussianDiffusion(PowerVE()), 0.6
    t = process.schedule.at(torch.tensor(0.0, dtype=torch.float64))
    sigma = float(process.schedule.alpha_sigma(t)[1])
    errors = []
    for gamma in (0.02, 0.01):
        up = process.schedule.at(torch.tensor(-math.log((1 + gamma) * sigma), dtype=torch.float64))
        step = ChurnStep(process)(ONE[None], t, up).to
        added = float(step.std) ** 2
        close(added, ((1 + gamma) ** 2 - 1) * sigma**2, rtol=1e-6)
        down = gaussian_flow(0 * ONE, std * ONE, ONE, Level(ONE, (1 + gamma) * sigma * ONE), Level(ONE, sigma * ONE))
        langevin = 1 + added / 2 * -1 / (std**2 + sigma**2)
        errors.append(abs(float(down) - langevin))
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)
