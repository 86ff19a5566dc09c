"""What a sampler ends with, as pictures: decoded by the model's space, and rounded to the grey levels of its data."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.data.loader import to_pixels
from sfumato.spaces import Space


def decoded(space: Space, x: Tensor) -> Tensor:
    """What a sampler ends with -> images (n, C, H, W) in [-1, 1]."""
    with torch.inference_mode():
        return space.decode(x)


def as_pictures(x: Tensor, levels: int = 256) -> Tensor:
    """What a sampler ends with, (n, C, H, W) in [-1, 1], on the host as the nearest of so many grey levels.

    uint8 of 256, uint16 of 65536; where they are 0, real numbers, float32 in [-1, 1] (the `values` of the space).

    Raises: ValueError where it is nan or infinite, which as pixels would look like any picture.
    """
    if not bool(x.isfinite().all()):
        raise ValueError(
            f"{int((~x.isfinite()).flatten(1).any(1).sum())} of {len(x)} pictures came out as nan or infinity: too few "
            "steps for this sampler, guidance that is too strong, or damaged weights"
        )
    return to_pixels(x, levels).cpu()
