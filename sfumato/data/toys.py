"""The toys of 2015: a swiss roll, a binary heartbeat and dead leaves, each made anew from a seed.

Sohl-Dickstein et al. 2015, section 3.1 and figures 1, 2 and 4. They give no noise for the roll and little for the
leaves; what is chosen here is said at the line.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BEATS, PERIOD = 20, 5

HEARTBEATS = (torch.arange(BEATS) % PERIOD == torch.arange(PERIOD)[:, None]).to(torch.uint8)
"""(5, 20): every fifth bit is 1, and the five phases are alike: -log2 5 = -2.322 bits a sequence."""


def heartbeats(n: int, seed: int = 0) -> Tensor:
    """n sequences, uint8 (n, 1, 1, 20) of 0 and 255: pictures of one row."""
    bits = np.random.Generator(np.random.Philox(key=seed))
    return 255 * HEARTBEATS[torch.from_numpy(bits.integers(PERIOD, size=n))][:, None, None]


def heartbeat_null() -> float:
    """L_null, bits a sequence: independent bits, each 1 with probability 1/5 (paper, table 1: implied -14.438)."""
    p = 1 / PERIOD
    return BEATS * (p * math.log2(p) + (1 - p) * math.log2(1 - p))


ROLL_FROM, ROLL_TO = 1.5 * math.pi, 4.5 * math.pi
ROLL_CENTRE = np.array([2, 2 / (3 * math.pi)])
"""The mean of (r cos r, r sin r)."""
ROLL_SCALE = 15.0
"""The outer end of the roll, 4.5 pi = 14.1, lies inside [-1, 1] at this scale."""


def swiss_roll(n: int, seed: int = 0, noise: float = 0.0) -> Tensor:
    """n points, float32 (n, 1, 1, 2) in [-1, 1]: (r cos r, r sin r), r uniform from 1.5 pi to 4.5 pi, centred, over 15.

    Args:
        noise: a standard deviation, in units of the unscaled roll. The paper names none: the roll is a curve.
    """
    bits = np.random.Generator(np.random.Philox(key=seed))
    points = along_roll(bits.random(n)) + noise / ROLL_SCALE * bits.standard_normal((n, 2))
    return torch.from_numpy(points.astype(np.float32))[:, None, None]


def along_roll(share: np.ndarray) -> np.ndarray:
    """The points (n, 2) at these shares (n,) of the roll, from its inner end, 0, to its outer, 1."""
    r = ROLL_FROM + (ROLL_TO - ROLL_FROM) * share
    points: np.ndarray = (np.stack([r * np.cos(r), r * np.sin(r)], axis=1) - ROLL_CENTRE) / ROLL_SCALE
    return points


# ---------------------------------------------------------------- dead leaves


@dataclass(frozen=True)
class DeadLeaves:
    """Opaque discs that cover each other, with radii of density r^-3: pictures that look alike at every scale.

    Lee, Mumford & Huang 2001; the paper trains on samples of their model. The power law makes neighbouring pixels
    correlate over all distances; it is cut at both ends, or the discs would be infinitely many or large.

    Attributes:
        side: of the picture, in pixels.
        smallest: radius, in pixels.
        largest: radius, as a share of the side.
    """

    side: int = 32
    smallest: float = 1.0
    largest: float = 2.0

    def __post_init__(self) -> None:
        if self.side < 2 or not 0 < self.smallest < self.largest * self.side:
            raise ValueError("dead leaves need a side of 2 pixels or more and radii that grow from smallest to largest")

    def radii(self, u: np.ndarray) -> np.ndarray:
        """Uniform numbers -> radii of density proportional to r^-3 between the cuts, by the inverse distribution."""
        low, high = self.smallest**-2, (self.largest * self.side) ** -2
        return (low - u * (low - high)) ** -0.5

    def picture(self, bits: np.random.Generator) -> np.ndarray:
        """One picture, uint8 (side, side): leaves from the top downwards until every pixel is covered."""
        side, reach = self.side, self.largest * self.side
        rows, columns = np.mgrid[:side, :side] + 0.5
        rows, columns = rows.reshape(-1), columns.reshape(-1)
        picture = np.zeros(side * side, np.uint8)
        open_ = np.arange(side * side)  # the pixels that no leaf covers yet
        while len(open_):
            radius = self.radii(bits.random(256))
            # centres over the window and as far outside as the largest disc reaches: every disc that meets it counts
            centre = bits.random((256, 2)) * (side + 2 * reach) - reach
            grey = bits.integers(256, size=256)
            inside = (rows[open_] - centre[:, :1]) ** 2 + (columns[open_] - centre[:, 1:]) ** 2 < radius[:, None] ** 2
            covered = inside.any(0)
            picture[open_[covered]] = grey[inside.argmax(0)[covered]]  # the uppermost
            open_ = open_[~covered]
        return picture.reshape(side, side)

    def __call__(self, n: int, seed: int = 0) -> Tensor:
        """n pictures, uint8 (n, 1, side, side); picture i follows from (seed, i)."""
        key = [(seed, i) for i in range(n)]
        made = [self.picture(np.random.Generator(np.random.Philox(key=np.array(k, np.uint64)))) for k in key]
        return torch.from_numpy(np.stack(made))[:, None]
