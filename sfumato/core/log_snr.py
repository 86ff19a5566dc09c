"""Schedules in continuous time by their log SNR: VDM's stand-in for DDPM's linear betas, a cosine, and a learned curve.

Kingma et al. 2021 (variational diffusion models), section 3.2 and appendix H; Salimans & Ho 2022, appendix E. All are
variance preserving, and time 0 has a little noise (log SNR about 9): it is the last level, and not clean data itself.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sfumato.core.continuous import VP
from sfumato.core.schedules import Continuous

LEAST_ALPHA = 4.371139e-08
"""The cosine of half pi in single precision, which the noisiest level has for its alpha: log SNR -33.9."""


class LinearBetas(VP):
    """Ho et al.'s linear betas in continuous time: -log alpha^2 = 1e-4 + 10 t^2 (Kingma et al. 2021, appendix)."""

    def __init__(self, start: float = 1e-4) -> None:
        super().__init__(0.0, 20.0)
        self.start = start

    def beta_integral(self, t: Tensor) -> Tensor:
        return self.start + super().beta_integral(t)


class NoisyCosine(Continuous):
    """The cosine schedule alpha = cos((t + s) / (1 + s) pi / 2), which has noise at time 0, unlike `Cosine`.

    As in Salimans & Ho 2022; alpha is held above `LEAST_ALPHA`, so that the log SNR is finite.
    """

    def __init__(self, s: float = 0.008) -> None:
        super().__init__()
        self.s = s

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        angle = (t + self.s) / (1 + self.s) * math.pi / 2
        return angle.cos().clamp(min=LEAST_ALPHA), angle.sin() ** 2


class Tabulated(Continuous):
    """A schedule by its log SNR at even times from 0 to 1, such as a learned one's (Kingma et al. 2021, appendix H).

    Between them it is a monotone cubic (Fritsch & Butland 1984), and its error falls with their number cubed.

    Args:
        log_snr: strictly descending, at least two numbers.
    """

    def __init__(self, log_snr: Sequence[float]) -> None:
        super().__init__()
        known = torch.tensor(log_snr, dtype=torch.float64)
        if len(known) < 2 or not bool((known.diff() < 0).all()) or not bool(known.isfinite().all()):
            raise ValueError("log SNR at even times is at least two numbers, each below the one before")
        rise = known.diff()
        inner = 2 * rise[1:] * rise[:-1] / (rise[1:] + rise[:-1])
        first, last = (_end(rise[0], rise[1]), _end(rise[-1], rise[-2])) if len(rise) > 1 else (rise[0], rise[0])
        self._known, self._slope = known, torch.stack([first, *inner, last])

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        value = self.curve(t)
        return torch.sigmoid(value).sqrt(), torch.sigmoid(-value)

    def curve(self, t: Tensor) -> Tensor:
        """The log SNR at times of [0, 1], float64 and of t's shape."""
        n = len(self._known) - 1
        at = t.double() * n
        i = at.detach().floor().long().clamp(0, n - 1)
        u = at - i
        known, slope = self._known.to(t.device), self._slope.to(t.device)
        return (
            (1 + 2 * u) * (1 - u) ** 2 * known[i] + u * (1 - u) ** 2 * slope[i]
            + u**2 * (3 - 2 * u) * known[i + 1] + u**2 * (u - 1) * slope[i + 1]
        )  # fmt: skip


def _end(near: Tensor, far: Tensor) -> Tensor:
    """The slope at an end of the curve, of second order, and neither of the other sign nor too steep to be monotone."""
    slope = (3 * near - far) / 2
    return torch.where(slope * near > 0, torch.sign(near) * torch.minimum(slope.abs(), 3 * near.abs()), 0.0)
