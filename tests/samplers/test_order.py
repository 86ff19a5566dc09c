"""Every sampler converges as it declares, on every schedule where it applies, for Gaussian data and the exact denoiser.

The error of the moments against the number of moves, even in log SNR, from the first level that has signal.
"""

from __future__ import annotations

import math
from functools import cache
from statistics import median

import pytest
import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core import VE, VP, Cosine, GaussianDiffusion, LinearFlow, Schedule, SubVP, Table, from_betas, from_sigmas
from sfumato.core import betas as B
from sfumato.core.dpm2015.nonequilibrium import even_betas
from sfumato.core.exact import gaussian, gaussian_flow
from sfumato.core.sampling import descend, finish
from sfumato.samplers.ddim import DDIMStep
from tests.samplers.bench import SAMPLERS, Data, carried

T = 4096
BETAS = {
    "linear": B.scaled_linear_betas(T), "quad": B.quad_betas(T, 0.1 / T, 20 / T), "const": B.const_betas(T, 20 / T),
    "warmup": B.warmup_betas(T, 0.1 / T, 20 / T), "jsd": B.jsd_betas(T), "sigmoid": B.sigmoid_betas(T, 0.1 / T, 20 / T),
    "cosine": B.cosine_betas(T), "DPM even": even_betas(T, 1e-3),
}  # fmt: skip
SCHEDULES: dict[str, Schedule] = {
    **{name: from_betas(betas) for name, betas in BETAS.items()},
    "sigmas": from_sigmas(B.geometric_sigmas(T, 0.01, 50.0)),
    "VE": VE(), "VP": VP(), "sub-VP": SubVP(), "Cosine": Cosine(), "flow": LinearFlow(),
}  # fmt: skip
"""The tables with so many levels that a grid may lie where it should."""

CORRECTS = ("grid", "predictor-corrector", "churn")
ORDERED = [s for s in SAMPLERS if samplers.by_name(s).convergence and not any(word in s for word in CORRECTS)]
"""All but those that correct towards the stationary distribution of a level, or choose their steps themselves."""
FEW_LEVELS = {("dpmpp-3m", "jsd"), ("ab?order=4", "jsd"), ("dpmpp-2s", "jsd"), ("unipc", "jsd")}
"""Where levels lie far apart in log SNR, those that are even are not quite, and high orders feel it."""
DATA = Data(torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64))


@cache
def grid(name: str, n: int) -> Tensor:
    """n moves, even in log SNR, between the first time with signal and one near clean data."""
    schedule = SCHEDULES[name]
    table = isinstance(schedule, Table)
    low, high = (torch.tensor(level if table else level / 100) for level in ((32, T) if table else (1, 100)))
    if schedule.alpha_sigma(high)[0] < 1e-3:
        high = 98 * high // 100 if table else 0.98 * high
    start, end = (float(schedule.log_snr(t)) / 2 for t in (high, low))
    return schedule.at(torch.linspace(start, end, n + 1, dtype=torch.float64)).unique().flip(0)


@cache
def order(spec: str, name: str, moves: tuple[int, int] = (64, 128)) -> float:
    """With which power of the number of moves the error falls."""
    schedule, sampler = SCHEDULES[name], samplers.by_name(spec)
    process = GaussianDiffusion(schedule)
    denoise, errors = gaussian(*DATA).denoise(process), []
    for n in moves:
        times = grid(name, n)
        found = carried(sampler.moves(process, denoise, times), schedule, DATA)
        truth = DATA.moments(schedule, times[-1])
        errors.append(max(float((a - b).abs().max()) for a, b in zip(found, truth, strict=True)))
    return math.log2(errors[0] / errors[1])


def applies(spec: str, name: str) -> bool:
    return (spec, name) not in FEW_LEVELS and not (spec.startswith("euler") and isinstance(SCHEDULES[name], Table))


@pytest.mark.parametrize("spec", ORDERED)
def test_the_declared_order_is_that_of_the_error(spec: str) -> None:
    """On every schedule at least that, and no other in the middle of all."""
    declared = samplers.by_name(spec).convergence
    slack = 0.3 if declared < 3 else 0.6
    found = {name: order(spec, name) for name in SCHEDULES if applies(spec, name)}
    assert {name: value for name, value in found.items() if value < declared - slack} == {}
    assert median(found.values()) == pytest.approx(declared, abs=slack)


@pytest.mark.parametrize("name", ["VP", "flow"])
def test_churn_keeps_the_second_order(name: str) -> None:
    """It shows late, since few moves churn by the most that there may be."""
    assert order("heun?churn=20", name, (128, 256)) == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize("name", ["linear", "VE", "VP", "sub-VP", "Cosine", "flow"])
def test_ddim_follows_the_probability_flow(name: str) -> None:
    """Point by point, the exact solution of the ODE for Gaussian data, at first order."""
    schedule = SCHEDULES[name]
    process = GaussianDiffusion(schedule)
    kernel = DDIMStep(process, gaussian(*DATA).denoise(process))
    x, errors = torch.randn(64, 2, dtype=torch.float64), []
    for n in (64, 128):
        times = grid(name, n)
        start, end = (process.level(t, x) for t in (times[0], times[-1]))
        errors.append(float((finish(x, descend(kernel, times)) - gaussian_flow(*DATA, x, start, end)).abs().max()))
    assert errors[-1] < 0.05
    assert 1.7 < errors[0] / errors[1] < 2.3
