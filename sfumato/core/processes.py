"""The forward process q: how data become noise, and the posterior q(x_s | x_t, x_0) of any step, adjacent or strided.

One Gaussian process serves DDPM (Ho et al. 2020, eq. 4, 6 and 7), respaced chains (Nichol & Dhariwal 2021, eq. 19) and
variance-exploding chains, since q(x_t | x_s) between any two levels is itself a level (Kingma et al. 2021, eq. 24 ff.).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from sfumato.core.distributions import Gaussian
from sfumato.core.schedules import Level, Schedule, like

Found = TypeVar("Found", bound=tuple[Tensor, ...])
Formula = Callable[..., Found]
"""(process, time, ...) -> float64 numbers of the times' shape."""

MOST = 8192
"""So many numbers of single times are remembered."""


def remembered(formula: Formula[Found]) -> Formula[Found]:
    """A formula of times that is computed once for single times, which every move and every batch of a plan repeats.

    Where the schedule is learned, a gradient in the time is wanted or a graph is traced, nothing is remembered.
    """

    @wraps(formula)
    def once(process: GaussianDiffusion, *times: Tensor, **options: float) -> Found:
        if not process.fixed or torch.compiler.is_compiling():
            return formula(process, *times, **options)
        key: list[Any] = [formula, *options.values()]
        for t in times:
            if t.ndim or t.requires_grad or not t.is_cpu:
                return formula(process, *times, **options)
            key += (t.item(), t.dtype)
        found = process.known.get(tuple(key))
        if found is None:
            if len(process.known) >= MOST:
                process.known.clear()
            with torch.inference_mode(False):  # it may be part of a graph later
                found = formula(process, *(t.detach().clone() for t in times), **options)
            process.known[tuple(key)] = found
        return found

    return once


class GaussianDiffusion(nn.Module):
    """q(x_t | x_0) = N(alpha_t x_0, sigma_t^2) on any schedule."""

    def __init__(self, schedule: Schedule) -> None:
        super().__init__()
        self.schedule = schedule
        self.fixed = next(schedule.parameters(), None) is None
        self.known: dict[tuple[Any, ...], Any] = {}

    @remembered
    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma of the schedule at t, in float64 and of t's shape."""
        return self.schedule.alpha_sigma(t)

    def level(self, t: Tensor, x: Tensor) -> Level:
        """The level at t, ready to be used with x (B, ...)."""
        alpha, sigma = self.alpha_sigma(t)
        return Level(like(alpha, x), like(sigma, x))

    def marginal(self, x0: Tensor, t: Tensor) -> Gaussian:
        """q(x_t | x_0) (Ho et al. 2020, eq. 4). x0 (B, ...), t () or (B,)."""
        level = self.level(t, x0)
        return Gaussian(level.alpha * x0, level.sigma)

    @remembered
    def between(self, s: Tensor, t: Tensor) -> Level:
        """q(x_t | x_s) for s <= t as a float64 level of t's shape: x_t = alpha x_s + sigma eps.

        In a chain of adjacent levels sigma^2 is beta_t; in a strided one it is the respaced beta.
        """
        (alpha_s, sigma_s), (alpha_t, sigma_t) = self.alpha_sigma(s), self.alpha_sigma(t)
        alpha = alpha_t / alpha_s
        return Level(alpha, (sigma_t**2 - (alpha * sigma_s) ** 2).clamp(min=0).sqrt())

    @remembered
    def posterior_coefficients(self, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(of_x, of_x0, std) in float64: q(x_s | x_t, x_0) = N(of_x x_t + of_x0 x_0, std^2) (Ho et al. 2020, eq. 7)."""
        (alpha_s, sigma_s), (_, sigma_t) = self.alpha_sigma(s), self.alpha_sigma(t)
        step = self.between(s, t)
        of_x = step.alpha * (sigma_s / sigma_t) ** 2
        of_x0 = alpha_s * (step.sigma / sigma_t) ** 2
        return of_x, of_x0, step.sigma * sigma_s / sigma_t

    def posterior(self, x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        """q(x_s | x_t = x, x_0) for s < t (Ho et al. 2020, eq. 6). x, x0 (B, ...)."""
        of_x, of_x0, std = (like(c, x) for c in self.posterior_coefficients(t, s))
        return Gaussian(of_x * x + of_x0 * x0, std)

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Gaussian:
        """Where sampling starts: N(0, 1), or N(0, sigma_end^2) where the signal never fades (variance exploding)."""
        alpha, sigma = self.schedule.alpha_sigma(torch.tensor(self.schedule.end))
        return Gaussian(torch.zeros(shape, device=device), torch.where(alpha < 1, 1.0, sigma))
