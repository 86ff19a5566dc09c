"""A built diffusion: capabilities are attributes, and predictions know the velocity of the probability flow."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from sfumato.core import VE, VP, Cosine, GaussianDiffusion, LinearFlow, SubVP, fixed_large
from sfumato.core.exact import gaussian
from sfumato.core.variances import learned_range
from sfumato.papers import PAPERS
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.dpm import DPM
from sfumato.samplers import DDIM, FAST, FAST_STEPS


@pytest.mark.parametrize("paper", [name for name in PAPERS if name not in ("adm_classifier", "autoencoder")])
def test_capabilities_are_attributes(paper: str) -> None:
    diffusion = PAPERS[paper]().build()
    assert (diffusion.variance is not None) == (paper in ("ddpm", "iddpm", "adm", "mixed"))
    assert (diffusion.lower_bound is not None) == (paper == "dpm")
    assert (diffusion.clip is not None) == (paper in ("ddpm", "iddpm", "adm", "continuous", "mixed"))
    fast = paper in (
        "ddpm",
        "iddpm",
        "adm",
        "edm",
        "flow",
        "continuous",
        "mixed",
    )  # VE's, NCSN's and 2015's are sampled by their own
    expected = (FAST, FAST_STEPS) if fast else (diffusion.own, diffusion.own_steps)
    assert (diffusion.sampler, diffusion.steps) == expected
    assert diffusion.usual(DDIM()) == diffusion.own_steps
    assert diffusion.gaussian is diffusion.process


def test_a_bound_has_the_variance_of_its_chain() -> None:
    assert DDPM().build().variance is fixed_large
    assert ADM().build().variance is learned_range
    classification = NoisyClassifier().build()
    assert classification.sampler is None


def test_clipping_holds_the_range_of_the_space() -> None:
    diffusion = DDPM().build()
    assert diffusion.clip == (-1, 1)
    far = gaussian(torch.full((2,), 3.0), torch.full((2,), 0.1)).denoise(diffusion.gaussian)
    x, t = torch.randn(3, 2), torch.tensor(50)
    assert float(diffusion.clipped(far)(x, t).x0.max()) <= 1
    free = DDPM(clip=False).build()
    assert free.clipped(far) is far


def test_learned_levels_have_no_process() -> None:
    with pytest.raises(ValueError, match="sampled by its own"):
        _ = DPM(learn_betas=True).build().gaussian


@pytest.mark.parametrize("schedule", [VE(), VP(), SubVP(), Cosine(), LinearFlow()], ids=lambda s: type(s).__name__)
def test_the_velocity_is_that_of_the_probability_flow(schedule: Any) -> None:
    """x0 alpha' + eps sigma' = f x - g^2 score / 2 (Song et al. 2021, eq. 13), for any data."""
    process = GaussianDiffusion(schedule)
    denoise = gaussian(torch.tensor([0.4, -0.8]).double(), torch.tensor([0.6, 0.3]).double()).denoise(process)
    x = torch.randn(5, 2, dtype=torch.float64)
    for time in (0.05, 0.4, 0.9):
        t = torch.tensor(time, dtype=torch.float64)
        prediction, (f, g2) = denoise(x, t), schedule.drift_diffusion(t)
        velocity = prediction.velocity(schedule.rate(t, x))
        assert torch.allclose(velocity, f * x - g2 / 2 * prediction.score, rtol=1e-9)
    flow = denoise(x, t).velocity(LinearFlow().rate(t, x))
    assert torch.allclose(flow, denoise(x, t).eps - denoise(x, t).x0)
