"""Answers to the program of the lesson on few steps: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("teacher(middle, m), m, s)", "teacher(x, t), m, s)")], "asks the teacher at the middle"),
    ([("return (t * end - s * x) / (t - s)", "return end")], "the target is found from"),
    ([("(t * end - s * x) / (t - s)", "(end - s * x) / (1 - s)")], "one step with your target ends"),
    ([("m = (t + s) / 2", "m = t - (t - s) / 4")], "over m ="),
    ([("torch.randint(1, n + 1,", "1 + torch.randint(1, n,")], "starts them at t = 0.25"),
    ([("i / n, (i - 1) / n", "i / n, (i - 0.5) / n")], "two of the teacher's, of half its length"),
    ([("x = (1 - t[:, None]) * x0 + t[:, None] * eps", "x = t[:, None] * x0 + (1 - t[:, None]) * eps")], "on the line"),
    ([("n + 1, (len(x0),))", "n + 1, (1,))")], "each of 4000 rows has a time of its own; you give the student 1"),
    ([("(student(x, t) - wanted)", "((student(x, t) + student(x, t)) / 2 - wanted)")], "student once, yours 2 times"),
    ([("(student(x, t) - wanted) ** 2).mean()", "(student(x, t) - wanted) ** 2)")], "the loss is one number"),
    ([("with torch.no_grad():", "if True:")], "the teacher learns nothing"),
    ([("(student(x, t) - wanted)", "(student(x, t).detach() - wanted)")], "no gradient reaches the student"),
    ([("(student(x, t) - wanted)", "(student(x, t) - x0)")], "says x / 2 has the loss"),
    ([("states = [x]\n", "states, f0 = [x], f(x, torch.ones(len(x)))\n"), (" f(x, t), t, s)", " f0, t, s)")],
     "ask the model 4 times"),
    ([(" f(x, t), t, s)", " f(states[0], t), t, s)")], "where it has come to"),
    ([("(i - 1) / n)\n        x", "i / n - 1)\n        x")], "state 1 of 4"),
]  # fmt: skip

RIGHT = [
    """import numpy as np

def target(teacher, x, t, s):
    x, t, s = np.asarray(x), np.asarray(t)[:, None], np.asarray(s)[:, None]
    m = (t + s) / 2
    def eps(x, x0, t):
        return (x - (1 - t) * x0) / t
    first = np.asarray(teacher(x, t[:, 0]))
    middle = (1 - m) * first + m * eps(x, first, t)
    second = np.asarray(teacher(middle, m[:, 0]))
    end = (1 - s) * second + s * eps(middle, second, m)
    q = s / t
    return (end - q * x) / ((1 - s) - q * (1 - t))

def loss(student, teacher, x0, eps, n):
    k = torch.from_numpy(np.random.default_rng().integers(0, n, len(x0)))
    t = (n - k) / n
    x = torch.lerp(x0, eps, t[:, None])

    def fixed(x, t):
        with torch.no_grad():
            return teacher(torch.as_tensor(x), torch.as_tensor(t))

    goal = torch.as_tensor(target(fixed, x, t, t - 1 / n))
    return torch.nn.functional.mse_loss(student(x, t).double(), goal.double())

def sample(f, x, n):
    path, times = [np.asarray(x)], np.linspace(1, 0, n + 1)
    for t, s in zip(times, times[1:]):
        x0 = np.asarray(f(torch.as_tensor(path[-1]), torch.full((len(x),), float(t))))
        path.append(s / t * path[-1] + (1 - s / t) * x0)
    return np.stack(path)
""",
    """def target(teacher, x, t, s):
    x, t, s = x.float(), t.float(), s.float()
    m = 0.5 * (t + s)
    first = teacher(x, t).float()
    middle = x + ((m - t) / t)[:, None] * (x - first)  # Euler's step of the ODE
    second = teacher(middle, m).float()
    # a mean of the two predictions, with the weights that the two steps give them
    a = ((1 - m / t) * s / m)[:, None]
    b = (1 - s / m)[:, None]
    return (a * first + b * second) / (a + b)

def loss(student, teacher, x0, eps, n):
    t = torch.ceil(torch.rand(len(x0)) * n).clamp(min=1) / n
    x = x0 + t.unsqueeze(1) * (eps - x0)
    goal = target(teacher, x, t, (t - 1 / n).clamp(min=0)).detach()
    return (student(x, t) - goal).square().sum() / (2 * len(x0))

def sample(f, x, n):
    out = [x.float()]
    for i in range(n):
        t = torch.ones(len(x)) - i / n
        out.append(out[-1] - (out[-1] - f(out[-1], t).float()) / (t * n)[:, None])
    return out
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[f"{k} {hint}" for k, (_, hint) in enumerate(WRONG)])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("few_steps", programming.changed("few_steps", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("few_steps", code)
