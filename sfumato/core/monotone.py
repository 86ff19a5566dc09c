"""A monotone network on [0, 1], and a noise schedule learned as one: VDM's gamma (Kingma, Salimans, Poole & Ho 2021).

Section 3.2 and appendix H: gamma(t), minus log SNR, is a network whose weights are positive, scaled to meet two ends.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sfumato.core.schedules import Continuous


class Monotone(nn.Module):
    """A strictly increasing function of [0, 1] onto itself, a monotone network (Kingma et al. 2021, appendix H).

    n(x) = |slope| x + sum over units of |weight| sigmoid(|rate| x + bias), scaled to (n(x) - n(0)) / (n(1) - n(0)): its
    derivative is a mixture of a constant and of logistic densities. At first it is nearly x.

    Args:
        units: how many hidden units; VDM has 1024.
    """

    def __init__(self, units: int = 32) -> None:
        super().__init__()
        centres = (torch.arange(units, dtype=torch.float64) + 0.5) / units
        steepness = 2.0 * units
        self.slope = nn.Parameter(torch.ones((), dtype=torch.float64))
        self.weight = nn.Parameter(torch.full((units,), 1 / units, dtype=torch.float64))
        self.rate = nn.Parameter(torch.full((units,), steepness, dtype=torch.float64))
        self.bias = nn.Parameter(-steepness * centres)

    def forward(self, x: Tensor) -> Tensor:
        """x of any shape, in [0, 1] -> float64 of that shape, in [0, 1]."""
        least, most = self._unscaled(torch.tensor([0.0, 1.0], dtype=torch.float64, device=x.device))
        return (self._unscaled(x.double()) - least) / (most - least)

    def _unscaled(self, x: Tensor) -> Tensor:
        hidden = torch.sigmoid(self.rate.abs() * x[..., None] + self.bias)
        return self.slope.abs() * x + hidden @ self.weight.abs()


class LearnedVP(Continuous):
    """A learned variance-preserving noise schedule: log SNR falls along a monotone network (Kingma et al. 2021).

    log(alpha^2 / sigma^2) = highest + (lowest - highest) g(t), with alpha^2 + sigma^2 = 1. As VE's, time 0 is a little
    noisy: sigma^2 is sigmoid(-highest) there.

    Args:
        g: an increasing function of [0, 1] onto itself.
        highest, lowest: log SNR at times 0 and 1.
    """

    first = 0.0

    def __init__(self, g: nn.Module, highest: float = 13.3, lowest: float = -5.0) -> None:
        super().__init__()
        if not highest > lowest:
            raise ValueError(f"log SNR falls with time: from highest to lowest, not from {highest:g} to {lowest:g}")
        self.g, self.highest, self.lowest = g, highest, lowest

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_snr = self.highest + (self.lowest - self.highest) * self.g(t)
        return torch.sigmoid(log_snr).sqrt(), torch.sigmoid(-log_snr)
