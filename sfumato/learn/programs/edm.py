"""The program of the lesson on EDM (Karras et al. 2022): preconditioning, its loss, and Heun's method on the paper's grid."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sfumato.data import to_uint8
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import block, given, near, normal, states, tensor
from sfumato.models import load_model

TASK = r"""`F(x, c)` is a bare network that is given the noise level as $c = \ln(\sigma)/4$; `data` is the standard deviation $\sigma_\text{data}$, and noisy pictures are
$x = x_0 + \sigma\epsilon$. Write EDM around it, with `sigma` a number:

- `denoise(F, x, sigma, data)` $= c_\text{skip}\,x + c_\text{out}\,F(c_\text{in}\,x, c)$ with eq. 7 of the paper (exercise 1).
- `loss(F, x0, eps, sigma, data)`: the squared error of `denoise` at $x_0 + \sigma\epsilon$ against $x_0$, weighted by $1/c_\text{out}^2$, as the mean over all numbers.
- `sample(F, x, steps, low, high, data)`: from `x` at $\sigma =$ `high` along levels that are even in $\sigma^{1/7}$, `steps` of them from `high` to `low`, and then 0
  (exercise 2). Each step from $\sigma$ to $\sigma'$ by Heun's method: the slope $(x - D)/\sigma$ at the start, an Euler step, the slope at its end, and a step
  with the mean of both. Into $\sigma' = 0$ Euler's step alone. Give back the `steps + 1` states, the start first.

The check has data of one point, where every number of steps is exact, and Gaussian data, where twice the steps leave a quarter of the error.
Then the shipped `edm/fashion` is your `F`."""

STUB = '''def denoise(F, x, sigma, data):
    """x (N, ...) at noise sigma -> the prediction of clean data, (N, ...)"""
    ...


def loss(F, x0, eps, sigma, data):
    """-> one number"""
    ...


def sample(F, x, steps, low, high, data):
    """x (N, ...) at noise high -> a list of steps + 1 states, the last at noise 0"""
    ...
'''

SOLUTION = """def denoise(F, x, sigma, data):
    both = sigma**2 + data**2
    skip, out, into = data**2 / both, sigma * data / both**0.5, 1 / both**0.5
    return skip * x + out * F(into * x, math.log(sigma) / 4)


def loss(F, x0, eps, sigma, data):
    weight = (sigma**2 + data**2) / (sigma * data) ** 2
    return weight * ((denoise(F, x0 + sigma * eps, sigma, data) - x0) ** 2).mean()


def levels(steps, low, high, rho=7):
    a, b = high ** (1 / rho), low ** (1 / rho)
    return [(a + i / (steps - 1) * (b - a)) ** rho for i in range(steps)] + [0]


def sample(F, x, steps, low, high, data):
    states, sigmas = [x], levels(steps, low, high)
    for sigma, to in zip(sigmas[:-1], sigmas[1:]):
        slope = (x - denoise(F, x, sigma, data)) / sigma
        end = x + (to - sigma) * slope
        if to > 0:
            second = (end - denoise(F, end, to, data)) / to
            end = x + (to - sigma) * (slope + second) / 2
        x = end
        states.append(x)
    return states
