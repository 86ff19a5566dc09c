"""The sampling loop: a sampler plans moves (kernel, t, s), and one loop takes them from noise to data.

A kernel is a reverse step between two arbitrary levels, given the predictions made before, so that multistep solvers
need no memory of their own. The plans are those of the papers: down a grid of levels (Ho et al. 2020, algorithm 2),
staying at a level (Song & Ermon 2019, algorithm 1), and both in turn (Song et al. 2021, algorithm 1).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Distribution, Gaussian, Noise
from sfumato.core.guidance import Gradient, score_shifted
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Schedule, Steps

if TYPE_CHECKING:
    from sfumato.core.diffusion import Diffusion

NO_NOISE = torch.zeros((), dtype=torch.float64)
"""The standard deviation of a deterministic step: a host number, so that nothing waits for a device to learn it."""


class Step(NamedTuple):
    """One reverse step: p(x_s | x_t), and what the network predicted at x_t (None where it was not asked)."""

    to: Distribution
    prediction: Any


Past = tuple[Prediction, ...]
"""The predictions made before, newest first, at most four; each has its own x and level."""


class Kernel(Protocol):
    """A reverse step (x_t, t, s, past) -> p(x_s | x_t), for any two levels t and s."""

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = (), /) -> Step: ...


Move = tuple[Kernel, Tensor, Tensor]
"""A kernel, where we are (t) and where we go (s), both 0-dimensional host tensors."""


def trajectory(x: Tensor, moves: Iterable[Move], noise: Noise = torch.randn_like) -> Iterator[tuple[Tensor, Any]]:
    """The sampling loop: take the moves from x (B, ...) in turn; yields (x_s, prediction at x_t) after each.

    Where a move asks no network, such as one that puts known pixels back, the last prediction stands.
    """
    past: tuple[Any, ...] = ()
    for kernel, t, s in moves:
        to, prediction = kernel(x, t, s, past)
        if prediction is not None:
            past = (prediction, *past[:3])
        x = to.sample(noise)
        yield x, past[0] if past else None


def finish(x: Tensor, moves: Iterable[Move], noise: Noise = torch.randn_like) -> Tensor:
    """Run the sampling loop to its end and return the last state."""
    for state, _ in trajectory(x, moves, noise):
        x = state
    return x


def descend(kernel: Kernel, times: Tensor) -> list[Move]:
    """One move from each time to the next: times (n + 1,) make n moves."""
    return [(kernel, t, s) for t, s in pairwise(times)]


@dataclass(frozen=True)
class DenoiseToZero:
    """Straight to the predicted x_0, whatever s is: the last move where noise would stay (Song & Ermon 2020)."""

    denoise: Denoise

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction = self.denoise(x, t)
        return Step(Gaussian(prediction.x0, NO_NOISE), prediction)


def denoise_to_zero(moves: list[Move], process: GaussianDiffusion, denoise: Denoise) -> list[Move]:
    """The same moves, the last of which goes straight to the predicted x0 where time 0 is still noisy (VE)."""
    if not moves:
        return moves
    *before, (kernel, t, s) = moves
    noisy = s == 0 and process.schedule.alpha_sigma(s)[1] > 0
    return [*before, (DenoiseToZero(denoise) if noisy else kernel, t, s)]


class Sampler:
    """Base class of samplers: frozen dataclasses of plain options that plan moves from noise to data.

    A family that goes down its grid by one kernel defines `step`; another defines `moves`.
    """

    order = 1
    """Its order, as its name has it."""
    evaluations = 1
    """Evaluations of the network a move."""
    two_times = False
    """Whether its denoiser is told where a step ends as well, which guidance and exported graphs do not know."""
    own_times = False
    """Whether each image goes by times of its own, along which nothing that remembers past predictions can follow."""

    @property
    def convergence(self) -> int:
        """With which power of the number of steps the error falls; 0 where a sampler does not converge in them."""
        return self.order

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        """The kernel that goes down."""
        raise NotImplementedError(f"{type(self).__name__} defines neither step nor moves")

    def times(self, schedule: Schedule, steps: Steps = None) -> Tensor:
        """The timesteps, descending to clean data, (n + 1,): the schedule's own grid by default."""
        return schedule.times(steps)

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        """The moves along these times. ValueError where the schedule has no such sampler."""
        return denoise_to_zero(descend(self.step(process, denoise), times), process, denoise)

    def plan(self, process: GaussianDiffusion, denoise: Denoise, steps: Steps = None) -> list[Move]:
        """The moves in so many steps, or along a grid of one's own."""
        return self.along(process, denoise, self.times(process.schedule, steps))

    def along(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        """The moves along these times with the noise that was chosen. ValueError as of `moves`."""
        return self.moves(process, denoise, times)

    def guided(
        self, denoise: Denoise, gradient: Gradient, clip: Callable[[Denoise], Denoise]
    ) -> tuple[Sampler, Denoise]:
        """The sampler and the denoiser under classifier guidance, which shifts the score (ADM, algorithm 2).

        x0 is clipped once more after the shift. The official code does not; but from a level with next to no signal,
        as a cosine schedule's last, a shifted score implies an x0 thousands of times too large.
        """
        return self, clip(score_shifted(denoise, gradient))

    def of(self, diffusion: Diffusion) -> Sampler:
        """The sampler for one model: options that were left open are the model's own."""
        return self
