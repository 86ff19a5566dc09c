"""The program of the last lesson: filling in what is missing with a model that was not trained for it (RePaint 2022)."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sfumato.data import open_source, to_float, to_uint8
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, block, given, near, tensor
from sfumato.models import load_model

TASK = r"""Fill in what is missing of a picture, with a model of whole pictures: `inpaint(eps, picture, known, times, repeats, bars)`, where `picture`
(N, ...) counts where `known` (the same shape, 0 or 1) is 1, `times` falls from T to 0, and `bars` $= (\bar\alpha_0 = 1, \dots, \bar\alpha_T)$. Start from noise. For every pair of
neighbours $t > s$ of `times`, with $a = \bar\alpha_t$, $b = \bar\alpha_s$, do this `repeats` times:

1. **unknown**: DDPM's step from $t$ to $s$: with $\hat x_0 = (x - \sqrt{1-a}\,\hat\epsilon)/\sqrt a$ draw from the posterior, whose mean is
   $\frac{\sqrt b\,(1-a/b)}{1-a}\hat x_0 + \frac{\sqrt{a/b}\,(1-b)}{1-a}x$ and whose variance $\frac{1-b}{1-a}(1-a/b)$;
2. **known**: `picture`, noised afresh to the level $s$; take it where `known` is 1, the other where it is 0;
3. if this was not the last of the repeats, add noise from $s$ back to $t$: $\sqrt{a/b}\,x + \sqrt{1-a/b}\;z$.

Give back the picture at $t = 0$. Repeating lets both parts agree: the check knows two numbers that hang together, of which one is
given. Then your code fills in emoji."""

STUB = '''def inpaint(eps, picture, known, times, repeats, bars):
    """picture, known (N, ...) -> (N, ...)"""
    ...
'''

SOLUTION = """def inpaint(eps, picture, known, times, repeats, bars):
    x = torch.randn_like(picture)
    for t, s in zip(times[:-1], times[1:]):
        a, b = bars[t], bars[s]
        kept = a / b
        for k in range(repeats):
            x0 = (x - (1 - a) ** 0.5 * eps(x, t)) / a**0.5
            mean = (b**0.5 * (1 - kept) * x0 + kept**0.5 * (1 - b) * x) / (1 - a)
            std = ((1 - b) / (1 - a) * (1 - kept)) ** 0.5
            unknown = mean + std * torch.randn_like(x)
            noised = b**0.5 * picture + (1 - b) ** 0.5 * torch.randn_like(x)
            x = known * noised + (1 - known) * unknown
            if k < repeats - 1:
                x = kept**0.5 * x + (1 - kept) ** 0.5 * torch.randn_like(x)
    return x
