"""Noise schedules: how much signal and noise is left at each level, x_t = alpha_t x_0 + sigma_t eps.

Discrete tables follow Ho et al. 2020 (betas, eq. 2 and 4) and Song & Ermon 2019 (sigmas); continuous schedules follow
Song et al. 2021 (VE, VP and sub-VP, section 3 and appendix B) and state alpha and sigma only, since the SDE follows.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sfumato.core.steps import Steps, possible


def like(coefficient: Tensor, x: Tensor) -> Tensor:
    """Make a float64 coefficient, () or (B,), broadcast against x (B, ...): the one place where it is cast.

    A 0-dimensional coefficient stays a host number: torch mixes it with any device and keeps x's precision, so a
    sampling step waits for no device.
    """
    if coefficient.ndim == 0:
        return coefficient
    return coefficient.reshape(-1, *(1,) * (x.ndim - 1)).to(x.device, x.dtype, non_blocking=True)


class Level(NamedTuple):
    """One noise level, x_t = alpha x_0 + sigma eps. Both fields are () or (B, 1, ...) and broadcast against x."""

    alpha: Tensor
    sigma: Tensor

    def noise(self, x0: Tensor, eps: Tensor) -> Tensor:
        """x_t from clean data and noise (Ho et al. 2020, eq. 4)."""
        return self.alpha * x0 + self.sigma * eps

    def x0(self, x: Tensor, eps: Tensor) -> Tensor:
        """The clean data that x and eps imply; infinite where alpha is 0."""
        return (x - self.sigma * eps) / self.alpha

    def eps(self, x: Tensor, x0: Tensor) -> Tensor:
        """The noise that x and x0 imply; undefined at clean data, where sigma is 0."""
        return (x - self.alpha * x0) / self.sigma

    def v(self, x0: Tensor, eps: Tensor) -> Tensor:
        """The velocity alpha eps - sigma x0 (Salimans & Ho 2022, appendix D)."""
        return self.alpha * eps - self.sigma * x0

    @property
    def tweedie(self) -> Tensor:
        """sigma^2 / alpha, which makes a shift of the score one of x0 (Tweedie's formula); 0 where there is no signal.

        There the score is that of noise alone, and no shift of it says anything of x0.
        """
        return torch.where(self.alpha > 0, self.sigma**2 / self.alpha.clamp(min=1e-12), 0.0)


class Schedule(nn.Module):
    """A noise schedule, alpha(t) and sigma(t). A Module, because the schedule of 2015 is learned.

    Times live on the host: t is a CPU tensor, () for a whole batch or (B,) for one time an image. Time 0 is clean data.
    """

    #: the time of (almost) pure noise, where sampling starts
    end: float
    #: how many noisy levels there are; none (0) in continuous time
    levels: int | None = None
    #: the least noisy time that a network is trained at, where encoding starts
    first: float

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """float64 alpha and sigma, both of t's shape."""
        raise NotImplementedError

    def times(self, steps: Steps = None) -> Tensor:
        """The timesteps of a sampler, strictly descending from the end to clean data, (n + 1,).

        ValueError where there cannot be so many steps.
        """
        raise NotImplementedError

    def below(self, t: Tensor) -> Tensor:
        """The next less noisy level, or a thousandth of the time, below t."""
        raise NotImplementedError

    def continuous(self) -> Continuous:
        """The schedule in continuous time. ValueError for levels between which there is nothing."""
        raise NotImplementedError

    def at(self, half_log_snr: Tensor) -> Tensor:
        """The times at which lambda = log(alpha / sigma) has these values, of their shape; the nearest there are."""
        raise NotImplementedError

    def level(self, t: Tensor, x: Tensor) -> Level:
        """The level at t, ready to be used with x (B, ...)."""
        alpha, sigma = self.alpha_sigma(t)
        return Level(like(alpha, x), like(sigma, x))

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2), of t's shape; infinite at clean data."""
        alpha, sigma = self.alpha_sigma(t)
        return 2 * (alpha.log() - sigma.log())


# ---------------------------------------------------------------- discrete time: levels 0 (clean data), 1, ..., T


def strided(T: int, n: int) -> Tensor:
    """n moves from T to 0, evenly spaced: (n + 1,) strictly descending levels. n = T takes every level."""
    n = possible(n, T)
    return (torch.arange(n, -1, -1, dtype=torch.float64) * (T / n)).round().long()


