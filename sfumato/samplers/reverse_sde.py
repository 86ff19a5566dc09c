"""The reverse SDE in steps: reverse diffusion and Euler-Maruyama, and the probability flow by both (Song et al. 2021).

Eq. 6, 13 and 46 and the discretisations of appendix E, the published ones with their quirks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.betas import geometric_sigmas
from sfumato.core.continuous import SubVP
from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.ode import sde
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import NO_NOISE, Kernel, Move, Past, Step
from sfumato.core.schedules import Continuous, Level, Table, from_betas, from_sigmas, like
from sfumato.samplers.grids import OnGrid

ForwardStep = Callable[[Tensor, Tensor], Level]
"""(s, t) -> one forward step x_t = alpha x_s + sigma eps of a discretised SDE, in float64 and of t's shape.

`GaussianDiffusion.between` is the exact one; those below are what was published.
"""


def euler(schedule: Continuous) -> ForwardStep:
    """The Euler-Maruyama step, alpha = 1 + f dt and sigma^2 = g^2 dt: published for the sub-VP SDE (appendix E)."""

    def step(s: Tensor, t: Tensor) -> Level:
        f, g2 = schedule.drift_diffusion(t)
        return Level(1 + f * (t - s), (g2 * (t - s)).sqrt())

    return step


def on_table(table: Table) -> ForwardStep:
    """The step of a table's level that a continuous time t falls on, down to the level below it, whatever s is.

    Two quirks of the official code: time t belongs to index floor(t (T - 1)), and so to the level after it; and a
    variance-exploding table goes on to clean data below its last level.
    """
    process = GaussianDiffusion(table)

    def step(s: Tensor, t: Tensor) -> Level:
        index = (t * (table.T - 1)).floor().long()
        return process.between(index, index + 1)

    return step


def published_vp(N: int = 1000, low: float = 0.1, high: float = 20.0) -> ForwardStep:
    """The published discretisation of the VP SDE in N steps: DDPM's (eq. 10 and appendix E)."""
    return on_table(from_betas(torch.linspace(low / N, high / N, N, dtype=torch.float64)))


def published_ve(N: int = 1000, low: float = 0.01, high: float = 50.0) -> ForwardStep:
    """The published discretisation of the VE SDE in N steps: NCSN's (eq. 8 and appendix E)."""
    return on_table(from_sigmas(geometric_sigmas(N, low, high)))


def published_sub_vp(low: float = 0.1, high: float = 20.0) -> ForwardStep:
    """The published discretisation of the sub-VP SDE: Euler-Maruyama's."""
    return euler(SubVP(low, high))


@dataclass(frozen=True)
class ReverseDiffusionStep:
    """Undo a forward step as it was made: (2 - alpha) x + sigma^2 score, plus sigma noise (eq. 46).

    Attributes:
        forward: the forward step; the process's own between s and t where None.
        ode: the probability flow instead, with half the score and no noise.
    """

    process: GaussianDiffusion
    denoise: Denoise
    forward: ForwardStep | None = None
    ode: bool = False

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        alpha, sigma = (like(c, x) for c in (self.forward or self.process.between)(s, t))
        prediction = self.denoise(x, t)
        mean = (2 - alpha) * x + (0.5 if self.ode else 1.0) * sigma**2 * prediction.score
        return Step(Gaussian(mean, NO_NOISE if self.ode else sigma), prediction)


@dataclass(frozen=True)
class EulerMaruyamaStep:
    """x - (f x - g^2 score) dt + g sqrt(dt) noise: the reverse SDE (eq. 6). ValueError for separate levels."""

    process: GaussianDiffusion
    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        return ReverseDiffusionStep(self.process, self.denoise, euler(sde(self.process)))(x, t, s)


@dataclass(frozen=True)
class EulerODEStep:
    """x + (x0 alpha' + eps sigma') dt: Euler's step of the probability flow in t (eq. 13), finite without signal."""

    process: GaussianDiffusion
    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction = self.denoise(x, t)
        velocity = prediction.velocity(sde(self.process).rate(t, x))
        return Step(Gaussian(x + like(s - t, x) * velocity, NO_NOISE), prediction)


@dataclass(frozen=True)
class ReverseDiffusion(OnGrid):
    """Reverse diffusion (Song et al. 2021); with ode, half its score and no noise."""

    ode: bool = False

    @property
    def draws(self) -> bool:
        return not self.ode

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return ReverseDiffusionStep(process, denoise, ode=self.ode)

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        signal = process.between(process.schedule.below(times[0]), times[0]).alpha
        if self.ode and signal < 0.5:
            raise ValueError(
                "nearly all signal is lost at once at the first time, a step that half the score cannot undo, "
                "however many there are; take DDIM, Heun or another solver of the probability flow"
            )
        return super().moves(process, denoise, times)


@dataclass(frozen=True)
class EulerMaruyama(OnGrid):
    """Euler-Maruyama steps of the reverse SDE, continuous time only (Song et al. 2021)."""

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        return EulerMaruyamaStep(process, denoise)

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        if float(sde(process).alpha_sigma(times[0])[0]) < 1e-6:
            raise ValueError(
                "no signal is left at the first time, so the drift of the reverse SDE is infinite there; take "
                "ancestral steps, DDIM or Heun, or start below it"
            )
        return super().moves(process, denoise, times)


@dataclass(frozen=True)
class EulerODE(OnGrid):
    """Euler's method for the probability-flow ODE in t, continuous time only (Song et al. 2021)."""

    order = 1

    @property
    def draws(self) -> bool:
        return False

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        sde(process)
        return EulerODEStep(process, denoise)
