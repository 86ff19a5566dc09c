"""The program of the lesson on Improved DDPM (Nichol & Dhariwal 2021): the learned variance and the hybrid loss."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sfumato.claims.toys import linear, ring, sliced_distance
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, normal, states, tensor

TASK = r"""Improved DDPM learns the variance of a reverse step. With `a` $=\bar\alpha_t$ and `b` $=\bar\alpha_{t-1}$ (numbers), $\beta = 1 - a/b$ and
$\tilde\beta = \frac{1-b}{1-a}\beta$, a network says $\hat\epsilon$ and $v$, and a step draws from $N(\mu(\hat\epsilon), \sigma^2)$ with (eq. 15)

$$\sigma^2 = \exp(v \log\beta + (1-v)\log\tilde\beta), \qquad \mu(\epsilon) = \sqrt{b/a}\left(x_t - \frac{\beta}{\sqrt{1-a}}\,\epsilon\right)$$

Write, for tensors (N, D) each,

- `vlb(eps_hat, v, x0, eps, a, b)`: the Kullback-Leibler divergence in nats, number by number (N, D), of the true
  $q(x_{t-1} \mid x_t, x_0)$ from that step. The true one has the mean $\mu(\epsilon)$ with the noise `eps` that was added, and the variance $\tilde\beta$.
- `hybrid(eps_hat, v, x0, eps, a, b)`: $L_\text{simple} + 0.001\,L_\text{vlb}$ (eq. 16), both as means over all numbers; the gradient of the second reaches
  `v` alone, not `eps_hat`.

The check integrates the divergence numerically and looks at both gradients. Then variances are learned with your loss."""

STUB = '''def vlb(eps_hat, v, x0, eps, a, b):
    """-> (N, D), in nats"""
    ...


def hybrid(eps_hat, v, x0, eps, a, b):
    """-> one number"""
    ...
'''

SOLUTION = """def vlb(eps_hat, v, x0, eps, a, b):
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    beta = 1 - a / b
    beta_tilde = (1 - b) / (1 - a) * beta
    x = a.sqrt() * x0 + (1 - a).sqrt() * eps

    def mean(noise):
        return (b / a).sqrt() * (x - beta / (1 - a).sqrt() * noise)

    log_true = beta_tilde.log()
    log_ours = v * beta.log() + (1 - v) * log_true
    apart = (mean(eps) - mean(eps_hat)) ** 2
    return 0.5 * (log_ours - log_true + (beta_tilde + apart) / log_ours.exp() - 1)


def hybrid(eps_hat, v, x0, eps, a, b):
    simple = ((eps_hat - eps) ** 2).mean()
    return simple + 0.001 * vlb(eps_hat.detach(), v, x0, eps, a, b).mean()
