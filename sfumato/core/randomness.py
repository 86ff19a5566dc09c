"""Randomness that belongs to an image, not to a batch, a process or a device: every draw follows from a seed and a key.

Batch 1 then equals batch 8, one process equals four, and a resumed run goes on as if it had never stopped. Noise is
drawn on the host and moved, so that every device starts from the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from sfumato.core.distributions import Noise

_MASK = (1 << 64) - 1
_PATH = 0x42726F776E  # apart from the sequence of draws of the same image


def mix(*numbers: int) -> int:
    """One well-mixed 63-bit integer from several integers (the finaliser of splitmix64, chained)."""
    state = 0
    for number in numbers:
        state = (state ^ (number & _MASK)) + 0x9E3779B97F4A7C15 & _MASK
        state = (state ^ state >> 30) * 0xBF58476D1CE4E5B9 & _MASK
        state = (state ^ state >> 27) * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state >> 1


def uniforms(seed: int, keys: Sequence[int]) -> Tensor:
    """A uniform number in [0, 1) for each key, (len(keys),) float64: the same for a key in whatever company."""
    return torch.tensor([(mix(seed, key) >> 10) * 2.0**-53 for key in keys], dtype=torch.float64)


class ImageNoise:
    """Standard normal noise with one generator an image: a `Noise` for batches of exactly these images.

    Args:
        seed: of the whole run.
        keys: one integer an image, (B,). The same (seed, key) gives the same sequence of draws.
    """

    def __init__(self, seed: int, keys: Sequence[int]) -> None:
        self.seed, self.keys = seed, keys
        self.generators = [torch.Generator().manual_seed(mix(seed, key)) for key in keys]

    def __call__(self, x: Tensor) -> Tensor:
        _check(x, len(self.generators))
        draws = [torch.randn(x.shape[1:], generator=g, dtype=torch.float32) for g in self.generators]
        return torch.stack(draws).to(x.dtype).to(x.device, non_blocking=True)  # the host goes on drawing

    @cached_property
    def paths(self) -> BrownianPaths:
        """The Brownian paths of the same images, which no draw changes and which change no draw."""
        return BrownianPaths(self.seed, self.keys)


class Moment(NamedTuple):
    """A time (1 + part / 2^DEPTH) 2^octave of a Brownian path."""

    octave: int
    part: int

    @property
    def time(self) -> float:
        """As a number."""
        return math.ldexp(1 + self.part * 2.0**-DEPTH, self.octave)

    @classmethod
    def near(cls, time: float) -> Moment:
        """The nearest to a time, which may be 0 or infinite."""
        mantissa, exponent = math.frexp(min(max(time, EARLIEST), LATEST))
        part = round((2 * mantissa - 1) * 2**DEPTH)
        return cls(exponent, 0) if part == 2**DEPTH else cls(exponent - 1, part)


DEPTH = 20
"""How often an octave of time is halved."""
EARLIEST, LATEST = 2.0**-64, 2.0**64
"""Between them lie the times of a Brownian path."""


class BrownianPaths:
    """Brownian motion (a Wiener process), one path an image: noise that belongs to an interval of time, not to a step.

    An octave of time [2^k, 2^(k + 1)) has an increment, and is halved by Levy's construction: the middle is normal
    about the mean of both ends, with a quarter of the interval's length as its variance. Every draw follows from
    (seed, key, cell), so that any two grids of times see the same path.

    Args:
        seed: of the whole run.
        keys: one integer an image, (B,).
    """

    def __init__(self, seed: int, keys: Sequence[int]) -> None:
        self.seeds = [mix(seed, _PATH, key) for key in keys]
        self._generator = torch.Generator()
        self._newest: tuple[Moment, Tensor] | None = None

    def increment(self, x: Tensor, start: float, end: float) -> Tensor:
        """The increment of each path over [start, end], over the root of its length: standard normal noise like x.

        Times are rounded to a millionth; 0 where the interval then is empty. ValueError for another batch.
        """
        _check(x, len(self.seeds))
        shape, a, b = x.shape[1:], Moment.near(start), Moment.near(end)
        if a.time >= b.time:
            return torch.zeros_like(x)
        whole = [self._octave(k, shape) for k in range(a.octave, b.octave)]
        since = sum(whole, -self._since(a, shape)) + self._since(b, shape)
        return (since / math.sqrt(b.time - a.time)).to(x.dtype).to(x.device, non_blocking=True)

    def _octave(self, k: int, shape: torch.Size) -> Tensor:
        """The increment over an octave, (B, ...) float64."""
        return math.ldexp(1.0, k) ** 0.5 * self._draws(shape, k, 0, 0)

    def _since(self, moment: Moment, shape: torch.Size) -> Tensor:
        """The increment from the start of its octave to a moment, (B, ...) float64."""
        known = self._newest
        if known is not None and known[0] == moment and known[1].shape[1:] == shape:
            return known[1]
        low, high = torch.zeros(len(self.seeds), *shape, dtype=torch.float64), self._octave(moment.octave, shape)
        length, cell = math.ldexp(1.0, moment.octave), 0
        for depth in range(1, DEPTH + 1):
            rest = moment.part - (cell << DEPTH + 1 - depth)
            if rest == 0:
                break
            middle = (low + high) / 2 + math.sqrt(length) / 2 * self._draws(shape, moment.octave, depth, cell)
            above = rest >= 1 << DEPTH - depth
            low, high = (middle, high) if above else (low, middle)
            length, cell = length / 2, 2 * cell + above
        self._newest = moment, low
        return low

    def _draws(self, shape: torch.Size, *cell: int) -> Tensor:
        """Standard normal numbers of a cell, (B, ...) float64."""
        made = [
            torch.randn(shape, generator=self._generator.manual_seed(mix(seed, *cell)), dtype=torch.float64)
            for seed in self.seeds
        ]
        return torch.stack(made)


def _check(x: Tensor, images: int) -> None:
    if len(x) != images:
        raise ValueError(f"noise for {images} images was asked for a batch of {len(x)}")


def on_arc(first: Noise, second: Noise, angle: Tensor) -> Noise:
    """cos(angle) first + sin(angle) second: noise for pictures between two others (Song & Ermon 2020, appendix B.3).

    Each chain of an interpolation goes its way with the two ends' noise mixed at its own angle, from 0 to pi / 2.

    Args:
        first, second: the noise of the two ends.
        angle: () or (B, 1, ...).
    """
    return lambda x: angle.cos() * first(x) + angle.sin() * second(x)
