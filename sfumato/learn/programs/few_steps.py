"""The program of the lesson on few steps: progressive distillation (Salimans & Ho 2022, algorithm 2), from 16 steps to 1."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import torch
from torch import Tensor

from sfumato.claims.toys import ring, sliced_distance
from sfumato.core.continuous import LinearFlow
from sfumato.core.processes import GaussianDiffusion
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import Watched, descend, given, loss_value, normal, on_line, states, tensor
from sfumato.learn.programs.spiral import Small

TASK = r"""Here $x_t = (1-t)\,x_0 + t\,\epsilon$, and a model `f(x, t)` predicts clean data from `x` (N, 2) and `t` (N,). A step of DDIM from $t$ to $s$ keeps the
predictions: $x_s = (1-s)\,\hat x_0 + s\,\hat\epsilon$ with $\hat\epsilon = (x_t - (1-t)\,\hat x_0)/t$. Write progressive distillation:

- `target(teacher, x, t, s)`: the teacher goes from $t$ to $s$ (all (N,)) in two steps of DDIM, by way of the middle $m = (t+s)/2$. Give back the
  $\tilde x$ (N, 2) with which *one* step from $t$ to $s$ ends at the same place (exercise 1).
- `loss(student, teacher, x0, eps, n)`: for a student of `n` steps draw for each row one of its times $t \in \{1/n, 2/n, \dots, 1\}$, with $s = t - 1/n$; the
  squared error of the student's prediction at $x_t$ against the target, as the mean over all numbers. The teacher learns nothing.
- `sample(f, x, n)`: `n` steps of DDIM from $t = 1$ to 0. Give back all `n + 1` states, the start first.

The check knows two steps that can be followed by hand, and that a perfect student ends where its teacher does. Then your loss halves the steps on the ring, from
16 to 8, 4, 2 and 1."""

STUB = '''def target(teacher, x, t, s):
    """x (N, 2), t and s (N,) -> what a student should predict, (N, 2)"""
    ...


def loss(student, teacher, x0, eps, n):
    """x0, eps (N, 2) -> a tensor with one number"""
    ...


def sample(f, x, n):
    """x (N, 2) at t = 1 -> a list of n + 1 states, the last at t = 0"""
    ...
'''

SOLUTION = """def move(x, x0, t, s):
    t, s = t[:, None], s[:, None]
    eps = (x - (1 - t) * x0) / t
    return (1 - s) * x0 + s * eps


def target(teacher, x, t, s):
    m = (t + s) / 2
    middle = move(x, teacher(x, t), t, m)
    end = move(middle, teacher(middle, m), m, s)
    t, s = t[:, None], s[:, None]
    return (t * end - s * x) / (t - s)


def loss(student, teacher, x0, eps, n):
    i = torch.randint(1, n + 1, (len(x0),))
    t, s = i / n, (i - 1) / n
    x = (1 - t[:, None]) * x0 + t[:, None] * eps
    with torch.no_grad():
        wanted = target(teacher, x, t, s)
    return ((student(x, t) - wanted) ** 2).mean()


def sample(f, x, n):
    states = [x]
    for i in range(n, 0, -1):
        t, s = torch.full((len(x),), i / n), torch.full((len(x),), (i - 1) / n)
        x = move(x, f(x, t), t, s)
        states.append(x)
    return states
"""


def _step(x: Tensor, x0: Tensor, t: Tensor, s: Tensor) -> Tensor:
    """DDIM in x / (1 - t) would divide by 0 at t = 1; this form keeps x's share s / t."""
    return s / t * x + (1 - s / t) * x0


def _curved(x: Tensor, t: Tensor) -> Tensor:
    """A teacher that is no line, in x or in t."""
    return torch.tanh(2 * x) * (1 - t) + 0.3 * t**2


def check(namespace: Namespace) -> None:
    """The target by the step that it makes; what the loss asks; sampling on one point and on a Gaussian; a perfect student."""
    target, loss, sample = (wanted(namespace, name) for name in ("target", "loss", "sample"))
    _check_target(target)
    _check_loss(loss)
    _check_sample(sample)


