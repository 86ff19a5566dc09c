"""SiT's sampler: its formula on the straight path, one distribution for every w, and stability near clean data."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from sfumato import samplers
from sfumato.core import GaussianDiffusion, LinearFlow, finish
from sfumato.core.continuous import PowerVE
from sfumato.core.exact import gaussian
from sfumato.samplers.ddim import DDIM
from sfumato.samplers.sit import DIFFUSIONS, SiT, SiTStep
from tests.samplers.bench import carried, data, planned, schedules

W: dict[str, Any] = {
    "constant": lambda t: 1.0, "sigma": lambda t: t, "sin2": lambda t: math.sin(math.pi * t) ** 2,
    "g2": lambda t: 2 * t / (1 - t),
}  # fmt: skip


@pytest.mark.parametrize("w", DIFFUSIONS)
def test_a_move_is_the_formula_of_the_paper(w: str) -> None:
    process, dt, scale = GaussianDiffusion(LinearFlow()), 1e-3, 0.7
    mean, std = (torch.tensor([value], dtype=torch.float64) for value in (0.4, 0.3))
    denoise, x = gaussian(mean, std).denoise(process), torch.ones(1, 1, dtype=torch.float64)
    for at in (0.2, 0.6, 0.8):
        t, s = torch.tensor(at, dtype=torch.float64), torch.tensor(at - dt, dtype=torch.float64)
        p = denoise(x, t)
        u, score = p.eps - p.x0, -(x + (1 - t) * (p.eps - p.x0)) / t
        step = SiTStep(process, denoise, w, scale)(x, t, s).to
        amount = scale * W[w](at) * dt
        near = {"rel": 1e-2 if w == "g2" else 1e-9}  # g^2 dt is the variance that the whole move adds
        assert float(step.std) ** 2 == pytest.approx(amount, **near)
        assert float(step.mean - (x - u * dt)) == pytest.approx(float(amount / 2 * score), **near, abs=1e-12)


@pytest.mark.parametrize("name", ["flow", "VP", "cosine", "EDM", "DDPM cosine"])
def test_every_w_has_the_variance_of_the_data(name: str) -> None:
    """By the recursion of the moments, without sampling error, at first order in the number of moves."""
    schedule, of = schedules()[name], data()
    for w in DIFFUSIONS:
        for scale in (0.25, 1.0, 4.0):
            few, many = (
                carried(planned(f"sit?w={w}&scale={scale:g}", schedule, of, n), schedule, of) for n in (100, 400)
            )
            errors = [abs(float(std / of.std) - 1) for _, std in (few, many)]
            assert errors[1] < 0.02, (w, scale)
            assert errors[1] < 0.5 * errors[0] + 2e-3, (w, scale)
            assert float(many[0]) == pytest.approx(float(of.mean), rel=0.02)


def test_without_noise_it_is_ddim() -> None:
    process = GaussianDiffusion(PowerVE())
    denoise, x = gaussian(torch.zeros(3), torch.ones(3)).denoise(process), 80 * torch.randn(4, 3)
    assert torch.equal(samplers.run(SiT(scale=0.0), process, denoise, x, steps=9),
                       samplers.run(DDIM(), process, denoise, x, steps=9))  # fmt: skip


@pytest.mark.parametrize("w", DIFFUSIONS)
def test_it_is_stable_where_the_score_is_steep(w: str) -> None:
    """Data of hardly any width: the score at the last moves is that of the noise, and few moves are far apart."""
    schedule, of = LinearFlow(), data(1e-6)
    for n in (5, 10, 50):
        assert float(carried(planned(f"sit?w={w}&scale=100", schedule, of, n), schedule, of)[1]) < 1e-2


def test_the_last_move_draws_no_noise() -> None:
    process, draws = GaussianDiffusion(LinearFlow()), []
    denoise = gaussian(torch.zeros(2), torch.ones(2)).denoise(process)
    finish(torch.randn(3, 2), SiT().plan(process, denoise, 6), lambda x: draws.append(0) or torch.randn_like(x))
    assert len(draws) == 5


@pytest.mark.parametrize(("spec", "message"), [
    ("sit?w=tau", "w of sampler sit is constant or sigma or sin2 or g2, not 'tau'"),
    ("sit?scale=-1", "scale is between 0 and 1,000, not -1"),
    ("sti", "did you mean sit"),
])  # fmt: skip
def test_what_it_refuses(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("?", r"\?")):
        samplers.by_name(spec)
