"""Power-function averages of weights, chosen after training (Karras et al. 2024, EDM2, section 3 and appendix C).

An average over t images weighs the weights at time tau in [0, t] by p(tau) = (gamma + 1) tau^gamma / t^(gamma + 1), so
that the profile p stretches with the run. Its length sigma_rel is the standard deviation of tau in units of t.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

LONGEST = 0.28
"""The largest length sigma_rel; a profile that does not fall towards the past (gamma = 0) has 0.2887."""


class Profile(NamedTuple):
    """The average of length sigma_rel after t images."""

    t: float
    sigma_rel: float


def sigma_rel(gamma: float) -> float:
    """The relative length of a power-function EMA profile: its standard deviation in units of the time that it ends."""
    return math.sqrt((gamma + 1) / ((gamma + 2) ** 2 * (gamma + 3)))


def gamma(length: float) -> float:
    """The power gamma of the EMA profile of relative length sigma_rel in (0, 0.28].

    The largest real root of gamma^3 + 7 gamma^2 + (16 - s) gamma + (12 - s), s = sigma_rel^-2. ValueError outside.
    """
    if not 0 < length <= LONGEST:
        raise ValueError(f"a length sigma_rel is above 0 and at most {LONGEST}, not {length:g}")
    s = length**-2
    companion = torch.tensor([[-7.0, s - 16, s - 12], [1, 0, 0], [0, 1, 0]], dtype=torch.float64)
    root = float(torch.linalg.eigvals(companion).real.max())
    for _ in range(3):  # by Newton's rule to the last digit
        value = ((root + 7) * root + 16 - s) * root + 12 - s
        root -= value / ((3 * root + 14) * root + 16 - s)
    return root


def decay(power: float, before: float, after: float) -> float:
    """The EMA decay beta of an update that goes from `before` to `after` images seen: (before / after)^(gamma + 1).

    The first, from 0, copies the weights.
    """
    return (before / after) ** (power + 1)


def inner_products(a: Sequence[Profile], b: Sequence[Profile]) -> Tensor:
    """The inner products of power-function profiles, the integral of p_a p_b over time; (len(a), len(b)) float64."""
    t_a, g_a = (column[:, None] for column in _columns(a))
    t_b, g_b = _columns(b)
    ratio = (torch.log(t_a) - torch.log(t_b)) * torch.where(t_a < t_b, g_b, -g_a)
    return (g_a + 1) * (g_b + 1) * torch.exp(ratio) / ((g_a + g_b + 1) * torch.maximum(t_a, t_b))


def coefficients(stored: Sequence[Profile], wanted: Profile) -> Tensor:
    """The least-squares coefficients by which stored averages give another: post-hoc EMA reconstruction.

    They sum to 1, float64, one for each stored average; of one that is wanted itself, it alone is taken.

    Raises: ValueError where nothing is stored up to that time.
    """
    if wanted in stored:
        return torch.eye(len(stored), dtype=torch.float64)[list(stored).index(wanted)]
    known = [profile for profile in stored if profile.t <= wanted.t]
    if not known:
        raise ValueError(f"no average is stored up to {wanted.t:,.0f} images")
    scale = inner_products(known, known).diagonal().rsqrt()  # profiles of unit length: a better condition
    gram = inner_products(known, known) * scale * scale[:, None]
    sought = inner_products(known, [wanted])[:, 0] * scale
    found = torch.linalg.lstsq(gram, sought[:, None], driver="gelsd").solution[:, 0] * scale
    found = found / found.sum()
    every = torch.zeros(len(stored), dtype=torch.float64)
    every[torch.tensor([profile.t <= wanted.t for profile in stored])] = found
    return every


def density(profile: Profile, tau: Tensor) -> Tensor:
    """The EMA profile p(tau) of times tau in images: 0 after its end, and of integral 1."""
    power = gamma(profile.sigma_rel)
    share = (tau / profile.t).clamp(max=1)
    return torch.where(tau <= profile.t, (power + 1) / profile.t * share**power, 0.0)


def rebuilt_error(stored: Sequence[Profile], wanted: Profile, points: int = 20_000) -> float:
    """The L1 error of a reconstructed EMA profile: the integral of |sum_i x_i p_i - p|, between 0 and about 2."""
    tau = (torch.arange(points, dtype=torch.float64) + 0.5) * wanted.t / points
    made = torch.zeros_like(tau)
    for share, profile in zip(coefficients(stored, wanted).tolist(), stored, strict=True):
        if share:
            made += share * density(profile, tau)
    return float((made - density(wanted, tau)).abs().sum() * wanted.t / points)


def _columns(profiles: Sequence[Profile]) -> tuple[Tensor, Tensor]:
    """Times and powers, float64."""
    times = [profile.t for profile in profiles]
    powers = {profile.sigma_rel: gamma(profile.sigma_rel) for profile in profiles}
    return (torch.tensor(times, dtype=torch.float64),
            torch.tensor([powers[profile.sigma_rel] for profile in profiles], dtype=torch.float64))  # fmt: skip
