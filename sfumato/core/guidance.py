"""Wrappers that change what a denoiser believes: Denoise -> Denoise. A sampler needs no flag for any of them."""

from __future__ import annotations

from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction


def clipped(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Hold x0 inside the range of the data, and eps with it (Ho et al. 2020, official code)."""

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        return prediction.with_x0(prediction.x0.clamp(low, high))

    return inner