"""


def _integrated(apart: Tensor, true: float, ours: Tensor) -> Tensor:
    """KL(N(0, true) || N(apart, ours)) by summing over a grid of 20,001 points."""
    z = torch.linspace(-10, 10, 20_001, dtype=torch.float64)[:, None] * true**0.5
    p = torch.exp(-(z**2) / (2 * true))
    p = p / p.sum()
    log_ratio = -(z**2) / (2 * true) + (z - apart) ** 2 / (2 * ours) + 0.5 * (ours / true).log()
    return (p * log_ratio).sum(0)


def check(namespace: Namespace) -> None:
    """The divergence by numerical integration, and the gradients of the hybrid loss by its two terms."""
    vlb, hybrid = wanted(namespace, "vlb"), wanted(namespace, "hybrid")
    x0, eps, error = normal(0, 3, 2), normal(1, 3, 2), 0.3 * normal(2, 3, 2)
    v = torch.tensor([[0.0, 1.0], [0.5, 0.2], [0.9, 0.4]], dtype=torch.float64)
    for t in (2, 30, 700):
        a, b = float(BARS[t]), float(BARS[t - 1])
        beta = 1 - a / b
        true = (1 - b) / (1 - a) * beta
        slope = (b / a) ** 0.5 * beta / (1 - a) ** 0.5  # of the mean in the noise
        ours = beta**v * true ** (1 - v)
        expected = _integrated((slope * error).flatten(), true, ours.flatten()).reshape(3, 2)
        found = tensor(vlb(eps + error, v, x0, eps, a, b), "vlb", (3, 2))
        assert torch.allclose(found, expected, rtol=5e-3, atol=2e-4), tr(
            "at t = {t} integration gives KL = {kl_half:.5f} nats for v = 0.5, yours is {yours_half:.5f}; for v = 0 "
            "and v = 1 {kl_tilde:.5f} and {kl_beta:.5f}, yours {yours_tilde:.5f} and "
            "{yours_beta:.5f}. v weighs logarithms, 1 is beta; the true Gaussian comes first in the divergence",
            t=t,
            kl_half=float(expected[1, 0]),
            yours_half=float(found[1, 0]),
            kl_tilde=float(expected[0, 0]),
            kl_beta=float(expected[0, 1]),
            yours_tilde=float(found[0, 0]),
            yours_beta=float(found[0, 1]),
        )
    _check_gradients(hybrid, x0, eps, error, v)


def _check_gradients(hybrid: Any, x0: Tensor, eps: Tensor, error: Tensor, v: Tensor) -> None:
    """Of the noise: that of the simple loss alone. Of v: that of the divergence, a thousandth."""
    a, b = float(BARS[2]), float(BARS[1])
    said, share = (eps + error).requires_grad_(), v.clone().requires_grad_()
    value = hybrid(said, share, x0, eps, a, b)
    assert isinstance(value, Tensor), "hybrid is a tensor with one number, so that one can call backward()"
    assert value.numel() == 1, tr("hybrid is one number, yours has shape {shape}", shape=tuple(value.shape))
    assert value.requires_grad, "the loss has lost its gradient"
    of_noise, of_share = torch.autograd.grad(value, (said, share), allow_unused=True)
    assert of_noise is not None, "the simple loss must reach eps_hat"
    simple = 2 * error / error.numel()
    assert torch.allclose(of_noise.double(), simple, rtol=5e-5, atol=2e-6), tr(
        "the gradient in eps_hat is that of the simple loss alone, first {simple:.6f}; yours is "
        "{of_noise:.6f}. The mean over all numbers, and eps_hat.detach() in the second term",
        simple=float(simple[0, 0]),
        of_noise=float(of_noise[0, 0]),
    )
    assert of_share is not None, "the second term must reach v: v is learned by it alone"
    beta = 1 - a / b
    true = (1 - b) / (1 - a) * beta
    slope, h = (b / a) ** 0.5 * beta / (1 - a) ** 0.5, 1e-4
    sides = [
        _integrated((slope * error).flatten(), true, (beta**w * true ** (1 - w)).flatten()) for w in (v + h, v - h)
    ]
    expected = 0.001 * ((sides[0] - sides[1]) / (2 * h)).reshape(3, 2) / error.numel()
    assert torch.allclose(of_share.double(), expected, rtol=1e-2, atol=float(expected.abs().max()) * 1e-2), tr(
        "the gradient in v is a thousandth of that of the mean divergence, first {expected:.3g}; yours is "
        "{of_share:.3g}",
        expected=float(expected[0, 0]),
        of_share=float(of_share[0, 0]),
    )


def figure(namespace: Namespace) -> Figure:
    """Eight long steps on the ring: v of each learned with the answer's loss, beside both fixed variances."""
    times, denoise = [1000, 875, 750, 625, 500, 375, 250, 125, 0], ring().denoise(linear())
    generator = torch.Generator().manual_seed(3)
    x0, v = ring().sample(2000, generator), torch.full((8,), 0.5, dtype=torch.float64, requires_grad=True)
    pairs = list(pairwise(times[:-1]))  # the last step has no posterior variance to learn
    optimizer, known = torch.optim.Adam([v], lr=0.05), []
    for t, _ in pairs:
        eps = torch.randn(x0.shape, generator=generator, dtype=torch.float64)
        x = BARS[t].sqrt() * x0 + (1 - BARS[t]).sqrt() * eps
        known.append((denoise(x, torch.tensor(t)).eps, eps))
    for _ in range(60):
        optimizer.zero_grad()
        losses = [namespace["hybrid"](said, v[k].expand(2000, 2), x0, eps, float(BARS[t]), float(BARS[s]))
                  for k, ((t, s), (said, eps)) in enumerate(zip(pairs, known, strict=True))]  # fmt: skip
        torch.stack([1000 * loss for loss in losses]).sum().backward()
        optimizer.step()
    runs, real = {}, ring().sample(1000, torch.Generator().manual_seed(4))
    for name, shares in (("beta tilde", torch.zeros(8)), (tr("learned"), v.detach()), ("beta", torch.ones(8))):
        film = _sampled(denoise, times, shares.double())
        label = tr("{name}, sliced distance {distance:.3f}", name=name, distance=sliced_distance(film[-1], real))
        runs[label] = states(film, "sample", 9, (1000, 2))
    return figures.scrubber(runs, real[:600])


def _sampled(denoise: Any, times: list[int], shares: Tensor) -> list[Tensor]:
    """The ancestral sampler with a variance between both, by v of each step."""
    x, generator = normal(5, 1000, 2), torch.Generator().manual_seed(6)
    film = [x]
    for k, (t, s) in enumerate(pairwise(times)):
        a, b = BARS[t], BARS[s]
        beta = 1 - a / b
        x = (b / a).sqrt() * (x - beta / (1 - a).sqrt() * denoise(x, torch.tensor(t)).eps)
        if s:
            variance = beta ** shares[k] * ((1 - b) / (1 - a) * beta) ** (1 - shares[k])
            x = x + variance.sqrt() * torch.randn(x.shape, generator=generator, dtype=x.dtype)
        film.append(x)
    return film


PROGRAM = Exercise(
    "iddpm.program", "The learned variance", TASK, STUB, SOLUTION, check, figure=figure, seconds=60.0,
    hints=(
        "Two Gaussians with means m, n and variances p (first) and q: KL = (log q - log p + (p + (m - n)^2) / q - 1) / 2.",
        "First make x_t from x0 and eps; one inner function mean(noise) serves for both means.",
        "log_ours = v * log(beta) + (1 - v) * log(beta_tilde). In hybrid, hand eps_hat.detach() to vlb.",
    ),
)  # fmt: skip