def _check_target(target: Any) -> None:
    x = normal(0, 6, 2)
    t = torch.tensor([1.0, 1.0, 0.8, 0.5, 0.25, 0.3], dtype=torch.float64)
    s = torch.tensor([0.0, 0.5, 0.4, 0.25, 0.0, 0.1], dtype=torch.float64)
    found = tensor(target(given(_curved), x.float(), t.float(), s.float()), "target", (6, 2))
    t, s = t[:, None], s[:, None]
    m = (t + s) / 2
    middle = _step(x, _curved(x, t), t, m)
    end = _step(middle, _curved(middle, m), m, s)
    mine = _step(x, found, t, s)
    at = int((mine - end).abs().amax(1).argmax())
    assert torch.allclose(mine, end, atol=1e-4), tr(
        "from t = {t:g} to s = {s:g} the teacher's two steps, over m = {m:g}, end at {end:.4f} (first coordinate); one step with your "
        "target ends at {mine:.4f}. The second step asks the teacher at the middle, and the target is found from x_s = (1 - s) x~ + s "
        "(x - (1 - t) x~) / t",
        t=float(t[at]),
        s=float(s[at]),
        m=float(m[at]),
        end=float(end[at, 0]),
        mine=float(mine[at, 0]),
    )


def _check_loss(loss: Any) -> None:
    x0, eps, n = normal(1, 4000, 2).float(), normal(2, 4000, 2).float(), 4
    student, teacher = Watched(lambda x, t: x, 0.5), Watched(_curved, 1.0)
    value = loss_value(loss(student, teacher, x0, eps, n))
    x, t = student.once(tr("the student"), 4000)
    drawn = sorted({round(float(time), 5) for time in t})
    assert drawn == [0.25, 0.5, 0.75, 1.0], tr(
        "a student of 4 steps starts them at t = 0.25, 0.5, 0.75 and 1; yours is asked at {times}{more}",
        times=", ".join(f"{time:g}" for time in drawn[:5]),
        more=" ..." * (len(drawn) > 5),
    )
    on_line(x, t, x0, eps)
    middle = torch.cat([time for _, time in teacher.asked[1:]])
    assert torch.allclose(middle, t - 0.125, atol=1e-4), (
        "a student's step of 1/n is two of the teacher's, of half its length: the teacher is asked at t, then at t - 1/(2n)"
    )
    expected = _expected(0.5 * x, x, t[:, None], n)
    assert abs(float(value.detach()) - expected) < 1e-3 * expected, tr(
        "a student that says x / 2 has the loss {expected:.4f} here, the mean over all numbers of its squared error; yours is "
        "{value:.4f}",
        expected=expected,
        value=float(value.detach()),
    )
    assert value.requires_grad, (
        "no gradient reaches the student: the loss must be computed from what it says, undetached"
    )
    value.backward()
    assert student.c.grad is not None, "no gradient reaches the student"
    assert teacher.c.grad is None, (
        "the teacher learns nothing: its target is computed inside torch.no_grad(), or detached"
    )


def _expected(said: Tensor, x: Tensor, t: Tensor, n: int) -> float:
    """The loss, with the target from two equations: where the step ends for two predictions, which it is linear in."""
    m, s = t - 0.5 / n, t - 1 / n
    middle = _step(x, _curved(x, t), t, m)
    end = _step(middle, _curved(middle, m), m, s)
    zero, one = _step(x, torch.zeros_like(x), t, s), _step(x, torch.ones_like(x), t, s)
    return float((said - (end - zero) / (one - zero)).square().mean())


