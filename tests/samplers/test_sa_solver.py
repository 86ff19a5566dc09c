"""SA-Solver beside its paper's algorithm, written out with numerical integrals; its moments without sampling noise."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core import VP, GaussianDiffusion, GaussianMixture, finish
from sfumato.core.exact import gaussian
from sfumato.samplers.ddim import DDIM
from sfumato.samplers.grids import karras, log_snr
from sfumato.samplers.sa_solver import SASolver
from tests.samplers.bench import carried, data

PROCESS = GaussianDiffusion(VP())
MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.2], [0.8, -0.4]], dtype=torch.float64),
    torch.full((2, 2), 0.3, dtype=torch.float64),
)
DENOISE = MIXTURE.denoise(PROCESS)


def quadrature(nodes: list[float], start: float, end: float, tau: float) -> list[float]:
    """alpha_s times the integral of each Lagrange polynomial through the nodes in lambda, by Gauss and Legendre."""
    at, of = (torch.tensor(v, dtype=torch.float64) for v in LEGENDRE)
    u = start + (end - start) * (at + 1) / 2
    kernel = (1 + tau**2) * torch.exp(-(1 + tau**2) * (end - u)) * of * (end - start) / 2
    found = []
    for j, node in enumerate(nodes):
        basis = torch.ones_like(u)
        for i, other in enumerate(nodes):
            if i != j:
                basis = basis * (u - other) / (node - other)
        found.append(float((kernel * basis).sum()))
    return found


LEGENDRE = (
    [0.0, *(sign * value for value in (0.5384693101056831, 0.9061798459386640) for sign in (-1, 1))],
    [128 / 225, *(value for value in (0.47862867049936647, 0.23692688505618908) for _ in "12")],
)
"""Five nodes and their weights: enough for short steps, where the integrand is nearly a polynomial."""


def written_out(x: Tensor, times: Tensor, order: int, corrector: int, tau: float, noise: list[Tensor]) -> Tensor:
    """Algorithm 1 of Xue et al. 2023: predict with new noise, evaluate, correct with the same noise."""
    lambdas = [float(PROCESS.schedule.log_snr(t)) / 2 for t in times]
    buffer = [DENOISE(x, times[0]).x0]
    for i, (t, s) in enumerate(pairwise(times)):
        (_, sigma_t), (alpha_s, sigma_s) = (PROCESS.schedule.alpha_sigma(time) for time in (t, s))
        h = lambdas[i + 1] - lambdas[i]
        base = sigma_s / sigma_t * math.exp(-(tau**2) * h) * x
        base = base + sigma_s * math.sqrt(-math.expm1(-2 * tau**2 * h)) * noise[i]
        known = buffer[:order]
        counts = quadrature([lambdas[i - k] for k in range(len(known))], lambdas[i], lambdas[i + 1], tau)
        guess = base + alpha_s * sum(c * d for c, d in zip(counts, known, strict=True))
        if i == len(times) - 2:
            return guess
        newest = DENOISE(guess, s).x0
        known = [newest, *buffer[: min(corrector, min(order, i + 1))]]
        counts = quadrature([lambdas[i + 1 - k] for k in range(len(known))], lambdas[i], lambdas[i + 1], tau)
        x = base + alpha_s * sum(c * d for c, d in zip(counts, known, strict=True)) if corrector else guess
        buffer.insert(0, newest)
    raise AssertionError


@pytest.mark.parametrize("tau", [0.0, 0.6, 1.0, 1.4])
@pytest.mark.parametrize(("order", "corrector"), [(1, 0), (2, 0), (3, 0), (1, 1), (2, 1), (3, 3)])
def test_it_is_the_algorithm_of_the_paper(order: int, corrector: int, tau: float) -> None:
    generator = torch.Generator().manual_seed(0)
    x, *noise = torch.randn(42, 16, 2, generator=generator, dtype=torch.float64)
    times = log_snr(PROCESS.schedule, 41)[:-1]
    plan = SASolver(order, corrector, tau).moves(PROCESS, DENOISE, times)
    draws = iter(noise)
    ours = finish(x, plan, lambda like: next(draws))
    assert torch.allclose(ours, written_out(x, times, order, corrector, tau, noise), atol=1e-6)


@pytest.mark.parametrize("tau", [0.0, 1.0])
def test_of_order_one_it_is_ddim(tau: float) -> None:
    """Without noise, and with tau = 1 and eta = 1; for no tau between is it DDIM of an eta."""
    times = log_snr(PROCESS.schedule, 12)
    x = torch.randn(8, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)

    def noise(like: Tensor) -> Tensor:
        return torch.ones_like(like)

    one = finish(x, SASolver(1, 0, tau).moves(PROCESS, DENOISE, times), noise)
    assert torch.allclose(one, finish(x, DDIM(tau).moves(PROCESS, DENOISE, times), noise), atol=1e-9)


@pytest.mark.parametrize("spec", ["tau=0", "tau=0.5", "tau=1", "tau=1.5", "tau=1&s_min=0.05&s_max=1"])
def test_its_moments_converge_to_those_of_the_data_whatever_the_noise(spec: str) -> None:
    """The variance error of Gaussian data by the linear recursion of state, history and noise: no samples."""
    of, errors = data(), []
    denoise = gaussian(*of).denoise(PROCESS)
    for n in (160, 320, 640):
        times = karras(PROCESS.schedule, n)[:-1]
        std = carried(samplers.by_name(f"sa-solver?{spec}").moves(PROCESS, denoise, times), PROCESS.schedule, of)[1]
        errors.append(abs(float((std / of.moments(PROCESS.schedule, times[-1])[1]) ** 2 - 1)))
    assert errors[0] > 3 * errors[1] > 9 * errors[2]
    assert errors[2] < 3e-4


def test_noise_only_between_s_min_and_s_max() -> None:
    plan = SASolver(s_min=0.05, s_max=1.0).plan(PROCESS, DENOISE, 50)
    inside = [0.05 <= math.exp(-float(PROCESS.schedule.log_snr(t)) / 2) <= 1 for _, t, _ in plan]
    assert [step.tau > 0 for step, *_ in plan] == inside  # type: ignore[attr-defined]
    assert any(inside)
    assert not all(inside)


@pytest.mark.parametrize("spec", ["order=4", "order=0", "corrector=4", "corrector=-1", "tau=-1"])
def test_what_it_refuses(spec: str) -> None:
    with pytest.raises(ValueError, match=r"lies between|is not negative"):
        samplers.by_name(f"sa-solver?{spec}")
