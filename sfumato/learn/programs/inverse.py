"""The program of the lesson on inverse problems: the posterior mean by Tweedie's covariance (Rozet et al. 2024), and DDIM with it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data import open_source, to_float, to_uint8
from sfumato.inverse import MeanPool
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, block, near, normal, shown, states, tensor

TASK = r"""What was seen of $x_0$ is $y = A x_0 + n$, with a matrix `A` (M, D), `y` (M,) and noise $n$ of standard deviation `noise`. `denoise(x, t)` says
$\mathbb{E}[x_0 \mid x_t]$ for rows `x` (N, D); `bars` holds $\bar\alpha_0, \dots, \bar\alpha_T$, so $\alpha = \sqrt{\bar\alpha_t}$ and $\sigma = \sqrt{1-\bar\alpha_t}$. Write

- `posterior_mean(denoise, x, t, bars, A, y, noise)`: $\mathbb{E}[x_0 \mid x_t, y]$ for each row, as MMPS has it. With $\hat x_0$ what `denoise` says and the covariance
  $V = \frac{\sigma^2}{\alpha}\,\frac{\partial \hat x_0}{\partial x}$ of that row (D, D), it is $\hat x_0 + V A^\top(\text{noise}^2 I + A V A^\top)^{-1}(y - A\hat x_0)$.
- `sample(denoise, x, steps, bars, A, y, noise)`: DDIM as in its lesson, from $t = T$ at evenly spaced whole times, with this mean in the place of $\hat x_0$ and
  the noise that follows from it, $\hat\epsilon = (x - \alpha\,\hat x_0)/\sigma$. Give back all `steps + 1` states, the start first.

`denoise` is made of torch's operations, so `torch.autograd.grad(x0[:, i].sum(), x, retain_graph=True)[0]` is row $i$ of every $\partial\hat x_0/\partial x$, (N, D). The check has
Gaussian data, for which all this is exact. Then your sampler restores digits that were seen as 4x4 pixels."""

STUB = '''def posterior_mean(denoise, x, t, bars, A, y, noise):
    """x (N, D) at level t -> the mean of x_0 given x and y, (N, D)"""
    ...


def sample(denoise, x, steps, bars, A, y, noise):
    """x (N, D) at t = T -> a list of steps + 1 states, the last at t = 0"""
    ...
'''

SOLUTION = """def posterior_mean(denoise, x, t, bars, A, y, noise):
    a = bars[t]
    x = x.detach().requires_grad_()
    x0 = denoise(x, t)
    rows = [torch.autograd.grad(x0[:, i].sum(), x, retain_graph=True)[0] for i in range(x.shape[1])]
    V = (1 - a) / a**0.5 * torch.stack(rows, dim=1)
    S = noise**2 * torch.eye(len(A)) + A @ V @ A.T
    x0 = x0.detach()
    residual = (y - x0 @ A.T)[:, :, None]
    return x0 + (V @ A.T @ torch.linalg.solve(S, residual))[:, :, 0]


def sample(denoise, x, steps, bars, A, y, noise):
    T = len(bars) - 1
    times = [round(T * k / steps) for k in range(steps, -1, -1)]
    states = [x]
    for t, s in zip(times[:-1], times[1:]):
        a, b = bars[t], bars[s]
        x0 = posterior_mean(denoise, x, t, bars, A, y, noise)
        eps = (x - a**0.5 * x0) / (1 - a) ** 0.5
        x = b**0.5 * x0 + (1 - b) ** 0.5 * eps
        states.append(x)
    return states