def _check_sample(sample: Any) -> None:
    """Data of one point; data N(0, 1/4), by the factor of each step; and the student of a Gaussian's teacher."""
    point, start, asked = torch.tensor([0.8, -0.3], dtype=torch.float64), normal(3, 5, 2), list[float]()

    def exact(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t.flatten()[0]))
        return point.expand_as(x)

    for n in (1, 4):
        asked.clear()
        found = states(sample(given(exact), start, n), "sample", n + 1, (5, 2))
        assert len(asked) == n, tr(
            "{n} steps ask the model {n} times, yours {asked} times",
            n=n,
            asked=len(asked),
        )
        for k in range(n + 1):
            at = k / n * point + (1 - k / n) * start
            assert torch.allclose(found[k], at, atol=1e-4), tr(
                "with data of one point p, which is predicted, state {k} of {n} is t times the start plus (1 - t) p at t = {t:g}; yours is "
                "off by {off:.3g}",
                k=k,
                n=n,
                t=1 - k / n,
                off=float((found[k] - at).abs().max()),
            )

    def factor(t: Tensor) -> Tensor:
        return (1 - t) / 4 / ((1 - t) ** 2 / 4 + t**2)

    def student(
        x: Tensor, t: Tensor
    ) -> Tensor:  # of 2 steps, whose teacher has 4: their end, which is c x, solved for the prediction
        m, s = t - 0.25, t - 0.5
        end = (m / t + (1 - m / t) * factor(t)) * (s / m + (1 - s / m) * factor(m))
        return (t * end - s) / (t - s) * x

    ends = [
        states(sample(given(model), start, n), "sample", n + 1, (5, 2))[-1]
        for model, n in ((lambda x, t: factor(t) * x, 4), (student, 2))
    ]
    kept = 1.0
    for k in range(4, 0, -1):
        kept *= float(_step(torch.ones(1), factor(torch.tensor(k / 4)), torch.tensor(k / 4), torch.tensor((k - 1) / 4)))
    assert torch.allclose(ends[0], kept * start, atol=1e-4), tr(
        "data are N(0, 1/4): four steps of DDIM with the exact denoiser multiply the start by {kept:.4f}, yours by {found:.4f}. Each "
        "step asks the model anew, where it has come to",
        kept=kept,
        found=float((ends[0] / start).mean()),
    )
    assert torch.allclose(ends[0], ends[1], atol=1e-3), tr(
        "a perfect student of two steps ends where its teacher of four does; yours is {off:.3g} away",
        off=float((ends[0] - ends[1]).abs().max()),
    )


def figure(namespace: Namespace) -> Figure:
    """The ring: the exact denoiser in one step and in 16, and students of ever fewer steps."""
    loss, sample = namespace["loss"], namespace["sample"]
    mixture, process, noise = ring(), GaussianDiffusion(LinearFlow()), normal(4, 1000, 2)
    data, ask = mixture.sample(20_000, torch.Generator().manual_seed(0)), mixture.denoise(process)
    network, teacher = Small(), given(lambda x, t: ask(x, t.reshape(-1)).x0)
    runs = {}

    def shown(name: str, model: Any, n: int) -> None:
        path = states(sample(model, noise, n), "sample", n + 1, (1000, 2))
        off = sliced_distance(path[-1], data[:1000])
        runs[tr("{name}, steps: {n}, sliced distance {off:.2f}", name=name, n=n, off=off)] = path

    def learned(teacher: Any, n: int) -> Tensor:
        x0 = data[torch.randint(len(data), (384,))].float()
        return torch.as_tensor(loss(lambda x, t: network(x, 1000 * t), teacher, x0, torch.randn(384, 2), n))

    shown(tr("exact denoiser"), teacher, 16)
    shown(tr("exact denoiser"), teacher, 1)
    for n, updates in ((8, 1000), (4, 400), (2, 400), (1, 400)):
        descend(network, partial(learned, teacher, n), updates, 4e-3)
        teacher = _asked(copy.deepcopy(network))
        if n in (4, 1):
            shown(tr("distilled"), teacher, n)
    return figures.scrubber(runs, data[:600])


def _asked(network: Small) -> Any:
    """It as a model (x, t) -> clean data in float32, without gradient."""

    def model(x: Any, t: Any) -> Tensor:
        with torch.no_grad():
            x = torch.as_tensor(x).float()
            return network(x, 1000 * torch.as_tensor(t).float().reshape(-1).expand(len(x)))

    return model


PROGRAM = Exercise(
    "few_steps.program", "Progressive distillation", TASK, STUB, SOLUTION, check, figure=figure, seconds=120.0,
    hints=(
        "Write move(x, x0, t, s) for one step of DDIM first, with t, s = t[:, None], s[:, None] inside; target uses it twice, sample n times.",
        "Solve x_s = (1 - s) x~ + s (x - (1 - t) x~) / t for x~: it is (t x_s - s x) / (t - s).",
        "loss: i = torch.randint(1, n + 1, (len(x0),)), t = i / n and s = (i - 1) / n; the target inside torch.no_grad().",
        "sample: t = torch.full((len(x),), i / n) for i = n, n - 1, ..., 1.",
    ),
)  # fmt: skip
