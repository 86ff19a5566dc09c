"""The program of the lesson on flow matching (Lipman et al. 2023, Liu et al. 2023): the loss, the flow, and reflow."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from sfumato.claims.toys import ring, sliced_distance
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import Watched, descend, given, loss_value, normal, on_line, states, tensor
from sfumato.learn.programs.spiral import Small

TASK = r"""Data are at $t = 0$ and noise at $t = 1$, on the lines $x_t = (1-t)\,x_0 + t\,\epsilon$. Write

- `loss(network, x0, eps)`: draw a time $t$ for each row, uniform in $[0, 1]$, and ask `network(x, t)` with `x` (N, 2) and `t` (N,). Give back
  the squared difference to $\epsilon - x_0$, as the mean over all numbers: the conditional flow matching loss.
- `follow(u, x, steps)`: from noise at $t = 1$ to data at $t = 0$ along $dx/dt = u(x, t)$, by the midpoint method: in a step of length $h$ from $t$ to
  $t - h$ go half of it with $u(x, t)$, and from `x` all of it with the velocity found there, at $t - h/2$. Give back all `steps + 1` states, the start first.
- `straightness(states)`: for such states, evenly spaced in time, the mean over steps and rows of $|v_k - c|^2$, where $v_k$ is a step's velocity
  ($n$ times the difference of its two states, for $n$ steps) and $c$ the difference of the last state and the first; $|\cdot|$ is the Euclidean norm.

The check looks at what your loss asks for, and follows Gaussian data, whose flow is known. Then your loss trains a network on the ring; your
`follow` gives each noise its end, and a second network learns from these pairs: **reflow**."""

STUB = '''def loss(network, x0, eps):
    """x0, eps (N, 2) -> a tensor with one number"""
    ...


def follow(u, x, steps):
    """x (N, 2) at t = 1 -> a list of steps + 1 states, the last at t = 0"""
    ...


def straightness(states):
    """a list of states (N, 2) -> one number"""
    ...
'''

SOLUTION = """def loss(network, x0, eps):
    t = torch.rand(len(x0))
    x = (1 - t[:, None]) * x0 + t[:, None] * eps
    return ((network(x, t) - (eps - x0)) ** 2).mean()


def follow(u, x, steps):
    states, h = [x], 1 / steps
    for k in range(steps):
        t = 1 - k * h
        middle = x - h / 2 * u(x, t)
        x = x - h * u(middle, t - h / 2)
        states.append(x)
    return states


def straightness(states):
    chord, n = states[-1] - states[0], len(states) - 1
    total = 0
    for k in range(n):
        velocity = n * (states[k + 1] - states[k])
        total = total + ((velocity - chord) ** 2).sum(dim=1).mean()
    return total / n
"""


def check(namespace: Namespace) -> None:
    """What the loss asks and says; Gaussian data's flow; and the straightness of paths that are known."""
    loss, follow, straightness = (wanted(namespace, name) for name in ("loss", "follow", "straightness"))
    _check_loss(loss)
    _check_follow(follow)
    for n in (1, 5, 20):
        _check_straightness(straightness, n)


def _check_loss(loss: Any) -> None:
    network, x0, eps = Watched(lambda x, t: x, 0.3), normal(0, 4000, 2).float() + 1, normal(1, 4000, 2).float()
    value = loss_value(loss(network, x0, eps))
    x, t = network.once(tr("the network"), 4000)
    assert float(t.min()) >= 0, "times lie between 0 and 1"
    assert float(t.max()) <= 1, "times lie between 0 and 1"
    assert abs(float(t.mean()) - 0.5) < 0.03, tr(
        "uniform times are 0.5 on average, yours {mean:.2f}", mean=float(t.mean())
    )
    assert abs(float(t.std()) - 12**-0.5) < 0.02, tr(
        "times that are uniform in [0, 1] have standard deviation 0.289, yours {spread:.3f}", spread=float(t.std())
    )
    on_line(x, t, x0, eps)
    expected = float((0.3 * x - (eps - x0)).square().mean())
    assert abs(float(value.detach()) - expected) < 1e-3 * expected, tr(
        "a network that says 0.3 x has the loss {expected:.4f}, the mean over all numbers of the squared difference to eps - x0; yours is "
        "{value:.4f}",
        expected=expected,
        value=float(value.detach()),
    )
    assert value.requires_grad, (
        "no gradient reaches the network: the loss must be computed from what it says, undetached"
    )


