"""The reverse SDE and the probability flow in steps: predictors, and the plans that walk them.

Song et al. 2021: eq. 6 and 13, the discretisations of appendix E and the loop of algorithm 1; besides, Heun's step of
the flow (Karras et al. 2022) and a solver of fixed steps. Correctors are in `langevin`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian
from sfumato.core.kernels import Clean
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Move
from sfumato.core.schedules import Continuous, Level, Schedule, SubVP, Table, from_betas, from_sigmas, like
from sfumato.core.schedules import geometric_sigmas as geometric
from sfumato.core.times import Steps, visits

Field = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> dx/dt, like x_t."""

NONE = torch.zeros((), dtype=torch.float64)
"""The spread of a step that draws no noise."""


def sde(process: GaussianDiffusion) -> Continuous:
    """The process's schedule, where it is continuous in time. ValueError for a table of levels, which has no SDE."""
    if not isinstance(process.schedule, Continuous):
        raise ValueError(
            "this model knows separate noise levels, not continuous time, so it has no drift and no diffusion; "
            "walk its levels by DDIM, Heun, ancestral or reverse-diffusion steps instead"
        )
    return process.schedule


def probability_flow(process: GaussianDiffusion, denoise: Denoise) -> Field:
    """dx/dt = f x - g^2 score / 2: the ODE with the marginals of the SDE (Song et al. 2021, eq. 13)."""
    schedule = sde(process)

    def field(x: Tensor, t: Tensor) -> Tensor:
        f, g2 = (like(c, x) for c in schedule.drift_diffusion(t))
        return f * x - 0.5 * g2 * denoise(x, t).score

    return field


State = tuple[Tensor, ...]

Solve = Callable[[Callable[[Tensor, State], State], State, float, float], State]
"""(derivative of (t, state), state, from, to) -> the state there: a solver of ordinary differential equations."""


def runge_kutta(steps: int = 100, power: float = 2.0) -> Solve:
    """The classical method of order 4, in so many equal steps of r, where time is r^power.

    Near clean data a flow moves like sigma, so for VP like the square root of time: 2 makes it smooth, 1 would not.
    """

    return partial(_runge_kutta, steps, power)


def _runge_kutta(
    steps: int, power: float, derivative: Callable[[Tensor, State], State], state: State, start: float, end: float
) -> State:
    first, last = start ** (1 / power), end ** (1 / power)
    h = (last - first) / steps

    def slopes(r: float, state: State) -> State:
        speed = power * r ** (power - 1)  # dt / dr
        return tuple(speed * k for k in derivative(torch.tensor(r**power, dtype=torch.float64), state))

    def moved(by: float, slopes: State) -> State:
        return tuple(y + by * k for y, k in zip(state, slopes, strict=True))

    for i in range(steps):
        r = first + i * h
        k1 = slopes(r, state)
        k2 = slopes(r + h / 2, moved(h / 2, k1))
        k3 = slopes(r + h / 2, moved(h / 2, k2))
        k4 = slopes(r + h, moved(h, k3))
        state = moved(h / 6, tuple(a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True)))
    return state


def follow(process: GaussianDiffusion, denoise: Denoise, x: Tensor, start: float, end: float, solve: Solve) -> Tensor:
    """Where the probability flow takes x (B, ...) from time `start` to `end`, either way."""
    field = probability_flow(process, denoise)
    return solve(lambda t, state: (field(state[0], t),), (x,), start, end)[0]


# ---------------------------------------------------------------- predictors


Step = Callable[[Tensor, Tensor], Level]
"""(s, t) -> one forward step x_t = alpha x_s + sigma eps of a discretised SDE, in float64 and of t's shape.

`GaussianDiffusion.between` is the exact one; those below are what was published.
"""


def euler(schedule: Continuous) -> Step:
    """The Euler-Maruyama step, alpha = 1 + f dt and sigma^2 = g^2 dt: published for the sub-VP SDE (appendix E)."""

    def step(s: Tensor, t: Tensor) -> Level:
        f, g2 = schedule.drift_diffusion(t)
        return Level(1 + f * (t - s), (g2 * (t - s)).sqrt())

    return step


def on_table(table: Table) -> Step:
    """The step of a table's level that a continuous time t falls on, down to the level below it, whatever s is.

    Two quirks of the official code: time t belongs to index floor(t (T - 1)), and so to the level after it; and a
    variance-exploding table goes on to clean data below its last level.
    """
    process = GaussianDiffusion(table)

    def step(s: Tensor, t: Tensor) -> Level:
        index = (t * (table.T - 1)).floor().long()
        return process.between(index, index + 1)

    return step


def published_vp(N: int = 1000, low: float = 0.1, high: float = 20.0) -> Step:
    """The published discretisation of the VP SDE in N steps: DDPM's (eq. 10 and appendix E)."""
    return on_table(from_betas(torch.linspace(low / N, high / N, N, dtype=torch.float64)))


