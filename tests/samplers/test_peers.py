"""Samplers beside k-diffusion's and diffusers', where those are right: the same picture from the same noise.

Skipped where they are not installed. diffusers' DEIS is another (its polynomial is in log kappa, ours in kappa), and
its SDE of third order is not compared: `sfumato reproduce solvers/sde-third-order` says why.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core import GaussianDiffusion, GaussianMixture, finish, from_betas
from sfumato.core.betas import linear_betas
from sfumato.core.continuous import PowerVE
from sfumato.core.schedules import Schedule
from sfumato.samplers.grids import karras

MIXTURE = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.2], [0.8, -0.4]], dtype=torch.float64),
    torch.full((2, 2), 0.3, dtype=torch.float64),
)
NOISE = torch.randn(41, 8, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def ours(spec: str, schedule: Schedule, times: Tensor, x: Tensor) -> Tensor:
    """The end of our moves along these times, with the recorded noise."""
    process, draws = GaussianDiffusion(schedule), iter(NOISE[1:])
    moves = samplers.by_name(spec).moves(process, MIXTURE.denoise(process), times)
    return finish(x, moves, lambda like: next(draws))


# ---------------------------------------------------------------- k-diffusion, where alpha is 1


def k_diffusion(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Its file of samplers alone: the package itself imports all that it trains with."""
    for needed in ("torchsde", "torchdiffeq", "scipy", "tqdm"):
        pytest.importorskip(needed)
    found = importlib.util.find_spec("k_diffusion")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("k-diffusion is not installed")
    package, utils = types.ModuleType("k_diffusion"), types.ModuleType("k_diffusion.utils")
    package.__path__ = list(found.submodule_search_locations)
    package.utils = utils  # type: ignore[attr-defined]
    utils.append_dims = lambda x, n: x[(...,) + (None,) * (n - x.ndim)]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "k_diffusion", package)
    monkeypatch.setitem(sys.modules, "k_diffusion.utils", utils)
    monkeypatch.delitem(sys.modules, "k_diffusion.sampling", raising=False)
    return importlib.import_module("k_diffusion.sampling")


@pytest.mark.parametrize(
    ("spec", "name", "given", "tolerance"),
    [
        ("ddim", "sample_euler", {}, 1e-9),
        ("heun", "sample_heun", {}, 1e-9),
        ("dpmpp-2m", "sample_dpmpp_2m", {}, 1e-9),
        ("dpmpp-2s", "sample_dpmpp_2s_ancestral", {"eta": 0.0}, 1e-9),
        ("dpmpp-3m-published", "sample_dpmpp_3m_sde", {"eta": 0.0}, 2e-3),  # its second move is of another second order
        ("sde-dpmpp-2m", "sample_dpmpp_2m_sde", {}, 1e-9),
        ("sde-dpmpp-2m?eta=0.5", "sample_dpmpp_2m_sde", {"eta": 0.5}, 1e-9),
        ("ab?order=1", "sample_lms", {"order": 1}, 1e-6),
        ("ab?order=2", "sample_lms", {"order": 2}, 1e-6),
        ("ab?order=4", "sample_lms", {"order": 4}, 1e-6),
    ],
)
def test_beside_k_diffusion(
    spec: str, name: str, given: dict[str, Any], tolerance: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs, schedule = k_diffusion(monkeypatch), PowerVE()
    times = karras(schedule, 21)[:-1]
    sigmas = schedule.alpha_sigma(times)[1]
    denoise, x = MIXTURE.denoise(GaussianDiffusion(schedule)), float(sigmas[0]) * NOISE[0]
    draws, at = iter(NOISE[1:]), dict(zip(sigmas.tolist(), times, strict=True))

    def model(x: Tensor, sigma: Tensor) -> Tensor:
        sigma = float(sigma[0])
        t = at.get(sigma)
        return denoise(x, schedule.at(-torch.tensor(sigma, dtype=torch.float64).log()) if t is None else t).x0

    if "sde" in name:
        given = {**given, "noise_sampler": lambda before, after: next(draws)}
    end = getattr(theirs, name)(model, x, sigmas, disable=True, **given)
    assert torch.allclose(ours(spec, schedule, times, x), end, atol=tolerance)


# ---------------------------------------------------------------- diffusers, on a variance-preserving table

SA = {"predictor_order": 3, "tau_func": lambda t: 1}
ROWS: list[tuple[str, str, dict[str, Any]]] = [
    ("dpmpp-2m", "DPMSolverMultistepScheduler", {}),
    ("sde-dpmpp-2m", "DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    ("unipc?order=2", "UniPCMultistepScheduler", {}),
    ("unipc?order=3", "UniPCMultistepScheduler", {"solver_order": 3}),
]
"""Our sampler, their scheduler and its options."""
BEFORE_THE_END = [
    ("dpmpp-3m-published", "DPMSolverMultistepScheduler", {"solver_order": 3}),
    ("unipc?order=2&variant=bh1", "UniPCMultistepScheduler", {"solver_type": "bh1"}),  # theirs ends in NaN
    ("sa-solver?corrector=2", "SASolverScheduler", {**SA, "corrector_order": 3}),  # theirs counts the newest as well
    ("sa-solver", "SASolverScheduler", {**SA, "corrector_order": 4}),
]
"""Those whose last moves are others: `lower_order_final` of theirs has several meanings."""


def beside(spec: str, name: str, given: dict[str, Any], steps: int, last: int, patch: pytest.MonkeyPatch) -> None:
    """The state after so many of the steps is the same."""
    library = pytest.importorskip("diffusers")
    scheduler = getattr(library, name)(beta_schedule="linear", timestep_spacing="trailing", **given)
    scheduler.set_timesteps(steps)
    schedule = from_betas(linear_betas(1000))
    denoise, x, draws = MIXTURE.denoise(GaussianDiffusion(schedule)), NOISE[0], iter(NOISE[1:])
    if name == "SASolverScheduler":  # it takes a generator alone
        patch.setattr("diffusers.schedulers.scheduling_sasolver.randn_tensor", lambda *args, **more: next(draws))
    for t in scheduler.timesteps[:last]:
        noise = {"variance_noise": next(draws)} if spec.startswith("sde") else {}
        x = scheduler.step(denoise(x, t + 1).eps, t, x, **noise).prev_sample
    times = torch.cat([scheduler.timesteps + 1, torch.zeros(1, dtype=torch.long)])[: last + 1]
    assert torch.allclose(ours(spec, schedule, times, NOISE[0]), x, atol=1e-4)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("spec", "name", "given"), ROWS)
def test_beside_diffusers_to_clean_data(
    spec: str, name: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(spec, name, given, 10, 10, monkeypatch)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(("spec", "name", "given"), [*ROWS, *BEFORE_THE_END])
def test_beside_diffusers_before_the_end(
    spec: str, name: str, given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    beside(spec, name, {**given, "lower_order_final": False}, 20, 19, monkeypatch)
