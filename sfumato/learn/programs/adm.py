"""The program of the lesson on ADM (Dhariwal & Nichol 2021): sampling guided by a classifier, algorithm 2."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.claims.adm import accuracy, blobs, classify, spread
from sfumato.claims.toys import linear
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, given, normal, shown, states, tensor

TASK = r"""Write algorithm 2 of the paper. `classify(x, t)` gives logits (N, K): the logarithms of the classes' probabilities up to a
number that is the same for all classes of a row. `bars` $= (\bar\alpha_0 = 1, \dots, \bar\alpha_T)$.

- `gradient(classify, x, t, y)`: $\nabla_x \log p(y \mid x)$, a row for each row of `x` (N, 2). `y` (N,) are whole numbers. (Logits to
  log probabilities; the ones of `y`; summed over rows, so that one backward pass gives every row its own gradient.)
- `guided(eps, classify, x, t, y, scale, bars)`: $\hat\epsilon = \epsilon(x, t) - s\,\sqrt{1-\bar\alpha_t}\;\nabla_x \log p(y \mid x)$.
- `sample(eps, classify, x, steps, y, scale, bars)`: DDIM without noise from $t = T$ to 0 with $\hat\epsilon$, at evenly spaced whole times; the list
  of `steps + 1` states.

By Bayes' rule, scale 1 turns the model of all data into the model of one class: the check knows it in closed form."""

STUB = '''def gradient(classify, x, t, y):
    """-> (N, 2)"""
    ...


def guided(eps, classify, x, t, y, scale, bars):
    """-> (N, 2)"""
    ...


def sample(eps, classify, x, steps, y, scale, bars):
    """x (N, 2) at t = T -> a list of steps + 1 states"""
    ...
'''

SOLUTION = """def gradient(classify, x, t, y):
    x = x.detach().requires_grad_()
    log_p = torch.log_softmax(classify(x, t), dim=1)
    chosen = log_p[torch.arange(len(x)), y]
    return torch.autograd.grad(chosen.sum(), x)[0]


def guided(eps, classify, x, t, y, scale, bars):
    sigma = (1 - bars[t]) ** 0.5
    return eps(x, t) - scale * sigma * gradient(classify, x, t, y)


def sample(eps, classify, x, steps, y, scale, bars):
    T = len(bars) - 1
    times = [round(T * (1 - k / steps)) for k in range(steps + 1)]
    states = [x]
    for t, s in zip(times[:-1], times[1:]):
        e = guided(eps, classify, x, t, y, scale, bars)
        x0 = (x - (1 - bars[t]) ** 0.5 * e) / bars[t] ** 0.5
        x = bars[s] ** 0.5 * x0 + (1 - bars[s]) ** 0.5 * e
        states.append(x)
    return states
"""

CENTRES = torch.tensor([[1.0, 0.0], [-0.5, 0.8], [0.2, -1.0]], dtype=torch.float64)
STD = 0.4
"""Of three classes, equally likely, each a Gaussian."""


def _posterior(x: Tensor, a: Tensor) -> tuple[Tensor, Tensor]:
    """(log p(x | class) up to a number of the row, the variance within a class) at a level."""
    variance = a * STD**2 + 1 - a
    return -((x[:, None] - a.sqrt() * CENTRES) ** 2).sum(-1) / (2 * variance), variance


def _logits(x: Any, t: Any) -> Tensor:
    """The exact classifier, with a number added to each row that depends on x and must not matter; differentiable."""
    x = torch.as_tensor(x)
    log, _ = _posterior(x.double(), BARS[int(t)])
    return log + 3 * x.double().sum(1, keepdim=True)