def _check_follow(follow: Any) -> None:
    """Data N(0.6, 0.3^2): a point keeps its quantile, so every state is known up to the method's own error."""
    mean, std, asked, start = 0.6, 0.3, list[float](), normal(2, 50, 2)

    def spread(t: float) -> float:
        return math.hypot((1 - t) * std, t)

    def u(x: Tensor, t: Tensor) -> Tensor:
        asked.append(float(t))
        return -mean + (t - (1 - t) * std**2) / spread(float(t)) ** 2 * (x - (1 - t) * mean)

    errors = []
    for steps in (20, 40):
        asked.clear()
        found = states(follow(given(u), start, steps), "follow", steps + 1, (50, 2))
        order = [t for k in range(steps) for t in (1 - k / steps, 1 - (k + 0.5) / steps)]
        assert len(asked) == 2 * steps, tr(
            "{steps} steps ask for the velocity {times} times, yours {asked} times",
            steps=steps,
            times=2 * steps,
            asked=len(asked),
        )
        assert all(abs(a - b) < 1e-5 for a, b in zip(asked, order, strict=True)), tr(
            "a step asks where it starts and in its middle, the first at t = 1: at "
            "{expected} ...; yours at {found} ...",
            expected=", ".join(f"{t:g}" for t in order[:4]),
            found=", ".join(f"{t:g}" for t in asked[:4]),
        )
        exact = torch.stack([k / steps * mean + spread(1 - k / steps) * start for k in range(steps + 1)])
        off = (found - exact).abs().amax((1, 2))
        assert float(off.max()) < 0.1, tr(
            "data are N(0.6, 0.3^2): the noise z is at (1 - t) 0.6 + s(t) z at every time; after step {k} of {steps} yours is "
            "{off:.2f} off. u is dx/dt, and t falls",
            k=int((off > 0.1).double().argmax()),
            steps=steps,
            off=float(off[off > 0.1][0]),
        )
        errors.append(float(off[-1]))
    assert errors[1] < errors[0] / 3, tr(
        "with twice the steps the midpoint method has about a quarter of the error; yours {error:.2g} in 20 and {halved:.2g} in 40 steps. "
        "The whole step starts from x again, and uses the velocity of the middle alone",
        error=errors[0],
        halved=errors[1],
    )


def _check_straightness(straightness: Any, n: int) -> None:
    """Straight lines at even speed are 0; x = (k/n)^2 in one coordinate has velocities (2k + 1)/n around 1."""
    k = torch.arange(n + 1, dtype=torch.float64) / n
    direction, scale = normal(3, 6, 2), torch.tensor([1.0, 2.0, 3.0, 0.0, 1.0, 1.0], dtype=torch.float64)
    found = tensor(straightness([normal(4, 6, 2) + share * direction for share in k]), "straightness")
    assert found.numel() == 1, tr("straightness is one number, yours has shape {shape}", shape=tuple(found.shape))
    assert abs(float(found)) < 1e-5, tr(
        "straight paths at even speed have 0; yours {found:.4f} in {n} steps", found=float(found), n=n
    )
    path = [torch.stack([-(share**2) * scale, 2 * share**2 * scale], dim=1) for share in k]
    expected = 5 * float(scale.square().mean()) * (1 - 1 / n**2) / 3
    value = float(tensor(straightness(path), "straightness"))
    assert abs(value - expected) < 1e-4, tr(
        "paths (-a s^2, 2 a s^2) with s from 0 to 1 in {n} steps and a = 1, 2, 3, 0, 1, 1 have velocities 2k + 1 over n times the chord, so {expected:.4f}: the "
        "sum over both coordinates, the mean over rows and steps. Yours {value:.4f}",
        n=n,
        expected=expected,
        value=value,
    )


def _trained(loss: Any, pairs: Any, steps: int = 1500) -> Any:
    """A small network after so many steps of the answer's loss, as u(x, t)."""
    network = Small()

    def of_pairs() -> Tensor:
        x0, eps = pairs()
        return torch.as_tensor(loss(lambda x, t: network(x, 1000 * t), x0, eps))

    descend(network, of_pairs, steps, 4e-3)

    def u(x: Tensor, t: Tensor) -> Tensor:
        with torch.no_grad():
            return network(x.float(), (1000 * t).float().expand(len(x))).double()

    return given(u)


def figure(namespace: Namespace) -> Figure:
    """The flow that the answer's loss learns on the ring, and the one that learns from its pairs."""
    loss, follow, straightness = (namespace[name] for name in ("loss", "follow", "straightness"))
    data, noise = ring().sample(20_000, torch.Generator().manual_seed(0)), normal(5, 1000, 2)
    first = _trained(loss, lambda: (data[torch.randint(len(data), (512,))].float(), torch.randn(512, 2)))
    z = normal(6, 6000, 2)
    ends = tensor(follow(first, z, 20)[-1], "follow", (6000, 2))

    def pairs() -> tuple[Tensor, Tensor]:
        chosen = torch.randint(len(z), (512,))
        return ends[chosen].float(), z[chosen].float()

    runs = {}
    for name, u in ((tr("first flow"), first), (tr("after reflow"), _trained(loss, pairs))):
        path = states(follow(u, noise, 24), "follow", 25, (1000, 2))
        runs[tr("{name}: straightness {value:.2f}", name=name, value=float(straightness([*path])))] = path
        one = states(follow(u, noise, 1), "follow", 2, (1000, 2))
        distance = sliced_distance(one[-1], data[:1000])
        runs[tr("{name}, one step: sliced distance {value:.2f}", name=name, value=distance)] = one
    return figures.scrubber(runs, data[:600])


PROGRAM = Exercise(
    "flow.program", "Flow matching and reflow", TASK, STUB, SOLUTION, check, figure=figure, seconds=120.0,
    hints=(
        "t = torch.rand(len(x0)); t[:, None] makes it fit rows of two numbers, the network gets t itself.",
        "With h = 1 / steps the k-th step starts at t = 1 - k * h. middle = x - h / 2 * u(x, t): minus, since t falls.",
        "Then x = x - h * u(middle, t - h / 2).",
        "straightness: chord = states[-1] - states[0]; for each k the velocity is n * (states[k + 1] - states[k]); sum(dim=1) over coordinates.",
    ),
)  # fmt: skip
