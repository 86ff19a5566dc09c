"""What the lessons derive of entropies, small steps, rates and conditional scores, evaluated: one test a derivation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sfumato.claims.toys import cosine, linear, normal
from sfumato.core.continuous import VP
from sfumato.core.exact import GaussianMixture, gaussian
from sfumato.core.likelihood import bound_term, variational_bound
from sfumato.core.schedules import Level
from sfumato.core.variances import fixed_small


def close(a: float | Tensor, b: float | Tensor, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    a, b = (torch.as_tensor(c, dtype=torch.float64) for c in (a, b))
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


# ---------------------------------------------------------------- bits: entropies of the reverse steps


def entropy(p: Tensor) -> float:
    """In nats, of any table of probabilities."""
    return float(-(p * p.clamp(min=1e-300).log()).sum())


def test_bits_entropies() -> None:
    """Three bits and data on two of their eight states, by tables: the bounds, what lies between, and both sums."""
    n, betas = 3, [0.1, 0.2, 0.4, 0.6, 0.9, 1.0]
    states = list(itertools.product((0, 1), repeat=n))
    data = torch.zeros(8, dtype=torch.float64)
    data[states.index((1, 0, 0))], data[states.index((0, 1, 1))] = 0.3, 0.7

    def kernel(keep: float) -> Tensor:
        """Rows where from, columns where to."""
        flips = torch.tensor(
            [[sum(a != b for a, b in zip(x, y, strict=True)) for y in states] for x in states]
        ).double()
        return (0.5 * (1 - keep)) ** flips * (0.5 * (1 + keep)) ** (n - flips)

    def of_a_bit(p: float) -> float:
        return entropy(torch.tensor([p, 1 - p], dtype=torch.float64))

    keep, above_lower, apart = 1.0, 0.0, 0.0
    for beta in betas:
        to_s, step = kernel(keep), kernel(1 - beta)
        keep_t = keep * (1 - beta)
        to_t = kernel(keep_t)
        joint = (data[:, None] * to_s)[:, :, None] * step  # of x_0, x_{t-1}, x_t
        given_t = entropy(joint.sum(0)) - entropy(joint.sum((0, 1)))
        given_both = entropy(joint) - entropy(joint.sum(1))
        forward = n * of_a_bit(beta / 2)
        lower = forward + n * of_a_bit(0.5 + 0.5 * keep) - n * of_a_bit(0.5 + 0.5 * keep_t)
        close(given_both, lower, atol=1e-9)
        assert lower <= given_t <= forward + 1e-12
        on_data = [entropy(data[:, None] * k) - entropy(data @ k) for k in (to_s, to_t)]  # H(X_0 | X_s), H(X_0 | X_t)
        close(given_t - lower, on_data[1] - on_data[0], atol=1e-9)
        above_lower, apart, keep = above_lower + given_t - lower, apart + forward - lower, keep_t
    close(above_lower, entropy(data), atol=1e-9)  # nothing is left at the last level
    close(apart, n * math.log(2), atol=1e-9)
    narrow, wide = (0.5 * math.log(v * 0.9 + 0.1) - 0.5 * math.log(v) for v in (0.5, 2.0))
    assert narrow > 0 > wide  # Gaussians: the entropy of what is wider than N(0, I) falls


# ---------------------------------------------------------------- spiral: the reverse of a small step


def test_spiral_feller() -> None:
    weights, means = torch.tensor([0.4, 0.6]).double(), torch.tensor([[-1.0], [0.8]]).double()
    mixture = GaussianMixture(weights, means, torch.tensor([[0.5], [0.7]]).double())
    kls = []
    for beta in (1e-2, 1e-3):
        a, at = math.sqrt(1 - beta), torch.tensor([[0.3]], dtype=torch.float64)
        m, tau = at / a, math.sqrt(beta) / a
        x = m.clone().requires_grad_()
        derivative, found = mixture.log_prob(x).sum(), []
        for _ in range(3):
            (gradient,) = torch.autograd.grad(derivative, x, create_graph=True)
            derivative = gradient.sum()
            found.append(float(derivative.detach()))
        first, second, third = found
        u = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
        log_q = -0.5 * u**2 + mixture.log_prob(m + tau * u[:, None])
        q = log_q.softmax(0)
        mean = float((q * u).sum())
        variance = float((q * (u - mean) ** 2).sum())
        close(tau**2 * variance, tau**2 / (1 - tau**2 * second), rtol=20 * beta**2)
        close(tau * mean, tau**2 * first / (1 - tau**2 * second), rtol=20 * beta)
        gauss = (-0.5 * (u - mean) ** 2 / variance).softmax(0)
        keep = gauss > 1e-250
        kls.append(float((q * (q / gauss).log())[keep].sum()))
        assert kls[-1] == pytest.approx(tau**6 * third**2 / 12, rel=15 * beta)
    assert kls[0] / kls[1] == pytest.approx(1000, rel=0.2)  # ten times as long a step, a thousand times as far


# ---------------------------------------------------------------- DDPM: rate and distortion


def test_ddpm_rate() -> None:
    v = torch.tensor([2.0, 0.5, 0.1, 0.02], dtype=torch.float64)
    data = gaussian(torch.zeros(4, dtype=torch.float64), v.sqrt())

    def snr(process: object, t: Tensor) -> float:
        return float(process.schedule.log_snr(t).exp())  # type: ignore[attr-defined]

    # one term of the bound is half the step in SNR times the squared error, sample by sample
    process, T, S = linear(), torch.tensor(600), torch.tensor(599)
    x0 = data.sample(5, torch.Generator().manual_seed(0))
    x = process.level(T, x0).noise(x0, normal(1, 5, 4))
    prediction = data.denoise(process)(x, T)
    term = bound_term(process, fixed_small, prediction, x0, T, S, T + 1, 0)  # bits/dim
    square = (prediction.x0 - x0).square().sum(1)
    close(4 * math.log(2) * term, 0.5 * (snr(process, S) - snr(process, T)) * square, rtol=1e-6)

    # the sum of the terms above a level is the area, from above, and half the log of 1 + SNR v in the limit
    exact = 0.5 * (1 + snr(process, T) * v).log().sum()
    sums = []
    for stride in (40, 4, 1):
        grid = torch.arange(1000, 599, -stride)
        errors = [float((v / (1 + snr(process, t) * v)).sum()) for t in grid]
        steps = [snr(process, b) - snr(process, a) for a, b in itertools.pairwise(grid)]
        start = 0.5 * snr(process, grid[0]) * errors[0]
        sums.append(start + 0.5 * sum(e * d for e, d in zip(errors, steps, strict=False)))
    assert sums[0] > sums[1] > sums[2] > float(exact)
    assert sums[2] == pytest.approx(float(exact), rel=0.01)

    # and the same from the library's own bound, by sampling
    many = data.sample(4000, torch.Generator().manual_seed(1))
    times = torch.cat([torch.arange(1000, 599, -4), torch.tensor([0])])
    bound = variational_bound(
        process, data.denoise(process), fixed_small, many, times, lambda x: normal(2, *x.shape), 0
    )
    spent = 4 * math.log(2) * float(bound.rate[:, -1].mean())
    prior = 4 * math.log(2) * float(bound.prior.mean())
    assert spent - prior == pytest.approx(sums[1] - 0.5 * snr(process, torch.tensor(1000)) * float(v.sum()), rel=0.03)

    def water(distortion: float) -> float:
        """The least rate of any code, by bisection of the water level."""
        low, high = 0.0, float(v.max())
        for _ in range(200):
            theta = (low + high) / 2
            low, high = (theta, high) if float(v.clamp(max=theta).sum()) < distortion else (low, theta)
        return float(0.5 * (v / theta).log().clamp(min=0).sum())

    gaps = []
    for rho in (1.0, 10.0, 1000.0):
        distortion, rate = float((v / (1 + rho * v)).sum()), float(0.5 * (1 + rho * v).log().sum())
        gaps.append((rate - water(distortion)) / rate)
    assert gaps[0] > gaps[1] > gaps[2] > 0
    assert gaps[0] > 0.05
    assert gaps[2] < 0.01
    equal = torch.full((3,), 0.7, dtype=torch.float64)
    for rho in (0.5, 5.0):
        rate = float(0.5 * (1 + rho * equal).log().sum())
        close((equal / (1 + rho * equal)).sum(), 3 * 0.7 * math.exp(-2 * rate / 3))
    a, b = (float((v / (1 + rho * v)).sum()) for rho in (1e5, 4e5))
    close(a / b, 4.0, rtol=1e-2)
    bits = [float(0.5 * (1 + rho * v).log2().sum()) / 4 for rho in (1e5, 4e5)]
    close(bits[1] - bits[0], 1.0, rtol=1e-2)


# ---------------------------------------------------------------- Score-SDE: conditional generation


def test_score_sde_conditional() -> None:
    """Bayes' rule for scores, the error of imputation on two correlated numbers, and the score after a rotation."""
    weights, means = torch.tensor([0.3, 0.7]).double(), torch.tensor([[-1.0, 0.2], [0.8, -0.5]]).double()
    mixture = GaussianMixture(weights, means, torch.full((2, 2), 0.4).double())
    level = Level(*(c for c in VP().alpha_sigma(torch.tensor(0.4, dtype=torch.float64))))
    x = normal(0, 6, 2).requires_grad_()
    (score,) = torch.autograd.grad(mixture.log_prob(x, level).sum(), x, retain_graph=True)
    (of_class,) = torch.autograd.grad(mixture.responsibilities(x, level)[:, 1].log().sum(), x)
    alone = gaussian(means[1], torch.full((2,), 0.4).double())
    (wanted,) = torch.autograd.grad(alone.log_prob(x, level).sum(), x)
    close(score + of_class, wanted, rtol=1e-7)

    # imputation: numbers a, b of unit variance and correlation 0.8, a known; score of b at a's own noisy value
    rho, y = 0.8, 1.0
    alpha, sigma = (float(c) for c in cosine().schedule.alpha_sigma(torch.tensor(500)))
    b = torch.linspace(-2, 2, 5, dtype=torch.float64)
    a_t = alpha * y + sigma * normal(1, 200_000)[:, None]
    correlation = alpha**2 * rho
    filled = (-(b - correlation * a_t) / (1 - correlation**2)).mean(0)
    right = -(b - alpha * rho * y) / (alpha**2 * (1 - rho**2) + sigma**2)
    assert float((filled - right).abs().max()) > 0.1  # not the conditional score
    late = [float(c) for c in cosine().schedule.alpha_sigma(torch.tensor(5))]
    known = late[0] ** 2 * rho
    close(
        -(b - known * late[0] * y) / (1 - known**2),
        -(b - late[0] * rho * y) / (late[0] ** 2 * (1 - rho**2) + late[1] ** 2),
        rtol=1e-3,
    )  # without noise it is

    # colouring: an orthonormal matrix whose first row is the grey value
    M = torch.linalg.qr(torch.cat([torch.ones(3, 1), torch.eye(3)[:, :2]], 1).double())[0].T
    M = M * M[0, 0].sign()
    close(M @ M.T, torch.eye(3))
    close(M[0], torch.full((3,), 1 / math.sqrt(3), dtype=torch.float64))
    covariance = torch.tensor([[1.0, 0.5, 0.2], [0.5, 0.8, 0.1], [0.2, 0.1, 0.6]]).double()
    colour = normal(2, 4, 3)
    close(-(colour @ M.T) @ torch.linalg.inv(M @ covariance @ M.T), (-colour @ torch.linalg.inv(covariance)) @ M.T)
