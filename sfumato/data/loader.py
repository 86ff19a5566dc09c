"""In which order training sees the images, and how bytes become numbers and come back.

Everything follows from a seed and a global image counter, so a resumed run and any number of processes agree.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

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


@lru_cache(maxsize=4)
def _permutation(n: int, seed: int, epoch: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed % 2**64, epoch])).permutation(n)


def to_float(images: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1]: x / 127.5 - 1 (Ho et al. 2020, section 3.3). Points are there already."""
    return images.float() if images.is_floating_point() else images.float() / 127.5 - 1


def to_uint8(x: Tensor) -> Tensor:
    """[-1, 1] -> uint8, to the nearest of 256 levels; values outside are clamped, NaN becomes 0."""
    return ((x.float() + 1) * 127.5).nan_to_num(0).round().clamp(0, 255).to(torch.uint8)


def flip(images: Tensor, mask: Tensor) -> Tensor:
    """Mirror left and right the images (B, C, H, W) whose mask (B,) is true."""
    return torch.where(mask.to(images.device)[:, None, None, None], images.flip(-1), images)
