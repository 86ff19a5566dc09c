"""The bound of 2015 and the Gaussian read-out of its authors (Sohl-Dickstein et al. 2015, section 2.4 and appendix B).

K is a lower bound on the log likelihood, in bits per data point: minus the divergences of levels 2..T, plus the
entropies at both ends. The edge into clean data is not learned: p(x_0 | x_1) is *defined* as the forward step, which
keeps K finite for data on a curve, and charges every model for the noise of level 1 (`entropy of x_1` is its optimum).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sfumato.core.denoisers import Prediction, predict_previous_mean, predict_x0
from sfumato.core.distributions import Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel
from sfumato.core.schedules import Levels, like

BIT = math.log(2)

# ---------------------------------------------------------------- schedules


def published_betas(T: int, first: float = 1e-3, least: float = 1e-6) -> Tensor:
    """betas (T,) of the authors' code: about 1 / (T - t + 1), ending at 1/2; level 1 gets `first` besides.

    Raises: ValueError where T is below 2 or a beta leaves (0, 1).
    """
    if T < 2:
        raise ValueError(f"this schedule has at least 2 levels, not {T}")
    lowest = torch.full((T,), least, dtype=torch.float64)
    lowest[0] += first
    return _inside(lowest + (1 - lowest - 1e-5) / torch.linspace(T, 2, T, dtype=torch.float64))


def even_betas(T: int, first: float, last: float = 1e-4) -> Tensor:
    """betas (T,) whose alpha_bar falls geometrically in sigma: from sigma^2 = first at level 1 to alpha_bar = last.

    The logarithm of the signal-to-noise ratio is evenly spaced: each step erases as much detail as any other.

    Raises: ValueError where a beta leaves (0, 1).
    """
    if T < 2 or not 0 < first < 1 - last < 1:
        raise ValueError("levels are at least 2, and noise grows from `first` to 1 - `last`, both inside (0, 1)")
    start, end = math.log((1 - first) / first), math.log(last / (1 - last))
    alpha_bar = torch.sigmoid(torch.linspace(start, end, T, dtype=torch.float64))
    return _inside(1 - alpha_bar / torch.cat([alpha_bar.new_ones(1), alpha_bar[:-1]]))


def _inside(betas: Tensor) -> Tensor:
    if not bool(((betas > 0) & (betas < 1)).all()):
        raise ValueError(f"betas lie in (0, 1); these span {betas.min():.3g} to {betas.max():.3g}")
    return betas


class LearnedBetas(Levels):
    """A variance-preserving table whose betas of levels 2..T are parameters; that of level 1 stays (section 2.4.1).

    With the noise of a step held fixed ("frozen"), x_t is a function of the betas, so they are trained with the rest.

    Args:
        betas: (T,) to start from, in (0, 1).
    """

    first_beta: Tensor

    def __init__(self, betas: Tensor) -> None:
        super().__init__(len(betas))
        betas = _inside(betas.double())
        self.register_buffer("first_beta", betas[:1].clone())
        self.logits = nn.Parameter(torch.logit(betas[1:]).float())

    @property
    def betas(self) -> Tensor:
        """(T,) float64, differentiable."""
        return torch.cat([self.first_beta.double(), torch.sigmoid(self.logits.double())])

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        log_alpha_bar = torch.log1p(-self.betas).cumsum(0)
        zero = log_alpha_bar.new_zeros(1)
        alpha = torch.cat([zero + 1, (log_alpha_bar / 2).exp()])
        return alpha[t], torch.cat([zero, (-torch.expm1(log_alpha_bar)).sqrt()])[t]


# ---------------------------------------------------------------- the read-out


def weights_of_levels(index: Tensor, T: int) -> Tensor:
    """Weights (..., T) of the levels on either side of a 0-based index that may lie between two."""
    return (1 - (index.double()[..., None] - torch.arange(T)).abs()).clamp(min=0)


def predict_perturbation(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network says how the reverse step differs from the forward one (the authors' code).

    Of the output's channels the first half, z, moves the mean, x sqrt(1 - beta) + z sqrt(beta); the second half over
    sqrt(T) moves the variance, see `perturbed`. x (B, C, ...), output (B, 2C, ...).
    """
    move, spread = output.chunk(2, dim=1)
    step = process.between(t - 1, t)
    mean = like(step.alpha, x) * x + like(step.sigma, x) * move
    prediction = predict_previous_mean(mean, x, t, process)
    return Prediction(x, prediction.level, prediction.eps, prediction.x0, spread / process.schedule.end**0.5)


