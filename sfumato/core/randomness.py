"""Randomness that belongs to an image, not to a batch, a process or a device: every draw follows from a seed and a key.

Batch 1 then equals batch 8, one process equals four, and a resumed run goes on as if it had never stopped. Noise is
drawn on the host and moved, so that every device starts from the same numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.core.distributions import Noise

_MASK = (1 << 64) - 1


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
        self.generators = [torch.Generator().manual_seed(mix(seed, key)) for key in keys]

    def __call__(self, x: Tensor) -> Tensor:
        if len(x) != len(self.generators):
            raise ValueError(f"noise for {len(self.generators)} images was asked for a batch of {len(x)}")
        draws = [torch.randn(x.shape[1:], generator=g, dtype=torch.float32) for g in self.generators]
        return torch.stack(draws).to(x.dtype).to(x.device, non_blocking=True)  # the host goes on drawing


def on_arc(first: Noise, second: Noise, angle: Tensor) -> Noise:
    """cos(angle) first + sin(angle) second: noise for pictures between two others (Song & Ermon 2020, appendix B.3).

    Each chain of an interpolation goes its way with the two ends' noise mixed at its own angle, from 0 to pi / 2.

    Args:
        first, second: the noise of the two ends.
        angle: () or (B, 1, ...).
    """
    return lambda x: angle.cos() * first(x) + angle.sin() * second(x)