"""


def _coefficients(sigma: Tensor, data: float) -> tuple[Tensor, Tensor, Tensor]:
    """c_skip, c_out and c_in, from the angle between data and noise: x has the length of the hypotenuse."""
    angle, length = torch.atan2(sigma, torch.full_like(sigma, data)), torch.hypot(sigma, torch.full_like(sigma, data))
    return angle.cos() ** 2, data * angle.sin(), 1 / length


def _inner(clean: Any, data: float, asked: list[float]) -> Any:
    """The network F whose preconditioned form is a given denoiser (x, sigma) -> x0; notes the levels at which it is asked."""

    def F(scaled: Tensor, c: Tensor) -> Tensor:
        sigma = (4 * c).exp()
        asked.append(float(sigma))
        skip, out, into = _coefficients(sigma, data)
        x = scaled / into
        return (clean(x, sigma) - skip * x) / out

    return given(F)


def check(namespace: Namespace) -> None:
    """Unit variance of what the network sees and of its target; one point; the order of the method on Gaussian data."""
    denoise, loss, sample = (wanted(namespace, name) for name in ("denoise", "loss", "sample"))
    _check_denoise(denoise)
    _check_loss(loss)
    _check_point(sample)
    _check_order(sample)


def _check_denoise(denoise: Any) -> None:
    data, clean = 0.5, 0.5 * normal(0, 2000, 4)
    for sigma in (0.02, 0.5, 3.0, 40.0):
        seen, said = list[Tensor](), list[float]()

        def network(x: Tensor, c: Tensor, seen: list[Tensor] = seen, said: list[float] = said) -> Tensor:
            seen.append(x)
            said.append(float(c))
            return torch.ones_like(x)

        x = clean + sigma * normal(1, 2000, 4)
        found = tensor(denoise(given(network), x.float(), sigma, data), "denoise", (2000, 4))
        assert len(seen) == 1, tr("denoise asks the network once, yours {seen} times", seen=len(seen))
        spread = float(seen[0].std())
        assert abs(spread - 1) < 0.05, tr(
            "at sigma = {sigma:g} the network sees numbers of standard deviation {spread:.3f}; c_in makes it 1 at every level",
            sigma=sigma,
            spread=spread,
        )
        assert abs(said[0] - math.log(sigma) / 4) < 1e-4, tr(
            "at sigma = {sigma:g} the network is told ln(sigma) / 4 = {expected:.4f}; yours is told {said:.4f}",
            sigma=sigma,
            expected=math.log(sigma) / 4,
            said=said[0],
        )
        skip, out, _ = _coefficients(torch.tensor(sigma, dtype=torch.float64), data)
        assert near(found - skip * x, out, 2e-3), tr(
            "at sigma = {sigma:g}, where F says 1, D - c_skip x is c_out = sigma data / sqrt(sigma^2 + data^2) = {out:.4f} with c_skip = {skip:.4f}; "
            "yours is {found:.4f} on average",
            sigma=sigma,
            out=float(out),
            skip=float(skip),
            found=float((found - skip * x).mean()),
        )


def _check_loss(loss: Any) -> None:
    """Where F says nothing the loss is the variance of its target, 1 at every level; where D is x0 it is 0."""
    data, clean, eps = 0.5, 0.5 * normal(2, 4000, 4), normal(3, 4000, 4)
    for sigma in (0.02, 0.5, 40.0):
        found = tensor(loss(given(lambda x, c: 0 * x), clean.float(), eps.float(), sigma, data), "loss")
        assert found.numel() == 1, tr("a loss is one number, yours has shape {shape}", shape=tuple(found.shape))
        assert abs(float(found) - 1) < 0.06, tr(
            "at sigma = {sigma:g} a network that says 0 is off by the variance of its target, which is 1 at every level; your loss is "
            "{found:.4g}. The weight is (sigma^2 + data^2) / (sigma data)^2, and x = x0 + sigma eps",
            sigma=sigma,
            found=float(found),
        )
        perfect = _inner(lambda x, sigma: clean, data, [])
        left = float(tensor(loss(perfect, clean.float(), eps.float(), sigma, data), "loss"))
        assert abs(left) < 1e-3, tr(
            "where D is the clean data itself the loss is 0; at sigma = {sigma:g} yours is {left:.4g}",
            sigma=sigma,
            left=left,
        )


def _check_point(sample: Any) -> None:
    """All data are one point: then x - point shrinks with sigma, in any number of steps."""
    point, asked, low, high = torch.tensor([0.8, -0.3], dtype=torch.float64), list[float](), 0.01, 40.0
    start = point + high * normal(4, 5, 2)
    for steps in (3, 8):
        asked.clear()
        made = sample(_inner(lambda x, sigma: point.expand_as(x), 0.5, asked), start, steps, low, high, 0.5)
        found = states(made, "sample", steps + 1, (5, 2))
        assert len(asked) == 2 * steps - 1, tr(
            "{steps} steps of Heun's method ask the network {times} times: twice each, once in the last; yours {asked} times",
            steps=steps,
            times=2 * steps - 1,
            asked=len(asked),
        )
        grid = torch.linspace(high ** (1 / 7), low ** (1 / 7), steps, dtype=torch.float64) ** 7
        order = [sigma for pair in pairwise(grid.tolist()) for sigma in pair] + [low]
        assert all(math.isclose(a, b, rel_tol=1e-4) for a, b in zip(asked, order, strict=True)), tr(
            "levels are even in sigma^(1/7) from {high:g} to {low:g}, and each step asks at its start and at its end: at "
            "{expected} ...; yours at {found} ...",
            high=high,
            low=low,
            expected=", ".join(f"{sigma:.4g}" for sigma in order[:3]),
            found=", ".join(f"{sigma:.4g}" for sigma in asked[:3]),
        )
        for k, sigma in enumerate([*grid.tolist(), 0.0]):
            at = point + sigma / high * (start - point)
            assert torch.allclose(found[k], at, atol=1e-3), tr(
                "with data of one point p the state at sigma = {sigma:.3g} is p + sigma / {high:g} (start - p); yours is off by "
                "{found:.3g}. The slope dx/dsigma is (x - D) / sigma, and sigma falls",
                sigma=sigma,
                high=high,
                found=float((found[k] - at).abs().max()),
            )


def _check_order(sample: Any) -> None:
    """Data N(0.4, 0.5^2): x - 0.4 keeps its quantile, so the ODE is solved in closed form."""
    mean, variance, low, high = 0.4, 0.25, 1e-3, 20.0
    start = mean + high * normal(5, 50, 2)
    exact, errors = mean + (start - mean) * math.sqrt(variance / (variance + high**2)), list[float]()
    for steps in (40, 80):
        F = _inner(lambda x, sigma: mean + variance / (variance + sigma**2) * (x - mean), 0.5, [])
        found = states(sample(F, start, steps, low, high, 0.5), "sample", steps + 1, (50, 2))
        errors.append(float((found[-1] - exact).abs().max()))
    assert errors[0] < 0.02, tr(
        "data are N(0.4, 0.5^2), and 40 steps of Heun's method end within 0.02 of the exact end; yours are off by {error:.3g}. Each step is "
        "taken with the mean of both slopes",
        error=errors[0],
    )
    assert errors[1] < errors[0] / 3.4, tr(
        "with twice the steps Heun's method has about a quarter of the error; yours has {error:.2g} in 40 and {halved:.2g} in 80 steps. The second "
        "slope is taken at the end of Euler's step, with the noise there, and the step starts again from where it began",
        error=errors[0],
        halved=errors[1],
    )


def figure(namespace: Namespace) -> Figure:
    """Six garments by the shipped network, in few steps and in more."""
    model = load_model("edm/fashion")
    recipe: Any = model.recipe
    network, runs = model.network, {}

    def F(x: Any, c: Any) -> Tensor:
        with torch.inference_mode():
            x = torch.as_tensor(x).float()
            return network(x, torch.as_tensor(c).float().expand(len(x)))

    x = 80 * torch.randn(6, 1, 28, 28, generator=torch.Generator().manual_seed(1))
    for steps in (5, 12):
        made = namespace["sample"](F, x, steps, 0.002, 80.0, recipe.deviation)
        film = states(made, "sample", steps + 1, (6, 1, 28, 28))
        seen = [block(to_uint8((state / max(1.0, float(state.std()))).float()), columns=6) for state in film]
        runs[tr("{steps} steps, {evaluations} evaluations", steps=steps, evaluations=2 * steps - 1)] = torch.stack(seen)
    return figures.frames(runs)


PROGRAM = Exercise(
    "edm.program", "EDM around a network", TASK, STUB, SOLUTION, check, figure=figure, seconds=60.0,
    hints=(
        "With both = sigma**2 + data**2: c_skip = data**2 / both, c_out = sigma * data / sqrt(both), c_in = 1 / sqrt(both).",
        "The loss is (both / (sigma * data)**2) * ((denoise(F, x0 + sigma * eps, sigma, data) - x0) ** 2).mean().",
        "Levels: (a + i / (steps - 1) * (b - a)) ** 7 with a = high ** (1/7) and b = low ** (1/7), then 0.",
        "A step: end = x + (to - sigma) * slope; if to > 0, take the slope at (end, to) and step anew from x with the mean of both.",
    ),
)  # fmt: skip
