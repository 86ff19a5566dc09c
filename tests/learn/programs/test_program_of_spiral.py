"""Answers to the program of the lesson on the swiss roll: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("        optimizer.zero_grad()\n", "")], "set to zero before backward"),
    ([("torch.optim.Adam", "torch.optim.SGD")], "is it Adam"),
    ([("mul_(decay).add_(p, alpha=1 - decay)", "mul_(1 - decay).add_(p, alpha=decay)")], "keeps the share decay"),
    ([("return averages", "return [p.detach() for p in network.parameters()]")], "the last parameters"),
    ([("data[torch.randint(len(data), (64,))]", "data[:64]")], "Draw a new one"),
    ([("detach().clone()", "detach() * 0")], "begins at the first parameters"),
    ([("        optimizer.step()\n", "")], "moves each parameter"),
]

RIGHT = [
    """import copy

def train(network, loss, data, steps, rate, decay):
    smooth = copy.deepcopy(network)
    adam, order = torch.optim.Adam(network.parameters(), rate), []
    for _ in range(steps):
        if len(order) < 64:
            order = torch.randperm(len(data)).tolist()
        now, order = order[:64], order[64:]
        loss(network, data[now]).backward()
        adam.step()
        network.zero_grad()
        for a, p in zip(smooth.parameters(), network.parameters()):
            a.data.lerp_(p.data, 1 - decay)
    return [a.data for a in smooth.parameters()]
""",
    """import numpy as np

def train(network, loss, data, steps, rate, decay):
    rng, parameters = np.random.default_rng(0), list(network.parameters())
    average = [p.detach().numpy().astype(np.float64) for p in parameters]
    first, second = ([np.zeros(p.shape) for p in parameters] for _ in range(2))
    for k in range(1, steps + 1):
        grads = torch.autograd.grad(loss(network, data[rng.integers(0, len(data), 64)]), parameters)
        for i, (p, g) in enumerate(zip(parameters, grads)):
            g = g.numpy()
            first[i] = 0.9 * first[i] + 0.1 * g
            second[i] = 0.999 * second[i] + 0.001 * g * g
            move = first[i] / (1 - 0.9**k) / (np.sqrt(second[i] / (1 - 0.999**k)) + 1e-8)
            p.data -= torch.as_tensor(rate * move, dtype=p.dtype)
            average[i] = decay * average[i] + (1 - decay) * p.detach().numpy()
    return average
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("spiral", programming.changed("spiral", *changes), hint)


@pytest.mark.slow
@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("spiral", code)