"""

TIMES = [round(1000 * (k / 50) ** 2) for k in range(50, 1, -1)] + [0]


def _where() -> str:
    return tr(
        "What is known is noised to the level s of the step, and goes back to t with the rest where the step is repeated"
    )


def check(namespace: Namespace) -> None:
    """Two numbers of correlation 0.9, of which one is known: what the model sees, and the law of the other one."""
    inpaint, together, given_value, n = wanted(namespace, "inpaint"), 0.9, 1.2, 6000
    covariance = torch.tensor([[1.0, together], [together, 1.0]], dtype=torch.float64)
    seen: list[tuple[int, Tensor]] = []

    def exact(x: Tensor, t: Tensor) -> Tensor:
        a = BARS[int(t)]
        seen.append((int(t), x))
        return (1 - a).sqrt() * torch.linalg.solve(a * covariance + (1 - a) * torch.eye(2, dtype=torch.float64), x.T).T

    picture = torch.tensor([given_value, 77.0], dtype=torch.float64).expand(n, 2).clone()
    known = torch.tensor([1.0, 0.0], dtype=torch.float64).expand(n, 2).clone()
    for repeats in (1, 6):
        seen.clear()
        found = tensor(inpaint(given(exact), picture, known, TIMES, repeats, BARS), "inpaint", (n, 2))
        assert torch.allclose(found[:, 0], picture[:, 0], atol=1e-4), (
            "in the end what is known is exactly as in the picture"
        )
        order = [t for t in TIMES[:-1] for _ in range(repeats)]
        assert [t for t, _ in seen] == order, tr(
            "with {repeats} repeats the network is asked at {order} ..., yours at {asked} ...",
            repeats=repeats,
            order=order[:4],
            asked=[t for t, _ in seen][:4],
        )
        for t, x in seen[repeats:]:  # before, all is noise
            _check_known(t, x[:, 0], given_value)
    mean, variance = float(found[:, 1].mean()), float(found[:, 1].var())
    expected, true = together * given_value, 1 - together**2
    assert abs(mean - expected) < 0.1, tr(
        "with 6 repeats the unknown number, of correlation {together}, has the mean {expected:.2f} given the known one; yours has {mean:.3f}. "
        "Each repeat starts at t: noise goes back onto known and unknown alike",
        together=together,
        expected=expected,
        mean=mean,
    )
    assert near(variance, true, 0.25), tr(
        "with 6 repeats the unknown number varies by {true:.3f} around that; yours by {variance:.3f}. Steps draw the posterior's variance",
        true=true,
        variance=variance,
    )


def _check_known(t: int, x: Tensor, value: float) -> None:
    """The known number, as the model sees it at t."""
    signal, noise = float(BARS[t].sqrt()) * value, float(1 - BARS[t])
    assert abs(float(x.mean()) - signal) < 0.05, tr(
        "at t = {t} the known number must reach the model as sqrt(a) picture + noise, with the mean {signal:.3f}; yours has "
        "{x:.3f}. {where}",
        t=t,
        signal=signal,
        x=float(x.mean()),
        where=_where(),
    )
    assert near(float(x.var()), noise, 0.12), tr(
        "at t = {t} the known number must carry noise of variance 1 - a = {noise:.4f}; yours {x:.4f}. {where}",
        t=t,
        noise=noise,
        x=float(x.var()),
        where=_where(),
    )


def figure(namespace: Namespace) -> Figure:
    """An emoji whose lower part is missing, filled in three times."""
    model, held_out = load_model("ddpm/emoji32"), open_source("emoji32:test")
    denoise, process = model.denoiser(torch.as_tensor(held_out.labels)[31:32].expand(3)), model.diffusion.gaussian
    one = torch.zeros(1, 1, dtype=torch.float64)
    bars = torch.tensor([float(process.level(torch.tensor(t), one).alpha) ** 2 for t in range(961)])

    def eps(x: Any, t: Any) -> Tensor:
        with torch.inference_mode():
            return denoise(torch.as_tensor(x).float(), torch.tensor(int(t))).eps

    picture = to_float(held_out.images[31:32]).expand(3, -1, -1, -1).clone()
    known = torch.ones_like(picture)
    known[:, :, 16:28, 4:28] = 0
    times = [round(960 * k / 20) for k in range(20, -1, -1)]
    made = tensor(namespace["inpaint"](eps, picture * known, known, times, 2, bars), "inpaint", (3, 3, 32, 32))
    shown = torch.cat([picture[:1], (picture * known)[:1], made.float()])
    return figures.frames({"the picture, what is known, and yours": block(to_uint8(shown), columns=5)[None]})


PROGRAM = Exercise(
    "capstone.program", "Filling in what is missing", TASK, STUB, SOLUTION, check, figure=figure, seconds=90.0,
    hints=(
        "Two loops: over neighbours of times, and inside it over repeats. kept = a / b is what of the signal lasts from s to t.",
        "x = known * noised + (1 - known) * unknown, where noised is the picture at level s with fresh noise.",
        "At the end of every repeat but the last: x = kept ** 0.5 * x + (1 - kept) ** 0.5 * torch.randn_like(x).",
    ),
)  # fmt: skip
