"""How to choose noise levels and step sizes for annealed Langevin dynamics: the rules of NCSNv2 as functions.

Techniques 1, 2 and 4 of Song & Ermon 2020 (propositions 1 to 3, sections 3.1, 3.2 and 3.4); each is about the data set,
its dimension D and the moves that one can afford, and none about the network.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def largest_distance(images: Tensor, limit: int = 5000) -> float:
    """Technique 1: sigma_1 is the largest distance between two images (N, ...).

    At most `limit` of them, spread over the set, are compared, all with all.
    """
    count = min(limit, len(images))
    if count < 2:
        raise ValueError("a distance is between two images; the data set has fewer")
    some = images[torch.arange(count) * len(images) // count].flatten(1).float()
    return max(float(torch.cdist(part, some).max()) for part in some.split(256))


def overlap(gamma: float, D: int) -> float:
    """How much of a level's noise in D dimensions the next one covers, gamma times as large (proposition 2)."""
    shift, reach = math.sqrt(2 * D) * (gamma - 1), 3 * gamma

    def normal_cdf(x: float) -> float:
        return 0.5 * math.erfc(-x / math.sqrt(2))

    return normal_cdf(shift + reach) - normal_cdf(shift - reach)


def ratio_of_levels(D: int, wanted: float = 0.5) -> float:
    """Technique 2: the ratio gamma of neighbouring levels whose `overlap` is 0.5, by bisection."""
    low, high = 1.0, 2.0
    while overlap(high, D) > wanted:
        high *= 2
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if overlap(middle, D) > wanted else (low, middle)
    return (low + high) / 2


def number_of_levels(first: float, last: float, D: int) -> int:
    """Technique 2: so many levels from first to last have neighbours with that ratio."""
    return max(2, 1 + round(math.log(first / last) / math.log(ratio_of_levels(D))))


def variance_ratio(r: float, gamma: float, moves: int) -> float:
    """The variance of the noise after so many Langevin steps, over the level's own: it should be 1 (proposition 3).

    Args:
        r: the step size epsilon over the square of the smallest sigma.
        gamma: the ratio of neighbouring levels; the noise arrives gamma times too large.
        moves: steps a level.
    """
    kept, limit = (1 - r) ** (2 * moves), 2 / (2 - r)
    return kept * (gamma**2 - limit) + limit


def best_step_size(last: float, gamma: float, moves: int) -> float:
    """Technique 4: the epsilon whose `variance_ratio` is nearest to 1 for the moves that one can afford at a level."""
    sizes = torch.logspace(-5, 0, 50_001, dtype=torch.float64)[:-1].tolist()
    return min(sizes, key=lambda r: abs(variance_ratio(r, gamma, moves) - 1)) * last**2
