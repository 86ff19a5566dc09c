"""Parzen-window log likelihood: how likely test data are under a Gaussian around every sample (Breuleux et al. 2011).

What Sohl-Dickstein et al. 2015 report for MNIST, as the papers that they compare with did. It is a poor estimate in
many dimensions (Theis et al. 2016): a set of training images or of their k-means centres may score above the truth.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def parzen_log_prob(samples: Tensor, data: Tensor, width: float, batch: int = 100) -> Tensor:
    """log of the mean over samples (n, D) of N(x; sample, width^2), nats, for data x (N, D): (N,) float64."""
    if not width > 0:
        raise ValueError(f"the width of a window is above 0, not {width}")
    D, parts = samples.shape[1], []
    for x in data.double().split(batch):
        log = -0.5 * (torch.cdist(x, samples.double()) / width).square()
        parts.append(log.logsumexp(1))
    return torch.cat(parts) - math.log(len(samples)) - D * math.log(width) - D / 2 * math.log(2 * math.pi)


@dataclass(frozen=True)
class Parzen:
    """The mean log likelihood of test data, in nats and as bits, its standard error, and the width that was chosen."""

    nats: float
    standard_error: float
    width: float

    @property
    def bits(self) -> float:
        return self.nats / math.log(2)


WIDTHS = tuple(10 ** (-1.5 + i / 10) for i in range(16))
"""From 0.03 to 1, for pixels in [0, 1]."""


def parzen(samples: Tensor, validation: Tensor, test: Tensor, widths: Sequence[float] = WIDTHS) -> Parzen:
    """Choose the width on validation data, then score the test data; all uint8 (n, C, H, W), in [0, 1] inside.

    Raises: ValueError for images of different shapes, or none.
    """
    sets = [images.flatten(1).double() / 255 for images in (samples, validation, test)]
    if len({s.shape[1] for s in sets}) > 1 or not all(len(s) for s in sets):
        raise ValueError("samples, validation and test images are some each, of one shape")
    best = max(widths, key=lambda width: float(parzen_log_prob(sets[0], sets[1], width).mean()))
    nats = parzen_log_prob(sets[0], sets[2], best)
    return Parzen(float(nats.mean()), float(nats.std() / len(nats) ** 0.5), best)
