"""Binomial diffusion: bits that are replaced, step by step, by the throw of a coin (Sohl-Dickstein et al. 2015, B.2).

A sibling of `processes.GaussianDiffusion` with the same questions and the same answers in form: q(x_t | x_0), the
posterior between any two levels, a prior. There is no noise to predict and no score, so a prediction is a probability.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sfumato.core.distributions import Noise
from sfumato.core.sampling import Past, Step
from sfumato.core.schedules import like

TINY = 1e-12


@dataclass(frozen=True)
class Bernoulli:
    """Independent bits x in {0, 1}, each 1 with probability p (B, ...)."""

    p: Tensor

    @property
    def mean(self) -> Tensor:
        return self.p

    def sample(self, noise: Noise = torch.randn_like) -> Tensor:
        """1 where a standard normal draw falls below the quantile of p: the same `noise` as everywhere else."""
        return (torch.special.ndtr(noise(self.p)) < self.p).to(self.p.dtype)

    def kl(self, other: Bernoulli) -> Tensor:
        """KL(self || other) in nats, per bit."""
        return _part(self.p, other.p) + _part(1 - self.p, 1 - other.p)

    def log_prob(self, x: Tensor) -> Tensor:
        """log probability of bits x, nats, per bit."""
        return torch.where(x > 0.5, self.p, 1 - self.p).clamp(min=TINY).log()

    def entropy(self) -> Tensor:
        """nats, per bit."""
        return -torch.xlogy(self.p, self.p) - torch.xlogy(1 - self.p, 1 - self.p)


def _part(p: Tensor, q: Tensor) -> Tensor:
    return torch.xlogy(p, p) - p * q.clamp(min=TINY).log()


class BinomialDiffusion(nn.Module):
    """q(x_t = 1 | x_{t-1}) = x_{t-1} (1 - beta_t) + pi beta_t on levels 1..T; level 0 is the data.

    Args:
        betas: (T,) the share of bits that each step throws anew, in (0, 1]; `betas.jsd_betas` is the paper's.
        pi: how often the coin shows 1.

    Raises: ValueError for betas outside (0, 1] or pi outside (0, 1).
    """

    keep: Tensor

    def __init__(self, betas: Tensor, pi: float = 0.5) -> None:
        super().__init__()
        betas = betas.double()
        if betas.ndim != 1 or not bool(((betas > 0) & (betas <= 1)).all()):
            raise ValueError(f"betas (T,) lie in (0, 1]; these span {betas.min():.3g} to {betas.max():.3g}")
        if not 0 < pi < 1:
            raise ValueError(f"the coin shows 1 with a probability between 0 and 1, not {pi}")
        self.T, self.pi = len(betas), pi
        self.keep = torch.cat([betas.new_ones(1), torch.cumprod(1 - betas, 0)])  # share of bits not yet thrown

    def marginal(self, x0: Tensor, t: Tensor) -> Bernoulli:
        """q(x_t | x_0). x0 (B, ...) in {0, 1}; t () or (B,)."""
        _binary(x0)
        return Bernoulli(self.pi + (x0 - self.pi) * like(self.keep[t], x0))

    def posterior(self, x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Bernoulli:
        """q(x_s | x_t = x, x_0) for s < t, by Bayes' rule over the two states. x, x0 (B, ...) in {0, 1}."""
        before = self.marginal(x0, s).p
        if_one, if_zero = self._likelihoods(x, t, s)
        joint = before * if_one
        return Bernoulli(joint / (joint + (1 - before) * if_zero))

    def _likelihoods(self, x: Tensor, t: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """q(x_t = x | x_s) for x_s = 1 and for x_s = 0."""
        kept = like(self.keep[t] / self.keep[s], x)
        one = x > 0.5
        if_one, if_zero = kept + self.pi * (1 - kept), self.pi * (1 - kept)
        return torch.where(one, if_one, 1 - if_one).to(x.dtype), torch.where(one, if_zero, 1 - if_zero).to(x.dtype)

    def reverse(self, x: Tensor, p0: Tensor, t: Tensor, s: Tensor) -> Bernoulli:
        """p(x_s | x_t = x) where a bit of x_0 is predicted to be 1 with probability p0 (B, ...).

        The posterior averaged over that. With the true p(x_0 | x_t) it is the exact q(x_s | x_t) of each bit.
        """
        one = self.posterior(x, torch.ones_like(x), t, s).p
        zero = self.posterior(x, torch.zeros_like(x), t, s).p
        # where x_t rules a state of x_0 out, its posterior is 0 / 0 and its weight is 0
        return Bernoulli(p0 * one.nan_to_num(1.0) + (1 - p0) * zero.nan_to_num(0.0))

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Bernoulli:
        """Where sampling starts: throws of the coin."""
        return Bernoulli(torch.full(shape, self.pi, device=device))

    def evidence(self, t: Tensor) -> Tensor:
        """How much a bit of x_t says of x_0: log q(x_t = 1 | x_0 = 1) / q(x_t = 1 | x_0 = 0), of t's shape."""
        kept = self.keep[t]
        return torch.log1p(kept / (self.pi * (1 - kept)))


def _binary(x: Tensor) -> None:
    """ValueError unless these are bits; a graph being traced cannot look."""
    if not torch.compiler.is_compiling() and not bool(((x == 0) | (x == 1)).all()):
        raise ValueError(f"binomial diffusion is of bits, 0 or 1; these values span {x.min():.3g} to {x.max():.3g}")


Believe = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> the probability (B, ...) that each bit of x_0 is 1."""


@dataclass(frozen=True)
class FlipStep:
    """The reverse step of bits, for the sampling loop: `reverse` at what is predicted."""

    process: BinomialDiffusion
    believe: Believe

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        return Step(self.process.reverse(x, self.believe(x, t), t, s), None)


def states(n: int) -> Tensor:
    """All 2^n sequences of n bits, (2^n, n), for brute force. ValueError above 16 bits."""
    if not 0 < n <= 16:
        raise ValueError(f"there are 2^{n} states; brute force is for 1 to 16 bits")
    return (torch.arange(2**n)[:, None] >> torch.arange(n) & 1).double()


def believe_exactly(process: BinomialDiffusion, sequences: Tensor) -> Believe:
    """p(x_0 = 1 | x_t) where x_0 is one of `sequences` (K, D) in {0, 1}, each as likely: data of known answers."""
    _binary(sequences)

    def inner(x: Tensor, t: Tensor) -> Tensor:
        flat = x.flatten(1).double()
        if_one = process.pi + (1 - process.pi) * process.keep[t]
        if_zero = process.pi * (1 - process.keep[t])
        p = torch.where(sequences > 0.5, if_one.reshape(-1, 1, 1), if_zero.reshape(-1, 1, 1))  # (1 or B, K, D)
        log = torch.where(flat[:, None] > 0.5, p, 1 - p).clamp(min=1e-300).log().sum(-1)
        return (log.softmax(-1) @ sequences.double()).reshape(x.shape).to(x.dtype)

    return inner


def coin_entropy(p: float) -> float:
    """Bits of a coin that shows 1 with probability p."""
    return -sum(q * math.log2(q) for q in (p, 1 - p) if q > 0)
