"""Two sets that are made: signals of one dimension whose covariance is known, and clips of digits that move and bounce.

The signals are sums of damped sines, x(t) = sum_k a_k exp(-d_k t) sin(2 pi f_k t + phase_k) with uniform amplitudes,
dampings, frequencies and phases, so that their covariance has a closed form. The clips are made as Moving MNIST is
(Srivastava, Mansimov & Salakhutdinov 2015), of one digit each.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

LENGTH = 128
"""Numbers of a signal."""
SINES = 2
"""Damped sines of a signal."""
AMPLITUDE, FREQUENCY, DAMPING = (0.2, 0.5), (1 / 32, 1 / 8), (0.0, 4 / LENGTH)
"""From and to; frequencies in periods, and dampings in nepers, a sample."""

FRAMES, SIDE = 8, 16
"""Of a clip."""
SPEEDS = (-2, -1, 1, 2)
"""Pixels a frame, along each axis."""


def signals(n: int, seed: int = 0) -> Tensor:
    """n signals, float32 (n, 1, 128) in [-1, 1]: sums of two damped sines."""
    bits = np.random.Generator(np.random.Philox(key=seed))
    size = (n, SINES, 1)
    amplitude, frequency, damping = (bits.uniform(*bounds, size) for bounds in (AMPLITUDE, FREQUENCY, DAMPING))
    t = np.arange(LENGTH)
    waves = amplitude * np.exp(-damping * t) * np.sin(2 * np.pi * (frequency * t + bits.uniform(0, 1, size)))
    return torch.from_numpy(waves.sum(1).astype(np.float32))[:, None]


def covariance() -> Tensor:
    """E[x(s) x(t)] of the signals, float64 (128, 128); their mean is 0.

    By uniform phases it is the number of sines times E[a^2] / 2 times E[exp(-d (s + t))] E[cos(2 pi f (s - t))], each
    an integral over a uniform number.
    """
    t = np.arange(LENGTH, dtype=np.float64)
    (a, b), (low, high), (least, most) = AMPLITUDE, FREQUENCY, DAMPING
    power = SINES * (b**3 - a**3) / (3 * (b - a)) / 2
    total, lag = t[:, None] + t, 2 * np.pi * (t[:, None] - t)
    with np.errstate(invalid="ignore"):
        damped = (np.exp(-least * total) - np.exp(-most * total)) / (total * (most - least))
        turned = (np.sin(high * lag) - np.sin(low * lag)) / (lag * (high - low))
    damped[total == 0] = turned[lag == 0] = 1
    return torch.from_numpy(power * damped * turned)


def moving(digits: Tensor, labels: Tensor, n: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """n clips of one digit each that moves straight and bounces off the edges, and their labels.

    Args:
        digits: uint8 (N, 1, h, w), smaller than a frame; labels: (N,).

    Returns: uint8 (n, 1, 8, 16, 16), int64 (n,).
    """
    bits = np.random.Generator(np.random.Philox(key=seed))
    chosen = torch.from_numpy(bits.integers(len(digits), size=n))
    height, width = digits.shape[2:]
    clips = torch.zeros(n, 1, FRAMES, SIDE, SIDE, dtype=torch.uint8)
    corners = [_bouncing(bits, SIDE - side, n) for side in (height, width)]
    for clip, digit, tops, lefts in zip(clips, digits[chosen], *corners, strict=True):
        for frame, (top, left) in enumerate(zip(tops, lefts, strict=True)):
            clip[:, frame, top : top + height, left : left + width] = digit
    return clips, labels[chosen]


def _bouncing(bits: np.random.Generator, reach: int, n: int) -> list[list[int]]:
    """Places from 0 to `reach` in every frame, of n things that move with a constant speed and turn at both ends."""
    start, speed = bits.integers(2 * reach, size=(n, 1)), bits.choice(SPEEDS, size=(n, 1))
    way = (start + speed * np.arange(FRAMES)) % (2 * reach)
    places: list[list[int]] = np.minimum(way, 2 * reach - way).tolist()
    return places