"""

MEAN = torch.tensor([0.5, -0.2, 0.1], dtype=torch.float64)
COVARIANCE = torch.tensor([[1.0, 0.7, 0.0], [0.7, 0.8, 0.2], [0.0, 0.2, 0.3]], dtype=torch.float64)
SEEN = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]], dtype=torch.float64)
"""Gaussian data of three numbers, of which two are seen: the sum of the first and the third, and twice the second."""


def _given(model: Callable[[Tensor, int], Tensor]) -> Any:
    """A model that computes in float64 whatever it is handed, with gradients, and answers in the precision of x."""

    def asked(x: Any, t: Any) -> Tensor:
        given = x if isinstance(x, Tensor) else torch.as_tensor(np.asarray(x, dtype=np.float64))
        return model(given.double(), int(t)).to(given.dtype)

    return asked


def _gaussian(x: Tensor, t: int) -> Tensor:
    """E[x_0 | x_t] of data N(MEAN, COVARIANCE)."""
    a, one = BARS[t], torch.eye(3, dtype=torch.float64)
    gain = a.sqrt() * COVARIANCE @ torch.linalg.inv(a * COVARIANCE + (1 - a) * one)
    return MEAN + (x - a.sqrt() * MEAN) @ gain.T


def _posterior(y: Tensor, noise: float, x: Tensor | None = None, t: int = 0) -> tuple[Tensor, Tensor]:
    """Mean and covariance of x_0 given y, and given x_t too: precisions and what they weigh are added up."""
    inverse = torch.linalg.inv(COVARIANCE)
    precision, weighed = inverse + SEEN.T @ SEEN / noise**2, inverse @ MEAN + SEEN.T @ y / noise**2
    if x is not None:
        a = BARS[t]
        precision = precision + a / (1 - a) * torch.eye(3, dtype=torch.float64)
        weighed = weighed + a.sqrt() / (1 - a) * x
    covariance = torch.linalg.inv(precision)
    return weighed @ covariance, covariance


def check(namespace: Namespace) -> None:
    """The mean of Gaussian data by adding precisions; rows by themselves; mean and covariance of the samples."""
    posterior_mean, sample = wanted(namespace, "posterior_mean"), wanted(namespace, "sample")
    y, x = torch.tensor([1.0, -0.9], dtype=torch.float64), normal(0, 5, 3)
    A = SEEN.float()
    for noise in (0.3, 1.5):
        for t in (30, 300, 900):
            made = posterior_mean(_given(_gaussian), x.float(), t, BARS, A, y.float(), noise)
            found, expected = tensor(made, "posterior_mean", (5, 3)), _posterior(y, noise, x, t)[0]
            at = int((found - expected).abs().amax(1).argmax())
            assert torch.allclose(found, expected, atol=5e-3), tr(
                "data are Gaussian, at t = {t} with noise {noise:g}: given x_t and y the mean of x_0 is {expected}, by adding up precisions; "
                "yours is {found}. V is sigma^2 / alpha times the derivative of the denoiser, and the noise enters as its square",
                t=t,
                noise=noise,
                expected=shown(expected[at]),
                found=shown(found[at]),
            )
    _check_rows(posterior_mean)
    _check_samples(sample, y)


def _check_samples(sample: Any, y: Tensor) -> None:
    """Of a start whose mean is 0 and whose covariance is 1, exactly: both go through steps that are linear."""
    start, A = normal(1, 300, 3), SEEN.float()
    start = start - start.mean(0)
    start = (start @ torch.linalg.inv(torch.linalg.cholesky(start.T @ start / 299)).T).float()
    for noise in (0.5, 1.5):
        mean, covariance = _posterior(y, noise)
        found = states(sample(_given(_gaussian), start, 250, BARS, A, y.float(), noise), "sample", 251, (300, 3))
        assert torch.allclose(found[0], start.double(), atol=1e-5), "the first state is the start itself"
        end, spread = found[-1].mean(0), found[-1].var(0)
        assert near(spread, covariance.diagonal(), 0.1), tr(
            "in 250 steps, with noise {noise:g}, samples have the posterior's variances {expected}; yours {found}. Each step uses the mean "
            "given y, the noise that is carried on follows from it, and none is drawn",
            noise=noise,
            expected=shown(covariance.diagonal()),
            found=shown(spread),
        )
        assert torch.allclose(end, mean, atol=0.03), tr(
            "in 250 steps, with noise {noise:g}, samples have the posterior's mean {expected}; yours {found}",
            noise=noise,
            expected=shown(mean),
            found=shown(end),
        )


def _check_rows(posterior_mean: Any) -> None:
    """A denoiser that is no line: each row has a covariance of its own."""

    def curved(x: Tensor, t: int) -> Tensor:
        return torch.tanh(x) + 0.2 * torch.tanh(x.roll(1, 1) + x)

    y, x = torch.tensor([0.4, 0.2]), normal(2, 4, 3).float()
    together, alone = (
        tensor(found, "posterior_mean", (4, 3))
        for found in (
            posterior_mean(_given(curved), x, 400, BARS, SEEN.float(), y, 0.5),
            torch.cat(
                [
                    torch.as_tensor(posterior_mean(_given(curved), row, 400, BARS, SEEN.float(), y, 0.5))
                    for row in x.split(1)
                ]
            ),
        )
    )
    assert torch.allclose(together, alone, atol=1e-3), (
        "where the denoiser is no line, a row's mean depends on the other rows of its batch: each has its own derivative, (D, D)"
    )
    a = BARS[400]
    jacobian = torch.autograd.functional.jacobian(lambda row: curved(row[None], 400)[0], x[0].double())
    x0, seen = curved(x[:1].double(), 400)[0], SEEN
    V = (1 - a) / a.sqrt() * jacobian
    expected = x0 + V @ seen.T @ torch.linalg.inv(0.25 * torch.eye(2) + seen @ V @ seen.T) @ (y.double() - seen @ x0)
    assert torch.allclose(together[0], expected, atol=1e-3), tr(
        "for a denoiser that is no line the mean of the first row is {expected}, yours {found}: row i of the derivative is that of the "
        "i-th prediction",
        expected=shown(expected),
        found=shown(together[0]),
    )


def figure(namespace: Namespace) -> Figure:
    """Three digits that are not among the known ones, seen as 4x4 pixels, and four draws of each by the answer."""
    digits = to_float(open_source("digits").images).flatten(1).double()
    known, width = digits[:500], 0.15
    pool = torch.eye(64, dtype=torch.float64).reshape(64, 1, 8, 8)
    A = MeanPool(2)(pool).flatten(1).T.float()  # (16, 64)
    bars = BARS[::20]

    def denoise(x: Tensor, t: int) -> Tensor:
        """Of known digits, each with a little noise in every pixel."""
        a = bars[t]
        variance = a * width**2 + 1 - a
        share = (-torch.cdist(x, a.sqrt() * known).square() / (2 * variance)).softmax(1)
        mean = share @ known
        return mean + a.sqrt() * width**2 / variance * (x - a.sqrt() * mean)

    rows, off = [], []
    for k, index in enumerate((1402, 1404, 1408)):
        truth = digits[index]
        y = A @ truth.float()
        made = namespace["sample"](_given(denoise), normal(k, 4, 64).float(), 25, bars, A, y, 0.05)
        film = states(made, "sample", 26, (4, 64))
        off.append(float((film[-1] @ A.double().T - y).square().mean().sqrt()))
        small = (y.reshape(1, 4, 4).repeat_interleave(2, 1).repeat_interleave(2, 2)).reshape(1, 64).double()
        rows.append(torch.cat([torch.cat([truth[None], small]).expand(26, 2, 64), film], dim=1))
    grey = to_uint8(torch.cat(rows, dim=1).reshape(-1, 18, 1, 8, 8).float())
    framed = torch.nn.functional.pad(grey, (1, 1, 1, 1), value=128)
    name = tr(
        "the digit, what was seen of it, four draws; A x is {off:.2f} from what was seen, whose noise is 0.05",
        off=sum(off) / 3,
    )
    return figures.frames({name: torch.stack([block(state, columns=6) for state in framed])})


PROGRAM = Exercise(
    "inverse.program", "Draws from the posterior", TASK, STUB, SOLUTION, check, figure=figure, seconds=90.0,
    hints=(
        "x = x.detach().requires_grad_() and x0 = denoise(x, t); the derivative of each row is torch.stack of D gradients, dim=1: (N, D, D).",
        "V = (1 - a) / a ** 0.5 times that, with a = bars[t]. A @ V @ A.T works on all rows at once: (N, M, M).",
        "torch.linalg.solve(S, residual[:, :, None]) with residual = y - x0 @ A.T (N, M); V @ A.T times it, [:, :, 0] in the end. Detach x0.",
        "sample: as in the lesson on DDIM, x0 = posterior_mean(...) and eps = (x - a ** 0.5 * x0) / (1 - a) ** 0.5.",
    ),
)  # fmt: skip
