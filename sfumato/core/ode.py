"""The probability-flow ODE (Song et al. 2021, eq. 13) and a Runge-Kutta solver of fixed steps.

dx/dt = x0 alpha' + eps sigma' has the marginals of the SDE; for alpha and sigma of any schedule in continuous time.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Continuous

Field = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> dx/dt, like x_t."""


def sde(process: GaussianDiffusion) -> Continuous:
    """The schedule of a process in continuous time, from which drift and diffusion follow.

    ValueError for separate levels, variance-preserving ones as well: the times of their denoiser are levels.
    """
    schedule = process.schedule.continuous()
    if schedule is not process.schedule:
        raise ValueError(
            "this model knows separate noise levels, not continuous time, so it has no drift and no diffusion; "
            "take DDIM, Heun, ancestral or reverse-diffusion steps instead"
        )
    return schedule


def probability_flow(process: GaussianDiffusion, denoise: Denoise) -> Field:
    """The probability-flow ODE, dx/dt = f x - g^2 score / 2 = x0 alpha' + eps sigma' (Song et al. 2021, eq. 13).

    ValueError for separate levels between which there is nothing.
    """
    schedule = sde(process)

    def field(x: Tensor, t: Tensor) -> Tensor:
        return denoise(x, t).velocity(schedule.rate(t, x))

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
    """Solve the probability-flow ODE: where it takes x (B, ...) from time `start` to `end`, either way."""
    field = probability_flow(process, denoise)
    return solve(lambda t, state: (field(state[0], t),), (x,), start, end)[0]