class Levels(Schedule):
    """A schedule of separate levels 0 (clean data), 1, ..., T.

    Args:
        T: how many noisy levels there are.
    """

    first = 1

    def __init__(self, T: int) -> None:
        super().__init__()
        self.T = self.end = self.levels = T

    def times(self, steps: Steps = None) -> Tensor:
        return steps(self.T) if callable(steps) else strided(self.T, self.T if steps is None else steps)

    def below(self, t: Tensor) -> Tensor:
        return (t - 1).clamp(min=0)

    def at(self, half_log_snr: Tensor) -> Tensor:
        """The nearest levels of 1..T."""
        known = self.log_snr(torch.arange(self.T, 0, -1)) / 2  # ascending
        above = torch.searchsorted(known, half_log_snr.double()).clamp(1 if self.T > 1 else 0, self.T - 1)
        below = (above - 1).clamp(min=0)
        nearer = (half_log_snr - known[below]).abs() < (known[above] - half_log_snr).abs()
        return self.T - torch.where(nearer, below, above)


class Table(Levels):
    """Levels 1..T as given, and level 0, which is clean data: alpha 1, sigma 0.

    Args:
        alpha, sigma: (T,) each, for levels 1..T. Kept in float64.
    """

    def __init__(self, alpha: Tensor, sigma: Tensor) -> None:
        super().__init__(len(alpha))
        if alpha.shape != sigma.shape or alpha.ndim != 1 or len(alpha) == 0:
            raise ValueError(f"alpha and sigma are (T,) with T >= 1, not {tuple(alpha.shape)} and {tuple(sigma.shape)}")
        one = torch.ones(1, dtype=torch.float64)
        self._alpha = torch.cat([one, alpha.double()])
        self._sigma = torch.cat([0 * one, sigma.double()])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """At levels t, whole numbers; real numbers lie between levels, see `between_levels`."""
        if t.is_floating_point():
            alpha, variance = self.between_levels(t)
            return alpha, variance.sqrt()
        return self._alpha[t], self._sigma[t]

    def continuous(self) -> Continuous:
        return Interpolated(self)

    def between_levels(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha and sigma^2 at real levels t of [0, T], of t's shape and differentiable in t.

        -log alpha^2 is a monotone cubic between the levels (Fritsch & Butland 1984), with sigma^2 = 1 - alpha^2.
        ValueError where the levels are not variance preserving: those of NCSN are the network's labels, so there is
        nothing between them.
        """
        erased, slope = self._curve
        i = t.detach().floor().long().clamp(0, self.T - 1)
        u = t.double() - i
        value = (
            (1 + 2 * u) * (1 - u) ** 2 * erased[i] + u * (1 - u) ** 2 * slope[i]
            + u**2 * (3 - 2 * u) * erased[i + 1] + u**2 * (u - 1) * slope[i + 1]
        )  # fmt: skip
        return torch.exp(-value / 2), -torch.expm1(-value)

    @cached_property
    def _curve(self) -> tuple[Tensor, Tensor]:
        """-log alpha^2 at levels 0..T, and its slopes there."""
        preserving = torch.allclose(self._alpha**2 + self._sigma**2, torch.ones_like(self._alpha))
        if not preserving or self._alpha[-1] <= 0 or self.T < 2:
            raise ValueError(
                "these separate noise levels are no table of a variance-preserving process, so there is no continuous "
                "time between them, no drift and no diffusion; take DDIM, Heun or ancestral steps instead"
            )
        with torch.inference_mode(False):  # it is kept, and derivatives are taken of it later
            erased = -2 * self._alpha.log()
            rise = erased.diff()
            inner = 2 * rise[1:] * rise[:-1] / (rise[1:] + rise[:-1])
            return erased, torch.cat([rise[:1], inner, rise[-1:]])


def from_betas(betas: Tensor) -> Table:
    """The variance-preserving table of betas (T,): alpha_t^2 = prod_{i<=t} (1 - beta_i) (Ho et al. 2020, eq. 4)."""
    betas = betas.double()
    if not bool(((betas > 0) & (betas <= 1)).all()):
        raise ValueError(f"betas lie in (0, 1]; these span {betas.min():.3g} to {betas.max():.3g}")
    alpha_bar = torch.cumprod(1 - betas, 0)
    return Table(alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


def from_sigmas(sigmas: Tensor) -> Table:
    """The variance-exploding table of sigmas (T,), ascending: alpha is 1 throughout (Song & Ermon 2019)."""
    if not bool((sigmas.diff() > 0).all()):
        raise ValueError("sigmas ascend: level 1 is the least noise, level T the most")
    return Table(torch.ones_like(sigmas), sigmas)


# ---------------------------------------------------------------- continuous time: t in [0, 1]


class Continuous(Schedule):
    """A schedule on t in [0, 1], given by alpha(t) and sigma(t)^2; the linear SDE dx = f x dt + g dw follows."""

    end = 1.0
    first = 1e-5  # Song et al. 2021, appendix C
    last = 1e-3
    """Where an even grid ends before clean data."""
    levels = 0
    """How many separate levels the time stands for; 0 where it is continuous by itself."""

    def times(self, steps: Steps = None) -> Tensor:
        """Evenly from the end to `last`, then to 0; 1000 moves where None. A grid of levels is one of 1000."""
        if callable(steps):
            grid = steps(1000)
            return grid if grid.is_floating_point() else grid.double() * (self.end / 1000)
        n = 1000 if steps is None else possible(steps)
        times = torch.linspace(self.end, self.last if n > 1 else self.end, n, dtype=torch.float64)
        return torch.cat([times, torch.zeros(1, dtype=torch.float64)])

    def below(self, t: Tensor) -> Tensor:
        return (t - self.end / 1000).clamp(min=0)

    def at(self, half_log_snr: Tensor) -> Tensor:
        """By bisection, to rounding, between the end and time 0."""
        low = torch.zeros_like(half_log_snr, dtype=torch.float64)
        high = torch.full_like(low, self.end)
        for _ in range(60):
            middle = (low + high) / 2
            noisier = self.log_snr(middle) / 2 < half_log_snr
            low, high = torch.where(noisier, low, middle), torch.where(noisier, middle, high)
        return high

    def continuous(self) -> Continuous:
        return self

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha(t) and sigma(t)^2, differentiable in t."""
        raise NotImplementedError

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        alpha, variance = self.alpha_variance(t.double())
        return alpha, variance.sqrt()

    def drift_diffusion(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """f(t) and g(t)^2 of dx = f x dt + g dw, both of t's shape, in float64.

        f = alpha' / alpha and g^2 = (sigma^2)' - 2 f sigma^2, since dm = f m dt and dV = 2 f V dt + g^2 dt
        (Song et al. 2021, appendix B).
        """
        (alpha, variance), (alpha_dot, variance_dot) = self._with_slopes(t)
        f = alpha_dot / alpha
        return f, variance_dot - 2 * f * variance

    def rate(self, t: Tensor, x: Tensor) -> Level:
        """alpha' and sigma' in t, ready to be used with x (B, ...): dx/dt = x0 alpha' + eps sigma'."""
        (_, variance), (alpha_dot, variance_dot) = self._with_slopes(t)
        return Level(like(alpha_dot, x), like(variance_dot / (2 * variance.sqrt()), x))

    def _with_slopes(self, t: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """alpha and sigma^2, and their derivatives in t."""
        with torch.inference_mode(False), torch.enable_grad():  # reverse mode: six times as fast as torch.func.jvp
            at = t.detach().clone().double().requires_grad_()
            values = self.alpha_variance(at)
            alpha_dot, variance_dot = (
                torch.autograd.grad(value.sum(), at, retain_graph=True)[0] if value.requires_grad else 0 * at.detach()
                for value in values
            )
        alpha, variance = (value.detach() for value in values)
        return (alpha, variance), (alpha_dot, variance_dot)


class Interpolated(Continuous):
    """A variance-preserving table in continuous time: t stands for its level T t (`Table.between_levels`)."""

    def __init__(self, table: Table) -> None:
        super().__init__()
        self.table, self.levels, self.first = table, table.T, 1 / table.T
        table.between_levels(torch.zeros((), dtype=torch.float64))  # refuses other tables at once

    def alpha_variance(self, t: Tensor) -> tuple[Tensor, Tensor]:
        return self.table.between_levels(self.table.T * t)
