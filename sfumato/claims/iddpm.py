"""Claims of Improved DDPM (Nichol & Dhariwal 2021)."""

from __future__ import annotations

import torch

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import cosine, linear, normal, ring, sliced_distance
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import finish
from sfumato.core.variances import fixed_small
from sfumato.samplers import Ancestral


def noise_too_early(seed: int, fast: bool) -> Measured:
    """How many levels have next to no signal left?"""
    levels = torch.arange(1, 1001)
    values = {}
    for name, make in (("linear", linear), ("cosine", cosine)):
        log_snr = make().schedule.log_snr(levels)
        values[f"{name}: share of levels with SNR below 1/100"] = float((log_snr < -4.6).double().mean())
        values[f"{name}: alpha-bar half way"] = float(make().schedule.alpha_sigma(torch.tensor(500))[0] ** 2)
    return Measured(values, {"linear": linear().schedule.log_snr(levels), "cosine": cosine().schedule.log_snr(levels)})


def skipping(seed: int, fast: bool) -> Measured:
    """Start the reverse process at 60 % of the levels, still from standard normal noise: what is lost?"""
    mixture, n = ring(), 1000 if fast else 4000
    real = mixture.sample(n, torch.Generator().manual_seed(1000 + seed))
    values = {}
    for name, make in (("linear", linear), ("cosine", cosine)):
        process: GaussianDiffusion = make()
        denoise, times = mixture.denoise(process), process.schedule.times(200)
        errors = []
        for start in (1000, 600):
            torch.manual_seed(seed)
            moves = Ancestral(fixed_small).moves(process, denoise, times[times <= start])
            end = finish(normal(seed, n, 2), moves)
            errors.append(sliced_distance(end, real))
        values[f"{name}: distance to data"] = errors[0]
        values[f"{name}: skipping 40 % adds"] = errors[1] - errors[0]
    return Measured(values)


def variances(seed: int, fast: bool) -> Measured:
    """How far apart are the two fixed variances, beta and beta tilde, along the chain?"""
    process = linear()

    def ratio(t: int) -> float:
        here = torch.tensor(t)
        low, high = process.posterior_coefficients(here, here - 1)[2], process.between(here - 1, here).sigma
        return float((low / high) ** 2)

    return Measured({f"beta tilde over beta at level {t} of 1000": ratio(t) for t in (2, 5, 20, 100, 500)})


CLAIMS = (
    Claim(
        "iddpm/noise-too-early",
        "Nichol & Dhariwal 2021, section 3.2 and figure 5",
        "The linear schedule destroys the signal too early; the cosine schedule falls evenly.",
        noise_too_early,
        {
            "linear: share of levels with SNR below 1/100": (0.3, 0.5),
            "cosine: share of levels with SNR below 1/100": (0.02, 0.1),
        },
        seeds=1,
        seconds=0.1,
    ),
    Claim(
        "iddpm/skipping",
        "Nichol & Dhariwal 2021, section 3.2 and figure 4",
        "Much of the linear schedule's way back can be skipped at little cost, but not of the cosine schedule's.",
        skipping,
        {"linear: skipping 40 % adds": (-0.02, 0.02), "cosine: skipping 40 % adds": (0.02, 10)},
        seeds=5,
        seconds=2,
        holds=False,
        note="Neither loses anything here: a ring in the plane, of unit variance, looks like noise as soon as it is "
        "blurred, so noise is a good start at any level. Pictures have far larger features.",
    ),
    Claim(
        "iddpm/variances-agree",
        "Nichol & Dhariwal 2021, section 3.1 and figure 1",
        "The choice between the two fixed variances matters at the first levels only.",
        variances,
        {
            "beta tilde over beta at level 2 of 1000": (0.2, 0.6),
            "beta tilde over beta at level 100 of 1000": (0.95, 1.0),
        },
        seeds=1,
        seconds=0.1,
        note="They are the more important for the likelihood, most of which the first levels decide.",
    ),
)
