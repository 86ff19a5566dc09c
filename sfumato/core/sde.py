"""The reverse SDE, the probability flow and Langevin dynamics in steps: the kernels of the score-based papers.

Predictors and correctors of Song et al. 2021 (eq. 6 and 13, algorithms 1 to 5, appendices E to G), annealed Langevin
dynamics (Song & Ermon 2019, algorithm 1), and the projection by which both papers inpaint and the later one colours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Distribution, Gaussian, Noise
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


def runge_kutta(steps: int = 100) -> Solve:
    """The classical method of order 4, in so many equal steps."""

    def solve(derivative: Callable[[Tensor, State], State], state: State, start: float, end: float) -> State:
        h = (end - start) / steps

        def moved(by: float, slopes: State) -> State:
            return tuple(y + by * k for y, k in zip(state, slopes, strict=True))

        for i in range(steps):
            t = torch.tensor([start + i * h, start + (i + 0.5) * h, start + (i + 1) * h], dtype=torch.float64)
            k1 = derivative(t[0], state)
            k2 = derivative(t[1], moved(h / 2, k1))
            k3 = derivative(t[1], moved(h / 2, k2))
            k4 = derivative(t[2], moved(h, k3))
            state = moved(h / 6, tuple(a + 2 * b + 2 * c + d for a, b, c, d in zip(k1, k2, k3, k4, strict=True)))
        return state

    return solve


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
    """x - (f x - g^2 score) dt + g sqrt(dt) noise (eq. 6); with `flow`, Euler's step of the probability flow."""

    process: GaussianDiffusion
    denoise: Denoise
    flow: bool = False
    order: ClassVar[int] = 1

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


# ---------------------------------------------------------------- Langevin dynamics


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
        scale, of_score = 2 * like(self.kept(t), x), self.length(score)
        return Corrected(x, score, lambda of_noise: scale * (self.snr * of_noise / of_score) ** 2, self.length)


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


# ---------------------------------------------------------------- what is known of an image


GREY = torch.tensor(
    [[3**-0.5, (2 / 3) ** 0.5, 0.0], [3**-0.5, -(6**-0.5), 2**-0.5], [3**-0.5, -(6**-0.5), -(2**-0.5)]],
    dtype=torch.float64,
)
"""An orthonormal basis of the colours, in columns, whose first is grey (Song et al. 2021, appendix I.3)."""


def turn(x: Tensor, basis: Tensor) -> Tensor:
    """Coordinates of each pixel's colour in an orthonormal basis (C, C) of columns; its transpose turns back."""
    return torch.einsum("bc...,cd->bd...", x, basis.to(x))


@dataclass(frozen=True)
class Turned:
    """A Gaussian in the coordinates of a basis, as a distribution of images."""

    gaussian: Gaussian
    basis: Tensor

    @property
    def mean(self) -> Tensor:
        return turn(self.gaussian.mean, self.basis.T)

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        return turn(self.gaussian.sample(noise), self.basis.T)

    def kl(self, other: Gaussian) -> Tensor:
        raise ValueError("what is known is exact, so its divergence is infinite")


@dataclass(frozen=True)
class Projection:
    """A move that stays, and puts what is known of an image, as noisy as the level is, in the place of what is there.

    Inpainting (Song et al. 2021, appendix I.2; Song & Ermon 2019, algorithm 2) and, with `GREY` as the basis and the
    first coordinate known, colourisation (appendix I.3).

    Attributes:
        x0: (B, C, H, W) images of which a part is known.
        known: True where it is, broadcasting against x0.
        basis: of the colours, (C, C) orthonormal columns, in which `known` is meant; None for the pixels themselves.
        exact: put in the clean x0 itself, at the end.
    """

    process: GaussianDiffusion
    x0: Tensor
    known: Tensor
    basis: Tensor | None = None
    exact: bool = False

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Distribution:
        alpha, sigma = (1.0, NONE) if self.exact else self.process.level(s, x)
        if self.basis is not None:
            x, x0 = turn(x, self.basis), turn(self.x0, self.basis)
        else:
            x0 = self.x0
        mean = torch.where(self.known, alpha * x0, x)
        inside = Gaussian(mean, NONE if self.exact else self.known * sigma)
        return inside if self.basis is None else Turned(inside, self.basis)


def greyness(x0: Tensor) -> Tensor:
    """What of colour images x0 (B, 3, H, W) is known in the basis `GREY` when they are to be coloured, (3, 1, 1)."""
    return torch.tensor([True, False, False], device=x0.device)[:, None, None]


def arriving(t: Tensor, s: Tensor) -> Tensor:
    """s: what is known gets the noise of the level where a move ends."""
    return s


def departing(t: Tensor, s: Tensor) -> Tensor:
    """t: what is known gets the noise of the level where a move began, as in the official code."""
    return t


def projected(
    moves: Iterable[Move], projection: Projection, at: Callable[[Tensor, Tensor], Tensor] = arriving
) -> list[Move]:
    """The same moves, a projection after each; the last puts in the clean images."""
    plan: list[Move] = []
    for kernel, t, s in moves:
        here = at(t, s)
        plan += [(kernel, t, s), (projection, here, here)]
    if plan:
        _, t, s = plan[-1]
        plan[-1] = (replace(projection, exact=True), t, s)
    return plan


def imputed(denoise: Denoise, x0: Tensor, known: Tensor) -> Denoise:
    """Believe what is known: the predicted x0 is the true one where `known`, and eps follows. For any kernel.

    The deterministic counterpart of `Projection` for DDIM, Heun and the probability flow.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        return prediction.with_x0(torch.where(known, x0, prediction.x0))

    return inner


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
