"""In which order training sees the images, and how bytes become numbers and come back.

Everything follows from a seed and a global image counter, so a resumed run and any number of processes agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True)
class Order:
    """A fresh permutation of n images each epoch: the image counter k, over all epochs -> the index of an image."""

    n: int
    seed: int = 0

    def batch(self, start: int, size: int) -> Tensor:
        """Indices (size,) int64 for the counters start, ..., start + size - 1."""
        parts, counter = [], start
        while counter < start + size:
            epoch, offset = divmod(counter, self.n)
            part = _permutation(self.n, self.seed, epoch)[offset : offset + start + size - counter]
            parts.append(part)
            counter += len(part)
        return torch.from_numpy(np.concatenate(parts)) if parts else torch.empty(0, dtype=torch.long)


@dataclass(frozen=True)
class Turns:
    """Which bucket each training step takes its batch from (aspect-ratio bucketing): a function of the step alone.

    In as many steps as there are images, each bucket has one for each of its images, evenly spread, so that the epochs
    of all buckets end within a step of each other.

    Args:
        sizes: images of each bucket.
    """

    sizes: tuple[int, ...]

    def at(self, step: int) -> tuple[int, int]:
        """The bucket of a step, and how many steps had it before."""
        if len(self.sizes) == 1:
            return 0, step
        buckets, before = _turns(self.sizes)
        cycle, place = divmod(step, len(buckets))
        bucket = int(buckets[place])
        return bucket, cycle * self.sizes[bucket] + int(before[place])


@lru_cache(maxsize=4)
def _turns(sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The buckets of a cycle, and how many places before each had the same."""
    buckets = np.concatenate([np.full(n, i) for i, n in enumerate(sizes)])
    before = np.concatenate([np.arange(n) for n in sizes])
    order = np.lexsort((buckets, (before + 0.5) / np.asarray(sizes)[buckets]))
    return buckets[order], before[order]


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch])).permutation(n)


def to_float(images: Tensor) -> Tensor:
    """uint8 or uint16 -> float32 in [-1, 1]: x / 127.5 - 1 (Ho et al. 2020, section 3.3), or x / 32767.5 - 1.

    Real numbers, such as points, are there already.
    """
    if images.is_floating_point():
        return images.float()
    return images.float() / (127.5 if images.dtype == torch.uint8 else 32767.5) - 1


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> uint8, to the nearest of 256 levels; values outside are clamped, NaN becomes 0."""
    return ((x.float() + 1) * 127.5).nan_to_num(0).round().clamp(0, 255).to(torch.uint8)


def to_pixels(x: Tensor, levels: int) -> Tensor:
    """[-1, 1] -> the nearest of so many grey levels, uint8 or uint16; float32 as it is where they are 0.

    Values outside of the levels are clamped, NaN becomes 0.
    """
    if levels == 256:
        return to_uint8(x)
    if not levels:
        return x.float()
    return ((x.float() + 1) * 32767.5).nan_to_num(0).round().clamp(0, 65535).to(torch.int32).to(torch.uint16)


def levels_of(images: Tensor) -> Literal[0, 256, 65536]:
    """Grey levels of pixels: 256 of uint8, 65536 of uint16; 0 of real numbers."""
    if images.is_floating_point():
        return 0
    return 256 if images.dtype == torch.uint8 else 65536


def eight_bits(images: Tensor, window: tuple[float, float] | None = None) -> Tensor:
    """Pixels of any depth as uint8, to be looked at; 8-bit ones as they are.

    Args:
        window: of deeper pixels, the part of the range from black, 0, to white, 1, that is shown; all of it where None.
    """
    if images.dtype == torch.uint8:
        return images
    if window is None:
        return to_uint8(to_float(images))
    low, high = window
    return to_uint8(((to_float(images) + 1) / 2 - low) * (2 / (high - low)) - 1)


def flip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirror left and right the images (B, C, H, W), or clips, whose mask (B,) is true."""
    return torch.where(mask.to(images.device).reshape(-1, *(1,) * (images.ndim - 1)), images.flip(-1), images)
