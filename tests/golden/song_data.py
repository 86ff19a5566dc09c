"""The analytic data and the stand-in networks on which the official score-based code was recorded, as ours."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.core.betas import geometric_sigmas
from sfumato.core.denoisers import Denoise, Prediction, predict_score
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Table, from_sigmas


def exact(about: dict[str, Any], process: GaussianDiffusion) -> Denoise:
    """The denoiser of the analytic data: every pixel's 3-vector of channels is N(m, cov)."""
    m = torch.tensor(about["m"], dtype=torch.float64)
    cov = about.get("cov") or torch.diag(torch.tensor(about["s"], dtype=torch.float64) ** 2).tolist()
    variances, axes = torch.linalg.eigh(torch.tensor(cov, dtype=torch.float64))

    def inner(x: Tensor, t: Tensor) -> Prediction:
        alpha, sigma = (c[..., None] for c in process.schedule.alpha_sigma(t.expand(len(x))))
        scale = 1 / (alpha**2 * variances + sigma**2)  # (B, 3)
        inverse = torch.einsum("ij,bj,kj->bik", axes, scale, axes)
        away = x.double() - (alpha * m)[..., None, None]
        score = -torch.einsum("bik,bkhw->bihw", inverse, away)
        return predict_score(score.to(x.dtype), x, t, process)

    return inner


def toy(x: Tensor, label: Tensor) -> Tensor:
    """The recording's stand-in for a network."""
    return 0.5 * x.sin() + 0.001 * label.float().reshape(-1, *(1,) * (x.ndim - 1))


def falling(model: dict[str, Any]) -> Table:
    """NCSN's levels, numbered downwards there and upwards here."""
    ends = model["sigma_end"], model["sigma_begin"]
    if model.get("sigma_dist") == "uniform":
        return from_sigmas(torch.linspace(*ends, model["num_classes"], dtype=torch.float64))
    return from_sigmas(geometric_sigmas(model["num_classes"], *ends))
