"""How likely data are under a model: the variational bound of a chain, and the likelihood of the probability flow.

The bound's terms are those of Ho et al. 2020, eq. 5, with the decoder of eq. 13, between any two levels (Nichol &
Dhariwal 2021); the flow's likelihood is Song et al. 2021, eq. 39. They are two estimators and never share a name.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian, Noise, discretised_log_prob
from sfumato.core.losses import per_image
from sfumato.core.ode import Field, Solve, probability_flow
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.variances import ReverseVariance, fixed_small, reverse

BIT = math.log(2)


def bound_term(
    process: GaussianDiffusion,
    variance: ReverseVariance,
    prediction: Prediction,
    x0: Tensor,
    t: Tensor,
    s: Tensor,
    above: Tensor,
    levels: int = 256,
) -> Tensor:
    """One term of the bound, bits/dim, (B,): KL(q(x_s | x_t, x_0) || p(x_s | x_t)), or -log p(x_0 | x_t) where s is 0.

    Args:
        prediction: the prediction at x_t.
        x0: (B, C, H, W) images in [-1, 1].
        t, s, above: () or (B,): where x_t is, the level below it in the chain, and the one above it.
        levels: grey levels of the images, 256 of 8 bits; 0 for real numbers, whose decoder is a density.
    """
    p = reverse(process, variance, prediction, t, s, above)
    q = Gaussian(process.posterior(prediction.x, x0, t, s).mean, fixed_small(process, prediction, t, s, above))
    clean = process.schedule.alpha_sigma(s)[1] == 0
    if clean.ndim == 0:
        nats = -per_image(discretised_log_prob(p, x0, levels=levels)) if clean else per_image(q.kl(p))
    else:
        decoded = clean.to(x0.device, non_blocking=True)
        nats = torch.where(decoded, -per_image(discretised_log_prob(p, x0, levels=levels)), per_image(q.kl(p)))
    return nats / BIT


def prior_term(process: GaussianDiffusion, x0: Tensor, t: Tensor) -> Tensor:
    """What the chain's first level, t (), still knows of the image: KL(q(x_t | x_0) || N(0, 1)), bits/dim, (B,)."""
    end = process.marginal(x0, t)
    standard = Gaussian(torch.zeros_like(x0), torch.ones((), dtype=torch.float64))
    return per_image(end.kl(standard)) / BIT


@dataclass(frozen=True)
class Bound:
    """The variational bound of a batch of images, term by term.

    Attributes:
        times: (n + 1,) the levels of the chain, descending to 0.
        prior: (B,) bits/dim.
        terms: (B, n) bits/dim, one a move, in the order of sampling; the last is the decoder's.
        x0_error, eps_error: (B, n) mean squared errors of the predictions at each level.
    """

    times: Tensor
    prior: Tensor
    terms: Tensor
    x0_error: Tensor
    eps_error: Tensor

    @property
    def total(self) -> Tensor:
        """The bound on -log p(x_0), bits/dim, (B,)."""
        return self.prior + self.terms.sum(1)

    @property
    def rate(self) -> Tensor:
        """Bits/dim that are spent once x_t is known, (B, n): the prior and every term before that move."""
        spent = torch.cat([self.prior[:, None], self.terms[:, :-1]], dim=1)
        return spent.cumsum(1)

    @property
    def distortion(self) -> Tensor:
        """Root mean squared error of the x_0 predicted at x_t, in 0..255, (B, n) (Ho et al. 2020, section 4.3)."""
        return 127.5 * self.x0_error.sqrt()


def variational_bound(
    process: GaussianDiffusion,
    denoise: Denoise,
    variance: ReverseVariance,
    x0: Tensor,
    times: Tensor,
    noise: Noise = torch.randn_like,
    levels: int = 256,
) -> Bound:
    """The bound of images x0 (B, C, H, W) under the chain that visits `times` (n + 1,), descending to 0, n >= 2.

    The decoder is that of so many grey levels, or a density of real numbers where they are 0. x_t is drawn from
    q(x_t | x_0) anew at each level, so the estimate is unbiased but not exact.
    """
    if len(times) < 3 or times[-1] != 0:
        raise ValueError("the bound needs a chain of at least two moves that ends at clean data")
    terms: list[Tensor] = []
    x0_errors: list[Tensor] = []
    eps_errors: list[Tensor] = []
    above = times[0]
    for t, s in pairwise(times):
        eps = noise(x0)
        prediction = denoise(process.level(t, x0).noise(x0, eps), t)
        terms.append(bound_term(process, variance, prediction, x0, t, s, above, levels))
        x0_errors.append(per_image((prediction.x0 - x0) ** 2))
        eps_errors.append(per_image((prediction.eps - eps) ** 2))
        above = t
    columns = (torch.stack(rows, dim=1) for rows in (terms, x0_errors, eps_errors))
    return Bound(times, prior_term(process, x0, times[0]), *columns)


# ---------------------------------------------------------------- the probability flow


Divergence = Callable[[Field, Tensor, Tensor], tuple[Tensor, Tensor]]
"""(field, x, t) -> the velocity (B, ...) and its divergence (B,)."""


def hutchinson(probes: Tensor) -> Divergence:
    """The divergence's unbiased estimate, the mean of v . J v over probes v (K, B, ...) (Song et al. 2021, eq. 40).

    Probes are normal or Rademacher noise, and stay the same along the flow, which keeps it smooth.
    """

    def divergence(field: Field, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            x = x.detach().clone().requires_grad_()
            velocity = field(x, t)
            total = torch.zeros(len(x), dtype=x.dtype, device=x.device)
            for i, v in enumerate(probes):
                (product,) = torch.autograd.grad(velocity, x, v, retain_graph=i + 1 < len(probes))
                total = total + (product * v).flatten(1).sum(1)
        return velocity.detach(), total / len(probes)

    return divergence


def exact_divergence(field: Field, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """The trace of the Jacobian, one backward pass a dimension: for data of few dimensions."""
    D = x[0].numel()
    basis = (D**0.5 * torch.eye(D, dtype=x.dtype, device=x.device)).reshape(D, 1, *x.shape[1:])
    return hutchinson(basis.expand(D, *x.shape))(field, x, t)


def flow_log_prob(
    process: GaussianDiffusion,
    denoise: Denoise,
    x: Tensor,
    solve: Solve,
    divergence: Divergence = exact_divergence,
    start: float = 1e-5,
) -> tuple[Tensor, Tensor]:
    """log density, nats, (B,), of data x (B, ...) under the probability flow, and their latents (B, ...).

    log p(x) = log prior(z) + the integral of the divergence along the way to z (Song et al. 2021, eq. 39), from time
    `start`, where the data are taken to be.

    Args:
        solve: `runge_kutta(steps)`, or an adaptive solver.
        divergence: `exact_divergence`, or `hutchinson(probes)`.
    """
    field = probability_flow(process, denoise)
    zero = torch.zeros(len(x), dtype=x.dtype, device=x.device)
    z, gained = solve(lambda t, state: divergence(field, state[0], t), (x, zero), start, process.schedule.end)
    prior = process.prior(tuple(x.shape), x.device)
    return prior.log_prob(z).flatten(1).sum(1) + gained, z


def bits_per_dim(log_prob: Tensor, dims: int, width: float) -> Tensor:
    """-log2 of the probability of a bin of this width, a dimension, (B,): from a density in nats (B,) to bits/dim.

    256 bins over [-1, 1] have the width 1 / 128, which adds 7 bits, 65536 have 2 / 65536, which adds 15; over [0, 1] it
    would be one more.
    """
    return -log_prob / (dims * BIT) - math.log2(width)
