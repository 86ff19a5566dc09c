"""Progressive distillation: one DDIM step of a student for two of its teacher (Salimans & Ho 2022, algorithm 2).

The student's target is the clean data x~ that its own step would have to predict to end where the teacher's two steps
do. The paper states it by the two ends of the path; here it is what that comes to, a mean of the teacher's two
predictions, which divides by nothing that is small.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level, Schedule, like


def ddim(prediction: Prediction, level: Level) -> Tensor:
    """The deterministic step of DDIM to a level: alpha x0 + sigma eps (Song et al. 2020, eq. 12)."""
    return level.alpha * prediction.x0 + level.sigma * prediction.eps


def two_step_target(
    denoise: Denoise, x: Tensor, t: Tensor, between: Tensor, s: Tensor, process: GaussianDiffusion
) -> Tensor:
    """x~, like x: predicted at t, it makes one DDIM step to s of the teacher's two, by way of `between`.

    The paper's (x_s - (sigma_s / sigma_t) x) / (alpha_s - (sigma_s / sigma_t) alpha_t). Since a DDIM step adds
    (alpha_s / sigma_s - alpha_t / sigma_t) x0 to x / sigma, that is a mean of the two predictions of x0.

    Args:
        denoise: the teacher.
        x: (B, C, ...) noisy data at t.
        t, between, s: (B,) times of falling noise; s may be 0, clean data.
    """
    first = denoise(x, t)
    second = denoise(ddim(first, process.level(between, x)), between)
    share = like(first_share(process.schedule, t, between, s), x)
    return second.x0 + share * (first.x0 - second.x0)


def first_share(schedule: Schedule, t: Tensor, between: Tensor, s: Tensor) -> Tensor:
    """The share of the first prediction in x~, float64 of t's shape; 0 where s is clean data."""
    (a, b), (a_m, b_m), (a_s, b_s) = (schedule.alpha_sigma(time) for time in (t, between, s))
    return b_s * (a_m / b_m - a / b) / (a_s - b_s * a / b)


def truncated_snr(level: Level) -> Tensor:
    """max(SNR, 1), the weight of the error in x0, with which levels without signal count too (section 4)."""
    return ((level.alpha / level.sigma) ** 2).clamp(min=1)


def even_times(schedule: Schedule, n: int) -> Tensor:
    """n moves even in time from the end to clean data, (n + 1,) descending: those of n are among those of 2 n.

    ValueError where there are not so many levels, or the least is below what a network is trained at.
    """
    if schedule.levels:
        return schedule.times(n)
    times = schedule.end * torch.arange(n, -1, -1, dtype=torch.float64) / n
    if n > 1 and times[-2] < schedule.first:
        most = int(schedule.end / schedule.first)
        raise ValueError(f"{n} even steps go below the least noise that this model knows; at most {most} do not")
    return times


def halved(start: int, to: int) -> list[int]:
    """The numbers of steps of the stages from `start`, not itself, down to `to`: 32 and 4 give 16, 8, 4.

    ValueError where halving does not lead from one to the other.
    """
    if to < 1 or start <= to:
        raise ValueError(f"distillation goes down to fewer steps, at least 1: {start} to {to} does not")
    stages: list[int] = []
    while start > to and start % 2 == 0:
        start //= 2
        stages.append(start)
    if start != to:
        raise ValueError(f"each stage halves the steps, and {stages[0] * 2 if stages else start} never come to {to}")
    return stages
