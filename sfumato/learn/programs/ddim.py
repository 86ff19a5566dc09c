"""The program of the lesson on DDIM (Song et al. 2020): the sampler without noise, eq. 12, and its inversion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.data import open_source, to_float, to_uint8
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, block, given, normal, states
from sfumato.models import load_model

TASK = r"""`bars` $= (\bar\alpha_0, \dots, \bar\alpha_T)$ falls from `bars[0]` $= 1$ (T + 1 numbers), and `eps(x, t)` says the noise at level `t`. Write

- `sample(eps, x, steps, bars)`: from noise `x` at $t = T$ to data at $t = 0$ in so many steps, with evenly spaced whole times
  $T = \tau_0 > \dots > \tau_\text{steps} = 0$ and eq. 12 without noise: find $\hat x_0$ from $x = \sqrt{\bar\alpha_t}\,\hat x_0 + \sqrt{1-\bar\alpha_t}\,\hat\epsilon$, then put it and the *same*
  $\hat\epsilon$ together at the next time.
- `invert(eps, x, steps, bars)`: the same steps from data at $t = 0$ up to noise at $t = T$.

Both give back the list of `steps + 1` states, the start first. The check knows data of a single point, where every number of
steps is exact, and one Gaussian, where the ODE is solved in closed form. Then real emoji go to noise and come back."""

STUB = '''def sample(eps, x, steps, bars):
    """x (N, ...) at t = T -> a list of steps + 1 states, the last at t = 0"""
    ...


def invert(eps, x, steps, bars):
    """x (N, ...) at t = 0 -> a list of steps + 1 states, the last at t = T"""
    ...
'''

SOLUTION = """def walk(eps, x, times, bars):
    states = [x]
    for t, s in zip(times[:-1], times[1:]):
        a, b = bars[t], bars[s]
        e = eps(x, t)
        x0 = (x - (1 - a) ** 0.5 * e) / a**0.5
        x = b**0.5 * x0 + (1 - b) ** 0.5 * e
        states.append(x)
    return states


def times_of(steps, bars):
    T = len(bars) - 1
    return [round(T * k / steps) for k in range(steps + 1)]


def sample(eps, x, steps, bars):
    return walk(eps, x, times_of(steps, bars)[::-1], bars)


def invert(eps, x, steps, bars):
    return walk(eps, x, times_of(steps, bars), bars)
"""


def check(namespace: Namespace) -> None:
    """One point, exactly; one Gaussian, by its quantiles; and there and back."""
    sample, invert = wanted(namespace, "sample"), wanted(namespace, "invert")
    _check_point(sample)
    mean, std = 0.4, 0.5

    def gaussian(x: Tensor, t: Tensor) -> Tensor:
        a = BARS[t.long()]
        return (1 - a).sqrt() * (x - a.sqrt() * mean) / (a * std**2 + 1 - a)

    noise, last = normal(3, 50, 2), BARS[-1]
    found = states(sample(given(gaussian), noise, 250, BARS), "sample", 251, (50, 2))
    expected = mean + std * (noise - last.sqrt() * mean) / (last * std**2 + 1 - last).sqrt()
    assert torch.allclose(found[-1], expected, atol=0.02), tr(
        "in 250 steps each number keeps its quantile: noise z ends near m + s z for data N(m, s^2); yours are off by "
        "{found:.3f}. The same predicted noise is carried along, none is drawn",
        found=float((found[-1] - expected).abs().max()),
    )
    back = states(invert(given(gaussian), expected, 250, BARS), "invert", 251, (50, 2))
    off = float((back[-1] - noise).abs().max())
    assert torch.allclose(back[0], expected, atol=1e-5), "invert starts at the data, which is its first state"
    assert off < 0.05, tr(
        "invert must find the noise again from which the data came; yours is off by {off:.3f}", off=off
    )


def _check_point(sample: Any) -> None:
    """All data are one point p: then x_t = sqrt(a) p + sqrt(1 - a) e for one e all the way."""
    point, asked = torch.tensor([0.8, -0.3], dtype=torch.float64), list[int]()

    def eps(x: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t))
        a = BARS[int(t)]
        return (x - a.sqrt() * point) / (1 - a).sqrt()

    noise = normal(1, 5, 2)
    for steps in (1, 4, 7):
        asked.clear()
        found = states(sample(given(eps), noise, steps, BARS), "sample", steps + 1, (5, 2))
        assert len(asked) == steps, tr(
            "in {steps} steps the network is asked {steps} times, by you {asked} times", steps=steps, asked=len(asked)
        )
        assert asked[0] == 1000, tr(
            "sampling starts at t = T = 1000, where the noise is; yours at {asked}", asked=asked[0]
        )
        gaps = [t - s for t, s in zip(asked, [*asked[1:], 0], strict=True)]
        assert max(gaps) - min(gaps) <= 2, tr(
            "times are evenly spaced from T to 0; you ask at {asked} and end at 0", asked=asked
        )
        e = (noise - BARS[-1].sqrt() * point) / (1 - BARS[-1]).sqrt()
        for k, t in enumerate([*asked, 0]):
            at = BARS[t].sqrt() * point + (1 - BARS[t]).sqrt() * e
            assert torch.allclose(found[k], at, atol=2e-4), tr(
                "in {steps} steps, with data of one point and the true noise, the state at t = {t} is sqrt(a) x0 + "
                "sqrt(1 - a) eps with a = alpha-bar at {t}; yours is off by {found:.3g}. x0 is "
                "found with the level where x is, and put together with the one where it goes",
                steps=steps,
                t=t,
                found=float((found[k] - at).abs().max()),
            )


def figure(namespace: Namespace) -> Figure:
    """Three emoji to noise and back, by the answer."""
    model, held_out = load_model("ddpm/emoji32"), open_source("emoji32:test")
    chosen = torch.tensor([29, 31, 33])
    denoise, process = model.denoiser(torch.as_tensor(held_out.labels)[chosen]), model.diffusion.gaussian
    one = torch.zeros(1, 1, dtype=torch.float64)
    bars = torch.tensor([float(process.level(torch.tensor(t), one).alpha) ** 2 for t in range(961)])  # later ones are 0

    def eps(x: Any, t: Any) -> Tensor:
        with torch.inference_mode():
            return denoise(torch.as_tensor(x).float(), torch.tensor(max(int(t), 1))).eps  # level 0 has no noise

    x0 = to_float(held_out.images[chosen])
    up = states(namespace["invert"](eps, x0, 20, bars), "invert", 21, (3, 3, 32, 32))
    down = states(namespace["sample"](eps, up[-1].float(), 20, bars), "sample", 21, (3, 3, 32, 32))
    film = torch.stack([block(to_uint8(x.float())) for x in [*up, *down[1:]]])
    off = float((down[-1] - x0).square().mean().sqrt())
    return figures.frames({tr("to noise and back in 20 steps each: off by {off:.2f}", off=off): film})


PROGRAM = Exercise(
    "ddim.program", "DDIM and its inversion", TASK, STUB, SOLUTION, check, figure=figure, seconds=60.0,
    hints=(
        "Write one function that goes along a list of times; sample and invert differ in the order of the list alone.",
        "times = [round(T * k / steps) for k in range(steps + 1)] goes up; [::-1] turns it around.",
        "In a step from t to s: e = eps(x, t), x0 = (x - sqrt(1 - a) e) / sqrt(a) with a = bars[t], and the next x is "
        "sqrt(b) x0 + sqrt(1 - b) e with b = bars[s].",
    ),
)  # fmt: skip
