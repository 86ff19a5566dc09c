"""Answers to the program of the lesson on flow matching: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("t = torch.rand(len(x0))", "t = torch.rand(1)")], "each of 4000 rows has a time of its own"),
    ([("t = torch.rand(len(x0))", "t = torch.sigmoid(torch.randn(len(x0)))")], "uniform in [0, 1]"),
    ([("(1 - t[:, None]) * x0 + t[:, None] * eps", "t[:, None] * x0 + (1 - t[:, None]) * eps")], "lies on the line"),
    ([("(eps - x0)) ** 2", "(x0 - eps)) ** 2")], "squared difference to eps - x0"),
    ([("(eps - x0)) ** 2", "eps) ** 2")], "squared difference to eps - x0"),
    ([("(eps - x0)) ** 2).mean()", "(eps - x0)) ** 2).sum()")], "the mean over all numbers"),
    ([("(eps - x0)) ** 2).mean()", "(eps - x0)) ** 2)")], "the loss is one number, yours has shape (4000, 2)"),
    ([("(eps - x0)) ** 2).mean()", "(eps - x0)) ** 2).mean().item()")], "the loss is a tensor"),
    ([("network(x, t) -", "(network(x, t) + network(x, t)) / 2 -")], "asks the network once, yours 2 times"),
    ([("network(x, t) -", "network(x, t).detach() -")], "no gradient reaches the network"),
    ([("t = 1 - k * h", "t = k * h")], "the first at t = 1"),
    ([("x - h * u(middle", "x + h * u(middle"), ("x - h / 2", "x + h / 2")], "u is dx/dt, and t falls"),
    ([("u(middle, t - h / 2)", "u(middle, t - h)")], "in its middle"),
    ([("x = x - h * u(middle", "x = middle - h * u(middle")], "u is dx/dt"),
    ([("x = x - h * u(middle", "x = x - h * u(x")], "a quarter of the error"),
    ([("velocity = n * (", "velocity = (")], "straight paths at even speed have 0"),
    ([(".sum(dim=1).mean()", ".mean()")], "the sum over both coordinates"),
    ([("return total / n", "return total")], "the mean over rows and steps"),
]

RIGHT = [
    """import numpy as np

def loss(network, x0, eps):
    t = torch.distributions.Uniform(0.0, 1.0).sample((x0.shape[0], 1))
    return torch.nn.functional.mse_loss(network(torch.lerp(x0, eps, t), t[:, 0]), eps - x0)

def follow(u, x, steps):
    path = [np.asarray(x, dtype=np.float64)]
    times = np.linspace(1, 0, steps + 1)
    for t, s in zip(times, times[1:]):
        m = (t + s) / 2
        half = path[-1] + (m - t) * np.asarray(u(path[-1], t))
        path.append(path[-1] + (s - t) * np.asarray(u(half, m)))
    return np.stack(path)

def straightness(states):
    path = np.stack([np.asarray(x) for x in states])
    velocity = np.diff(path, axis=0) * (len(path) - 1)
    return np.mean(np.linalg.norm(velocity - (path[-1] - path[0]), axis=2) ** 2)
""",
    """def loss(network, x0, eps):
    t = 1 - torch.rand(x0.shape[:1])
    wanted = eps - x0
    error = network(eps - (1 - t).unsqueeze(1) * wanted, t) - wanted
    return error.pow(2).sum() / error.numel()

def follow(u, x, steps):
    out = torch.zeros(steps + 1, *x.shape)
    out[0] = x
    for k in range(steps):
        t = torch.tensor(1 - k / steps)
        first = u(out[k], t).float()
        out[k + 1] = out[k] - u(out[k] - first / (2 * steps), t - 0.5 / steps).float() / steps
    return out

def straightness(states):
    path = torch.stack([torch.as_tensor(x) for x in states]).float()
    velocity = path.diff(dim=0) * (len(path) - 1)
    # the chord is the mean of the velocities, so this is their variance over time
    return (velocity.square().mean(0) - velocity.mean(0).square()).sum(1).mean()
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[f"{k} {hint}" for k, (_, hint) in enumerate(WRONG)])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("flow", programming.changed("flow", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("flow", code)
