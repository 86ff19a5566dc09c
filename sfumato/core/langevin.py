"""Langevin dynamics: kernels that stay at a level and follow the score with noise.

Annealed Langevin dynamics (Song & Ermon 2019, algorithm 1) and the correctors of Song et al. 2021 (algorithms 4 and 5),
whose step depends on the noise that is drawn.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.schedules import like
from sfumato.core.sde import Step

Size = Callable[[Prediction, Tensor], Tensor]
"""(prediction at x_t, t) -> the size d of a Langevin step x + d score + sqrt(2 d) noise; the papers' alpha is 2 d."""

Kept = Callable[[Tensor], Tensor]
"""t -> how much variance the forward step into t keeps, by which a corrector's step shrinks: 1 for VE."""


def whole(t: Tensor) -> Tensor:
    """1: variance-exploding steps keep everything."""
    return torch.ones_like(t, dtype=torch.float64)


def kept(step: Step) -> Kept:
    """alpha^2 of a published step, which for the VP SDE is 1 - beta (algorithm 5)."""
    return lambda t: step(t, t).alpha ** 2


def constant(size: float) -> Size:
    """The same size everywhere: plain Langevin dynamics."""
    return lambda prediction, t: torch.tensor(size, dtype=torch.float64)


def annealed(eps: float, last: float) -> Size:
    """eps (sigma / last)^2, with last the smallest sigma (Song & Ermon 2019, algorithm 1).

    With the published eps it is twice the paper's step, as it is in their code.
    """
    return lambda prediction, t: eps * (prediction.level.sigma / last) ** 2


def ratio(snr: float, kept: Kept = whole) -> Size:
    """2 kept (snr sigma)^2: the annealed corrector of Song et al. 2021, appendix G."""
    return lambda prediction, t: 2 * like(kept(t), prediction.x) * (snr * prediction.level.sigma) ** 2


@dataclass(frozen=True)
class Langevin:
    """Stay at the level and follow the score with noise: x + d score + sqrt(2 d) noise (Song & Ermon 2019, eq. 4)."""

    denoise: Denoise
    size: Size

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        prediction = self.denoise(x, t)
        size = self.size(prediction, t)
        return Gaussian(x + size * prediction.score, (2 * size).sqrt())


Length = Callable[[Tensor], Tensor]
"""x (B, ...) -> the length of each image, broadcasting against x."""


def image_lengths(x: Tensor) -> Tensor:
    """Of each image by itself, (B, 1, ...)."""
    return x.flatten(1).norm(dim=1).reshape(-1, *(1,) * (x.ndim - 1))


def mean_length(x: Tensor) -> Tensor:
    """The mean over the batch, (), as published: an image then depends on its company."""
    return x.flatten(1).norm(dim=1).mean()


@dataclass(frozen=True)
class Corrected:
    """Where a corrector may end: like a Gaussian, but its step follows the length of the noise that is drawn.

    Attributes:
        x, score: (B, ...) where it starts, and the score there.
        size: the size of a step whose noise has this length.
        length: how lengths are measured.
    """

    x: Tensor
    score: Tensor
    size: Callable[[Tensor], Tensor]
    length: Length

    @property
    def mean(self) -> Tensor:
        """Where it ends without noise, after a step for noise of the usual length, the root of the dimension."""
        usual = self.length(torch.ones_like(self.x))
        return self.x + self.size(usual) * self.score

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        z = noise(self.x)
        size = self.size(self.length(z))
        return self.x + size * self.score + (2 * size).sqrt() * z

    def kl(self, other: Gaussian) -> Tensor:
        raise ValueError("a corrector's step depends on its noise, so it has no density in closed form")


@dataclass(frozen=True)
class Corrector:
    """Langevin dynamics whose steps are 2 kept (snr |noise| / |score|)^2 long (Song et al. 2021, algorithms 4 and 5).

    Attributes:
        snr: the paper's r.
        kept: see `kept`; for VP and sub-VP.
        length: of each image by itself, or the official mean over the batch, `mean_length`.
    """

    denoise: Denoise
    snr: float = 0.16
    kept: Kept = whole
    length: Length = image_lengths

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Corrected:
        score = self.denoise(x, t).score
        of_score = self.length(score)
        scale = 2 * like(self.kept(t), x) * (of_score > 0).to(score.dtype)  # an untrained network may answer 0
        of_score = of_score + (of_score == 0)
        return Corrected(x, score, lambda of_noise: scale * (self.snr * of_noise / of_score) ** 2, self.length)


def on_arc(first: Noise, second: Noise, angle: Tensor) -> Noise:
    """cos(angle) first + sin(angle) second: noise for pictures between two others (Song & Ermon 2020, appendix B.3).

    Each chain of an interpolation goes its way with the two ends' noise mixed at its own angle, from 0 to pi / 2.

    Args:
        first, second: the noise of the two ends.
        angle: () or (B, 1, ...).
    """
    return lambda x: angle.cos() * first(x) + angle.sin() * second(x)


# ---------------------------------------------------------------- where sampling starts


@dataclass(frozen=True)
class Uniform:
    """Uniform in every pixel between low and high, where Langevin dynamics starts (Song & Ermon 2019, section 4.3).

    It is drawn from normal noise, so that randomness enters everywhere in the same way.
    """

    shape: tuple[int, ...]
    low: float = -1.0
    high: float = 1.0
    device: torch.device | str = "cpu"

    @property
    def mean(self) -> Tensor:
        return torch.full(self.shape, (self.low + self.high) / 2, device=self.device)

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        return self.low + (self.high - self.low) * torch.special.ndtr(noise(self.mean))

    def kl(self, other: Gaussian) -> Tensor:
        """KL(self || other) in nats, per pixel."""
        width = self.high - self.low
        variance = width**2 / 12 + (self.mean - other.mean) ** 2
        return variance / (2 * other.std**2) + (other.std * (2 * torch.pi) ** 0.5 / width).log()
