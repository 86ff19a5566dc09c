"""Claims of DDIM (Song et al. 2020), with the exact denoiser of a mixture in the plane."""

from __future__ import annotations

import torch

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import linear, normal, ring, sliced_distance
from sfumato.core.sampling import finish
from sfumato.samplers import DDIM
from sfumato.samplers.ddim import encoding

FEW = (5, 10, 20, 50)


def consistency(seed: int, fast: bool) -> Measured:
    """The same noise, decoded in k steps and in 100: how far apart?"""
    process, n = linear(), 200 if fast else 1000
    denoise, x = ring().denoise(process), normal(seed, n, 2)
    ends: dict[tuple[float, int], torch.Tensor] = {}
    for eta in (0.0, 1.0):
        for k in (*FEW, 100):
            torch.manual_seed(seed)
            ends[eta, k] = finish(x, DDIM(eta).plan(process, denoise, k))
    apart = {(eta, k): float((ends[eta, k] - ends[eta, 100]).norm(dim=1).mean()) for eta in (0.0, 1.0) for k in FEW}
    values = {f"eta {eta:g}: distance of {k} steps to 100": d for (eta, k), d in apart.items()}
    return Measured(values, {"ends": ends, "noise": x})


def inversion(seed: int, fast: bool) -> Measured:
    """Encode data to noise and decode them in as many steps: how well do they come back?"""
    mixture, process = ring(), linear()
    denoise = mixture.denoise(process)
    x0 = mixture.sample(200 if fast else 1000, torch.Generator().manual_seed(seed))
    values = {}
    for k in (5, 10, 20, 50, 100):
        latent = finish(x0, encoding(process, denoise, k))
        back = finish(latent, DDIM().plan(process, denoise, k))
        values[f"mean squared error, {k} steps"] = float((back - x0).square().sum(1).mean())
    values["error of 5 steps over that of 100"] = (
        values["mean squared error, 5 steps"] / values["mean squared error, 100 steps"]
    )
    return Measured(values)


def few_steps(seed: int, fast: bool) -> Measured:
    """In how few steps is eta 0 nearer to the data than eta 1?"""
    mixture, process, n = ring(), linear(), 2000 if fast else 4000
    denoise, x = mixture.denoise(process), normal(seed, n, 2)
    real = mixture.sample(n, torch.Generator().manual_seed(1000 + seed))
    values = {}
    for k in (5, 10, 20):
        near = []
        for eta in (0.0, 1.0):
            torch.manual_seed(seed)
            near.append(sliced_distance(finish(x, DDIM(eta).plan(process, denoise, k)), real))
            values[f"{k} steps, eta {eta:g}: distance to data"] = near[-1]
        values[f"{k} steps: eta 1 minus eta 0"] = near[1] - near[0]
    return Measured(values)


CLAIMS = (
    Claim(
        "ddim/consistency",
        "Song et al. 2020, section 5.2 and figure 5",
        "With eta 0 the picture depends on the noise alone, not on the number of steps; with eta 1 it does not.",
        consistency,
        {
            "eta 0: distance of 50 steps to 100": (0, 0.1),
            "eta 0: distance of 20 steps to 100": (0, 0.3),
            "eta 1: distance of 50 steps to 100": (0.8, 2.0),
        },
        seconds=1,
    ),
    Claim(
        "ddim/inversion",
        "Song et al. 2020, section 5.4 and table 2",
        "Run towards noise, DDIM encodes: the error of reconstruction falls towards 0 with more steps.",
        inversion,
        {"mean squared error, 100 steps": (0, 1e-2), "error of 5 steps over that of 100": (20, 1e6)},
        seconds=1,
    ),
    Claim(
        "ddim/few-steps",
        "Song et al. 2020, section 5.1 and table 1: in few steps eta 0 makes the better pictures",
        "In very few steps, samples of eta 0 lie nearer to the data than those of eta 1.",
        few_steps,
        {"5 steps: eta 1 minus eta 0": (0.005, 1), "10 steps: eta 1 minus eta 0": (0.002, 1)},
        seconds=1,
        note="By 20 steps the difference is gone in the plane; on pictures (table 1) it lasts to 100.",
    ),
)
