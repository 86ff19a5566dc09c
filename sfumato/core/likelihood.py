"""How likely data are under a model: here the variational bound of the likelihood line, in bits per dimension.

Its terms are those of Ho et al. 2020, eq. 5, with the decoder of eq. 13; between any two levels they hold for strided
chains too (Nichol & Dhariwal 2021). Other likelihoods are other estimators, and never share a name with this one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian, Noise, discretised_log_prob
from sfumato.core.kernels import Std, reverse, small
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion

BIT = math.log(2)


def bound_term(
    process: GaussianDiffusion, std: Std, prediction: Prediction, x0: Tensor, t: Tensor, s: Tensor, above: Tensor
) -> Tensor:
    """One term of the bound, bits/dim, (B,): KL(q(x_s | x_t, x_0) || p(x_s | x_t)), or -log p(x_0 | x_t) where s is 0.

    Args:
        prediction: what the network believes at x_t.
        x0: (B, C, H, W) 8-bit images in [-1, 1].
        t, s, above: () or (B,): where x_t is, the level below it in the chain, and the one above it.
    """
    p = reverse(process, std, prediction, t, s, above)
    q = Gaussian(process.posterior(prediction.x, x0, t, s).mean, small(process, prediction, t, s, above))
    clean = process.schedule.alpha_sigma(s)[1] == 0
    if clean.ndim == 0:
        nats = -per_image(discretised_log_prob(p, x0)) if clean else per_image(q.kl(p))
    else:
        nats = torch.where(clean.to(x0.device), -per_image(discretised_log_prob(p, x0)), per_image(q.kl(p)))
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
        x0_error, eps_error: (B, n) mean squared errors of what the network believed at each level.
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
    process: GaussianDiffusion, denoise: Denoise, std: Std, x0: Tensor, times: Tensor, noise: Noise = torch.randn_like
) -> Bound:
    """The bound of images x0 (B, C, H, W) under the chain that visits `times` (n + 1,), descending to 0, n >= 2.

    x_t is drawn from q(x_t | x_0) anew at each level, so the estimate is unbiased but not exact.
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
        terms.append(bound_term(process, std, prediction, x0, t, s, above))
        x0_errors.append(per_image((prediction.x0 - x0) ** 2))
        eps_errors.append(per_image((prediction.eps - eps) ** 2))
        above = t
    columns = (torch.stack(rows, dim=1) for rows in (terms, x0_errors, eps_errors))
    return Bound(times, prior_term(process, x0, times[0]), *columns)
