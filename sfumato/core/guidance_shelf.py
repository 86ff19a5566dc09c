"""The guidance shelf: a denoiser pushed away from a weaker one, in many ways; each is Denoise -> Denoise.

`guided` asks both denoisers and hands their predictions to a `Combine`. The weaker one may be the model without its
labels (classifier-free guidance, Ho & Salimans 2022), with the labels of another class (a negative class), or a worse
model of the same data (autoguidance, Karras et al. 2024). Guidance in an interval of levels (Kynkaanniemi et al. 2024),
rescaled (Lin et al. 2023), CFG++ (Chung et al. 2024), adaptive projected (APG, Sadat et al. 2024) and dynamic
thresholding (Saharia et al. 2022).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction

Combine = Callable[[Prediction, Prediction], Prediction]
"""(prediction, that of the weaker denoiser) -> the guided prediction."""


def guided(denoise: Denoise, weaker: Denoise, combine: Combine, low: float = 0.0, high: float = math.inf) -> Denoise:
    """Guidance by a weaker denoiser, only where low < sigma / alpha <= high (Kynkaanniemi et al. 2024).

    Outside the interval the weaker one is not asked, unless levels differ within a batch.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        if low <= 0 and high == math.inf:
            return combine(prediction, weaker(x, t))
        noise = prediction.level.sigma / prediction.level.alpha
        inside = (low < noise) & (noise <= high)
        if inside.ndim == 0:
            return combine(prediction, weaker(x, t)) if inside else prediction
        found = combine(prediction, weaker(x, t))
        return replace(
            found,
            eps=torch.where(inside, found.eps, prediction.eps),
            x0=torch.where(inside, found.x0, prediction.x0),
        )

    return inner


# ---------------------------------------------------------------- ways to combine two predictions


def extrapolated(scale: float | Tensor) -> Combine:
    """Classifier-free guidance and autoguidance: weaker + scale * (prediction - weaker); 1 is none.

    Ho & Salimans 2022, eq. 6, with scale = 1 + w; Karras et al. 2024, eq. 3.
    """

    def combine(prediction: Prediction, weaker: Prediction) -> Prediction:
        return prediction.beyond(weaker, scale)

    return combine


def rescaled(scale: float | Tensor, share: float = 0.7) -> Combine:
    """Rescaled guidance: x0 gets back the deviation of the unguided one, by this share (Lin et al. 2023, section 3.4).

    The deviation is that of one picture, over channels and pixels.
    """
    plain = extrapolated(scale)

    def combine(prediction: Prediction, weaker: Prediction) -> Prediction:
        x0 = plain(prediction, weaker).x0
        ratio = _deviation(prediction.x0) / _deviation(x0).clamp(min=1e-12)
        return prediction.with_x0(share * ratio * x0 + (1 - share) * x0)

    return combine


def _deviation(x: Tensor) -> Tensor:
    return x.flatten(1).std(1).reshape(-1, *(1,) * (x.ndim - 1))


@dataclass(frozen=True)
class Renoised(Prediction):
    """A prediction whose eps stays as it is when x0 is clipped: the two no longer belong together (CFG++)."""

    def with_x0(self, x0: Tensor) -> Prediction:
        return replace(self, x0=x0)


def renoised(scale: float | Tensor) -> Combine:
    """CFG++: x0 between both predictions by a scale in [0, 1], but eps the weaker one's (Chung et al. 2024).

    For DDIM, whose step is alpha_s x0 + sigma_s eps. Solvers that take eps from x and x0 would not see the difference.
    Scale 1 is not the unguided denoiser, since the noise put back is still the weaker one's.
    """

    def combine(prediction: Prediction, weaker: Prediction) -> Prediction:
        values = {f.name: getattr(prediction, f.name) for f in fields(Prediction)}
        x0 = weaker.x0 + scale * (prediction.x0 - weaker.x0)
        return Renoised(**{**values, "x0": x0, "eps": weaker.eps})

    return combine


@dataclass
class Projected:
    """Adaptive projected guidance (APG): what is parallel to the prediction is left out (Sadat et al. 2024, eq. 6-8).

    It holds the running difference of one trajectory; a level above the last one begins another.

    Attributes:
        scale: 1 is none.
        parallel: the share of the parallel part that is kept; 1 is classifier-free guidance.
        momentum: of the difference, negative to push away from where the last steps went.
        norm: the longest difference of a picture, beyond which it is shortened.
    """

    scale: float
    parallel: float = 0.0
    momentum: float = 0.0
    norm: float = math.inf
    _last: Tensor | None = field(default=None, repr=False)
    _noise: float = math.inf

    def __call__(self, prediction: Prediction, weaker: Prediction) -> Prediction:
        difference = self._running(prediction, prediction.x0 - weaker.x0)
        if self.norm < math.inf:
            difference = difference * (self.norm / _norm(difference)).clamp(max=1)
        direction = prediction.x0 / _norm(prediction.x0)
        along = (difference * direction).flatten(1).sum(1).reshape(-1, *(1,) * (direction.ndim - 1)) * direction
        push = difference - along + self.parallel * along
        return prediction.with_x0(prediction.x0 + (self.scale - 1) * push)

    def _running(self, prediction: Prediction, difference: Tensor) -> Tensor:
        """The difference with momentum."""
        if not self.momentum:
            return difference
        noise = float((prediction.level.sigma / prediction.level.alpha).max())
        if self._last is not None and self._last.shape == difference.shape and noise <= self._noise:
            difference = difference + self.momentum * self._last
        self._last, self._noise = difference, noise
        return difference


def _norm(x: Tensor) -> Tensor:
    return x.flatten(1).norm(dim=1).clamp(min=1e-12).reshape(-1, *(1,) * (x.ndim - 1))


# ---------------------------------------------------------------- instead of clipping


def thresholded(
    denoise: Denoise, quantile: float = 0.995, low: float = -1.0, high: float = 1.0, cap: float = 1.5
) -> Denoise:
    """Dynamic thresholding: x0 is clipped at a quantile of its size and shrunk into the range (Saharia et al. 2022).

    Instead of `clipped`, for pictures under strong guidance, which would saturate.

    Args:
        quantile: of |x0| in a picture; where it lies inside the range, nothing is shrunk.
        low, high: the range of the data.
        cap: the largest factor by which a picture is shrunk; without one, noisy levels, whose x0 is far outside, lose
            the black and white that most pictures have.
    """
    middle, half = (low + high) / 2, (high - low) / 2

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        inside = (prediction.x0 - middle) / half
        size = inside.flatten(1).abs().float().quantile(quantile, dim=1).clamp(1, cap).to(inside.dtype)
        size = size.reshape(-1, *(1,) * (x.ndim - 1))
        return prediction.with_x0(middle + half * inside.clamp(-size, size) / size)

    return inner