def published_ve(N: int = 1000, low: float = 0.01, high: float = 50.0) -> Step:
    """The published discretisation of the VE SDE in N steps: NCSN's (eq. 8 and appendix E)."""
    return on_table(from_sigmas(geometric(N, low, high)))


def published_sub_vp(low: float = 0.1, high: float = 20.0) -> Step:
    """The published discretisation of the sub-VP SDE: Euler-Maruyama's."""
    return euler(SubVP(low, high))


@dataclass(frozen=True)
class ReverseDiffusion:
    """Undo a forward step as it was made: (2 - alpha) x + sigma^2 score, plus sigma noise (eq. 46).

    Attributes:
        step: the forward step; the process's own between s and t where None.
        flow: the probability flow instead, with half the score and no noise.
    """

    process: GaussianDiffusion
    denoise: Denoise
    step: Step | None = None
    flow: bool = False
    order: ClassVar[int] = 1

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        alpha, sigma = (like(c, x) for c in (self.step or self.process.between)(s, t))
        score = self.denoise(x, t).score
        mean = (2 - alpha) * x + (0.5 if self.flow else 1.0) * sigma**2 * score
        return Gaussian(mean, NONE if self.flow else sigma)


@dataclass(frozen=True)
class EulerMaruyama:
    """x - (f x - g^2 score) dt + g sqrt(dt) noise (eq. 6); with `flow`, Euler's step of the probability flow.

    ValueError for a process of separate levels.
    """

    process: GaussianDiffusion
    denoise: Denoise
    flow: bool = False
    order: ClassVar[int] = 1

    def __post_init__(self) -> None:
        sde(self.process)

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        return ReverseDiffusion(self.process, self.denoise, euler(sde(self.process)), self.flow)(x, t, s)


@dataclass(frozen=True)
class Heun:
    """A second-order step of the probability flow on any schedule, tables as well (Karras et al. 2022, algorithm 1).

    In x / alpha the flow is d(x / alpha) = eps d(sigma / alpha), whose Euler step is DDIM's. Heun's takes the mean of
    eps at both ends, so it asks the network twice, but once where the move ends at clean data.
    """

    process: GaussianDiffusion
    denoise: Denoise
    order: ClassVar[int] = 2

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        here, there = self.denoise(x, t), self.process.level(s, x)
        guess = there.noise(here.x0, here.eps)
        if not bool((there.sigma > 0).all()):
            return Gaussian(guess, NONE)
        eps = (here.eps + self.denoise(guess, s).eps) / 2
        return Gaussian(
            guess + (there.sigma - there.alpha * here.level.sigma / here.level.alpha) * (eps - here.eps), NONE
        )


# ---------------------------------------------------------------- plans


@dataclass(frozen=True)
class WithoutNoise:
    """A kernel's mean: the last move of a plan, on which noise would stay (Song et al. 2021, appendix G)."""

    kernel: Kernel

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        return Gaussian(self.kernel(x, t, s).mean, NONE)


Pairs = list[tuple[Tensor, Tensor]]
"""Where each move begins and ends."""


def published_pairs(N: int, last: float = 1e-3) -> Pairs:
    """The official times: N of them evenly from 1 to `last`, each with a step of 1 / N, which passes the next one."""
    return [(t, t - 1 / N) for t in torch.linspace(1, last, N, dtype=torch.float64)]


def correct_predict(predictor: Kernel | None, corrector: Kernel | None, pairs: Pairs, n: int = 1) -> list[Move]:
    """The official loop: at each time n corrections, then the prediction, the last of which goes without noise.

    Algorithm 1 of Song et al. 2021 in the order of their code. None leaves out the one or the other.
    """
    moves: list[Move] = []
    for t, s in pairs:
        if corrector is not None:
            moves.extend((corrector, t, t) for _ in range(n))
        if predictor is not None:
            moves.append((predictor, t, s))
    if predictor is not None and moves:
        kernel, t, s = moves[-1]
        moves[-1] = (WithoutNoise(kernel), t, s)
    return moves


def grid(schedule: Schedule, steps: Steps = None, last: float = 1e-3) -> Tensor:
    """The times to visit on any schedule, descending: (n + 1,).

    A table's levels end at clean data. Continuous times run evenly from the end to `last`, then to 0; 1000 moves where
    None; a grid of one's own is asked with the number 1000.
    """
    if isinstance(schedule, Table):
        return visits(schedule.T, steps)
    if callable(steps):
        return steps(1000)
    n = 1000 if steps is None else steps
    if n < 1:
        raise ValueError(f"steps are at least 1, not {n}")
    times = torch.linspace(schedule.end, last if n > 1 else schedule.end, n, dtype=torch.float64)
    return torch.cat([times, torch.zeros(1, dtype=torch.float64)])


def ending_clean(moves: list[Move], process: GaussianDiffusion, denoise: Denoise) -> list[Move]:
    """The same moves, the last of which goes straight to the predicted x0 where it would end on a noisy level."""
    kernel, t, s = moves[-1]
    noisy = bool(process.schedule.alpha_sigma(s)[1] > 0)
    return [*moves[:-1], (Clean(denoise) if noisy else kernel, t, s)]