def predict_attractor(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network says where x is drawn to (appendix D.2, where the mean of a step moves x part of the way to z).

    Of the output's channels the first half is that point, the clean data in today's words: a smooth function, where the
    move itself, over a small noise, is a steep one. The second half, z, is the variance, sigmoid(4 z), by itself: a
    network that knows nothing says 1/2 at every level, so that none drowns the others out when training begins.
    """
    point, spread = output.chunk(2, dim=1)
    prediction = predict_x0(point, x, t, process)
    beta = process.between(t - 1, t).sigma ** 2
    return Prediction(x, prediction.level, prediction.eps, point, 4 * spread - like(torch.logit(beta), x))


def perturbed(
    process: GaussianDiffusion, prediction: Prediction, t: Tensor, s: Tensor, above: Tensor | None = None
) -> Tensor:
    """The spread of a reverse step: beta with its logit moved by the variance head. Strided steps have their own beta.

    A `variances.ReverseVariance`. Raises ValueError without a variance head.
    """
    if prediction.variance is None:
        raise ValueError("the read-out of 2015 needs a network with a variance head")
    variance = process.between(s, t).sigma ** 2
    std = torch.sigmoid(prediction.variance + like(torch.logit(variance), prediction.x)).sqrt()
    if above is None:  # into clean data no noise is drawn
        std = std * like((process.schedule.alpha_sigma(s)[1] > 0).to(variance), prediction.x)
    return std


# ---------------------------------------------------------------- the bound


class WithEntropy(Protocol):
    """A Gaussian or bits: what both processes are made of."""

    def sample(self, noise: Noise = torch.randn_like) -> Tensor: ...

    def kl(self, other: Any, /) -> Tensor: ...

    def entropy(self) -> Tensor: ...


class Forward(Protocol):
    """A forward process on levels 0..T: `GaussianDiffusion` or `BinomialDiffusion`."""

    def marginal(self, x0: Tensor, t: Tensor) -> WithEntropy: ...

    def posterior(self, x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> WithEntropy: ...

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> WithEntropy: ...


def summed(x: Tensor) -> Tensor:
    """The sum over everything but the batch: (B, ...) -> (B,)."""
    return x.flatten(1).sum(1)


@dataclass(frozen=True)
class Chain:
    """A forward process, the reverse steps to be judged, and the levels between.

    Attributes:
        T: the number of levels.
        edge: the level at which the learned steps end: 1, or 0 for bits whose last step is learned as well.
    """

    process: Forward
    kernel: Kernel
    T: int
    edge: int = 1

    @property
    def terms(self) -> int:
        """How many divergences there are: T - 1, where the edge is not learned."""
        return self.T - self.edge

    def divergence(self, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like) -> Tensor:
        """KL(q(x_{t-1} | x_t, x_0) || p(x_{t-1} | x_t)) at an x_t drawn from q, nats, (B,). t () or (B,)."""
        x = self.process.marginal(x0, t).sample(noise)
        return summed(self.process.posterior(x, x0, t, t - 1).kl(self.kernel(x, t, t - 1).to))

    def ends(self, x0: Tensor) -> Tensor:
        """H_q(x_T | x_0) - H_q(x_1 | x_0) - H_p(x_T), nats, (B,) (section 2.4 and appendix A)."""
        first, last = (self.process.marginal(x0, torch.tensor(t)).entropy() for t in (self.edge, self.T))
        prior = self.process.prior(tuple(x0.shape), x0.device).entropy()
        return summed((last - first - prior).to(x0.device, non_blocking=True).expand(x0.shape))

    def objective(self, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, terms: int | None = None) -> Tensor:
        """An unbiased estimate of -K, nats per data point, (B,), from one level t (B,) above the edge for each.

        Args:
            terms: how often a divergence counts; as many as there are where None. The authors' code has T.
        """
        return (self.terms if terms is None else terms) * self.divergence(x0, t, noise) - self.ends(x0)

    def lower_bound(self, x0: Tensor, noise: Noise = torch.randn_like, levels: Tensor | None = None) -> LowerBound:
        """K of data x0 (B, ...), with x_t drawn anew at each level; some levels (n,) stand for all where given."""
        visited = torch.arange(self.edge + 1, self.T + 1) if levels is None else levels
        if not bool(((visited > self.edge) & (visited <= self.T)).all()):
            raise ValueError(f"the divergences are those of levels {self.edge + 1} to {self.T}")
        found = torch.stack([self.divergence(x0, t, noise) for t in visited], dim=1)
        return LowerBound(visited, found / BIT, self.ends(x0) / BIT, self.terms)


@dataclass(frozen=True)
class LowerBound:
    """K of a batch, term by term, in bits per data point.

    Attributes:
        levels: (n,) those that were visited.
        divergences: (B, n).
        ends: (B,) the entropies.
        terms: how many divergences there are in all.
    """

    levels: Tensor
    divergences: Tensor
    ends: Tensor
    terms: int

    @property
    def K(self) -> Tensor:
        """(B,); where not every level was visited, those that were stand for the others."""
        return self.ends - self.terms * self.divergences.mean(1)


def gaussian_null(dims: int) -> float:
    """L_null, bits: how likely data of unit variance are under N(0, 1) (section 3)."""
    return -dims / 2 * math.log2(2 * math.pi * math.e)
