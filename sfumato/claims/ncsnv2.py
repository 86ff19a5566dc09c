"""Claims of NCSNv2 (Song & Ermon 2020), with the exact score of a few hundred digits as centres of a mixture."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import all_states, normal, seeded
from sfumato.core.betas import geometric_sigmas
from sfumato.core.exact import GaussianMixture
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import from_sigmas
from sfumato.core.techniques import best_step_size, largest_distance, number_of_levels, overlap, ratio_of_levels
from sfumato.data import open_source
from sfumato.samplers import AnnealedLangevin

LAST, MOVES = 0.1, 5
"""The smallest noise, for images in [0, 1], and the moves at each level."""


def digits(count: int = 300) -> tuple[Tensor, Tensor]:
    """So many 8x8 digits in [0, 1], (count, 64) float64, and what they are."""
    images = open_source("digits")
    assert images.labels is not None
    return images.images[:count].flatten(1).double() / 255, images.labels[:count]


def annealed(first: float, n: int, seed: int = 0) -> Tensor:
    """Annealed Langevin dynamics of n points from one digit with noise `first`, (states, n, 64); techniques 2 and 4."""
    centres, _ = digits()
    D, K = centres.shape[1], len(centres)
    levels = number_of_levels(first, LAST, D)
    size = best_step_size(LAST, (first / LAST) ** (1 / (levels - 1)), MOVES)
    mixture = GaussianMixture(torch.full((K,), 1 / K, dtype=torch.float64), centres, torch.full_like(centres, 1e-3))
    process = GaussianDiffusion(from_sigmas(geometric_sigmas(levels, LAST, first)))
    moves = AnnealedLangevin(size, LAST, MOVES, denoise=False).plan(process, mixture.denoise(process))
    return all_states(centres[:1] + first * normal(seed, n, D), moves, seeded(seed))


def reached(points: Tensor) -> Tensor:
    """How many of the points (n, 64) end nearest to a digit of each class, (10,)."""
    centres, labels = digits()
    return labels[torch.cdist(points, centres).argmin(1)].bincount(minlength=10)


def first_sigma(seed: int, fast: bool) -> Measured:
    """From one digit, how many of the ten can be reached?"""
    n = 40 if fast else 200
    rule = largest_distance(digits()[0])
    values = {"sigma_1 by the rule": rule}
    for name, first in (("0.3", 0.3), ("1", 1.0), ("the rule", rule)):
        values[f"classes reached, sigma_1 = {name}"] = float((reached(annealed(first, n, seed)[-1]) > 0).sum())
    return Measured(values)


def spacing(seed: int, fast: bool) -> Measured:
    """How far may neighbouring levels lie apart? Noise of one level, seen from the next, by drawing it."""
    values = {}
    for D in (64, 784, 3072):
        gamma = ratio_of_levels(D)
        lengths = gamma * normal(seed, 4000, D).norm(dim=1)  # of the noise that arrives, in units of the next level's
        near = (lengths - D**0.5).abs() < 3 * 0.5**0.5 * gamma  # within three deviations of how long noise is
        values[f"D = {D}: ratio of levels"] = gamma
        values[f"D = {D}: drawn overlap minus the formula's"] = float(near.double().mean()) - overlap(gamma, D)
    return Measured(values)


CLAIMS = (
    Claim(
        "ncsnv2/first-sigma",
        "Song & Ermon 2020, section 3.1, proposition 1 and figure 2",
        "With sigma_1 as large as the largest distance between two images, every mode is reached from anywhere.",
        first_sigma,
        {"classes reached, sigma_1 = 0.3": (1, 5), "classes reached, sigma_1 = the rule": (10, 10)},
        seconds=6,
        note="On 8x8 digits sigma_1 = 1 suffices already: the rule is safe, not sharp; it matters more for large sets.",
    ),
    Claim(
        "ncsnv2/spacing",
        "Song & Ermon 2020, section 3.2 and proposition 2",
        "The more dimensions, the closer the levels must lie for noise of one to look like noise of the next.",
        spacing,
        {
            "D = 64: ratio of levels": (1.2, 1.6),
            "D = 3072: ratio of levels": (1.02, 1.1),
            "D = 784: drawn overlap minus the formula's": (-0.05, 0.05),
            "D = 3072: drawn overlap minus the formula's": (-0.05, 0.05),
        },
        seeds=1,
        seconds=0.5,
    ),
)