def check(namespace: Namespace) -> None:
    """The gradient, the guided noise and the samples of three Gaussian classes, in closed form."""
    gradient, guided, sample = (wanted(namespace, name) for name in ("gradient", "guided", "sample"))
    x, y = normal(0, 6, 2), torch.tensor([0, 1, 2, 2, 1, 0])

    def unguided(x: Tensor, t: Tensor) -> Tensor:
        a = BARS[int(t)]
        log, variance = _posterior(x, a)
        return (1 - a).sqrt() * (x - a.sqrt() * log.softmax(1) @ CENTRES) / variance

    for t in (900, 400, 100):
        a = BARS[t]
        log, variance = _posterior(x, a)
        expected = a.sqrt() * (CENTRES[y] - log.softmax(1) @ CENTRES) / variance
        found = tensor(gradient(_logits, x, t, y), "gradient", (6, 2))
        assert torch.allclose(found, expected, atol=2e-3 * float(expected.abs().max())), tr(
            "at t = {t} the gradient of log p(y | x) of the first row is {expected}, yours {found}. It is that of "
            "the log of normalized probabilities (log_softmax) of the asked class, and each row has its own: a sum over rows, no mean",
            t=t,
            expected=shown(expected[0]),
            found=shown(found[0]),
        )
        for scale in (0.0, 1.0, 3.0):
            conditional = (1 - a).sqrt() * (x - a.sqrt() * CENTRES[y]) / variance
            wants = unguided(x, torch.tensor(t)) + scale * (conditional - unguided(x, torch.tensor(t)))
            found = tensor(guided(given(unguided), _logits, x, t, y, scale, BARS), "guided", (6, 2))
            assert torch.allclose(found, wants, atol=2e-3 * max(1.0, float(wants.abs().max()))), tr(
                "at t = {t} with scale {scale:g} the guided noise of the first row is {wants}, yours {found}. "
                "Scale 1 must give the noise of the class itself; the score is -eps / sigma, so the gradient times sigma is subtracted",
                t=t,
                scale=scale,
                wants=shown(wants[0]),
                found=shown(found[0]),
            )
    noise = normal(1, 6, 2)
    found = states(sample(given(unguided), _logits, noise, 100, y, 1.0, BARS), "sample", 101, (6, 2))
    expected = CENTRES[y] + STD * noise
    assert torch.allclose(found[-1], expected, atol=0.04), tr(
        "with scale 1 noise z must end at centre + std z of the asked class, as the ODE of one Gaussian does; yours are off by "
        "{found:.3f}. DDIM goes from t = T to t = 0 with the guided noise in both of its terms",
        found=float((found[-1] - expected).abs().max()),
    )


def figure(namespace: Namespace) -> Figure:
    """The lesson's blobs, guided by the answer at three scales."""
    process = linear()
    denoise, y = blobs().denoise(process), torch.zeros(200, dtype=torch.long)

    def eps(x: Any, t: Any) -> Tensor:
        return denoise(torch.as_tensor(x).double(), torch.tensor(int(t))).eps

    def classifier(x: Any, t: Any) -> Tensor:
        return classify(process, torch.as_tensor(x).double(), torch.tensor(int(t)))

    runs = {}
    for scale in (0.0, 1.0, 4.0):
        film = states(
            namespace["sample"](eps, classifier, normal(2, 200, 2), 50, y, scale, BARS), "sample", 51, (200, 2)
        )
        name = tr(
            "scale {s:g}: {accuracy:.0%} of the class, spread {spread:.2f}",
            s=scale,
            accuracy=accuracy(film[-1], 0),
            spread=spread(film[-1]),
        )
        runs[name] = film
    return figures.scrubber(runs, blobs().sample(600, torch.Generator().manual_seed(1)))


PROGRAM = Exercise(
    "adm.program", "Guided by a classifier", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "x = x.detach().requires_grad_() begins a graph; torch.autograd.grad(number, x)[0] ends it.",
        "torch.log_softmax(logits, dim=1)[torch.arange(len(x)), y] are the log probabilities of the asked classes.",
        "The score is -eps / sigma. Adding scale * gradient to the score is subtracting scale * sigma * gradient from eps, "
        "with sigma = sqrt(1 - bars[t]).",
    ),
)  # fmt: skip
