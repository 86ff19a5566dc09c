"""The program of the lesson on the swiss roll: a training loop, with averaged weights, and what it learns."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.claims.toys import all_states, linear, normal
from sfumato.core.denoisers import Prediction
from sfumato.data.toys import swiss_roll
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, tensor
from sfumato.samplers import DDIM

TASK = r"""So far the reverse step was exact. Write what makes a network learn it: `train(network, loss, data, steps, rate, decay)`.

In each of `steps` steps: take 64 rows of `data` (n, 2) at random, compute `loss(network, batch)` (a tensor with one number), set the
gradients to zero, go backward, and take a step of `torch.optim.Adam` with the rate `rate`. After each step average every parameter,
$\bar\theta \leftarrow d\,\bar\theta + (1-d)\,\theta$ with $d$ = `decay`, beginning at the parameters before the first step. Give back the list of averages, in the order of
`network.parameters()`.

The check uses a loss whose gradient is constant: Adam then moves each parameter by exactly the rate. Then your loop
trains a small network on the spiral, and samples are drawn with its averages."""

STUB = '''def train(network, loss, data, steps, rate, decay):
    """-> a list of averaged parameters"""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    ...
'''

SOLUTION = """def train(network, loss, data, steps, rate, decay):
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    averages = [p.detach().clone() for p in network.parameters()]
    for step in range(steps):
        batch = data[torch.randint(len(data), (64,))]
        optimizer.zero_grad()
        value = loss(network, batch)
        value.backward()
        optimizer.step()
        with torch.no_grad():
            for average, p in zip(averages, network.parameters()):
                average.mul_(decay).add_(p, alpha=1 - decay)
    return averages
"""

RATE, DECAY, STEPS = 0.01, 0.9, 40


def check(namespace: Namespace) -> None:
    """Adam's steps under a constant gradient, the average by its own recursion, and the batches."""
    train = wanted(namespace, "train")
    network, data = nn.Linear(2, 3), torch.randn(1000, 2, generator=torch.Generator().manual_seed(7))
    slope = [5 * torch.ones_like(p) for p in network.parameters()]
    path, batches = list[list[Tensor]](), list[Tensor]()

    def loss(asked: nn.Module, batch: Tensor) -> Tensor:
        assert asked is network, "the loss gets the network itself"
        path.append([p.detach().clone().double() for p in network.parameters()])
        batches.append(torch.as_tensor(batch))
        terms = [(p * s).sum() for p, s in zip(network.parameters(), slope, strict=True)]
        return torch.stack(terms).sum()

    found = train(network, loss, data, STEPS, RATE, DECAY)
    assert len(path) == STEPS, tr(
        "the loss is asked once in each of {steps} steps, by you {path} times", steps=STEPS, path=len(path)
    )
    path.append([p.detach().clone().double() for p in network.parameters()])
    _check_batches(batches, data)
    for k in range(STEPS):
        moved = float((path[k + 1][0] - path[k][0]).mean())
        assert abs(moved + RATE) < 0.01 * RATE, tr(
            "with a constant gradient Adam moves each parameter by -rate = {rate:g} in every step; in step {k} yours move "
            "by {moved:.5f}. Are gradients set to zero before backward, and is it Adam with this rate?",
            rate=-RATE,
            k=k + 1,
            moved=moved,
        )
    average = path[0]
    for now in path[1:]:
        average = [DECAY * a + (1 - DECAY) * p for a, p in zip(average, now, strict=True)]
    assert len(found) == len(average), tr(
        "there are {average} parameters, you give back {found} averages", average=len(average), found=len(found)
    )
    for mine, expected, last in zip(found, average, path[-1], strict=True):
        value = tensor(mine, "train", tuple(expected.shape))
        assert not torch.allclose(value, last, atol=1e-4), "these are the last parameters, not their averages"
        assert torch.allclose(value, expected, atol=1e-4), tr(
            "after {steps} steps the average of the first parameter is {expected:.4f}, by its recursion; yours "
            "{value:.4f}. It keeps the share decay, and begins at the first parameters",
            steps=STEPS,
            expected=float(expected.flatten()[0]),
            value=float(value.flatten()[0]),
        )


def _check_batches(batches: list[Tensor], data: Tensor) -> None:
    """They have 64 rows of the data, others each time."""
    for batch in batches:
        assert batch.shape == (64, 2), tr("a batch has shape (64, 2), yours {shape}", shape=tuple(batch.shape))
    rows = torch.cat(batches).to(data.dtype)
    where = (torch.cdist(rows.double(), data.double())).min(1)
    assert float(where.values.max()) < 1e-5, "a batch holds rows of the data"
    different = len(where.indices.unique())
    assert different > 700, tr(
        "{steps} random batches of 64 reach nearly all of 1000 rows; yours reach {different}. Draw a new one in every step",
        steps=STEPS,
        different=different,
    )


class Small(nn.Module):
    """x and t to noise: a perceptron of two hidden layers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(22, 96), nn.SiLU(), nn.Linear(96, 96), nn.SiLU(), nn.Linear(96, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """x (N, 2), t (N,) from 1 to 1000 -> (N, 2)."""
        angle = t[:, None] / 1000 * math.pi * torch.tensor([0.5, 1.0, 2.0, 4.0])
        waves = (x[:, :, None] * torch.tensor([1.5, 3.0, 6.0])).flatten(1)
        return torch.as_tensor(self.layers(torch.cat([x, angle.sin(), angle.cos(), waves.sin(), waves.cos()], dim=1)))


def figure(namespace: Namespace) -> Figure:
    """A small network, trained by the answer on the spiral, and DDIM's samples of its averages."""
    process, data = linear(), 2 * swiss_roll(4000).reshape(-1, 2)
    bars = BARS.float()

    def loss(network: Any, batch: Tensor) -> Tensor:
        batch = batch.repeat(8, 1)  # eight levels and draws of noise each
        t, eps = (1000 * torch.rand(len(batch)) ** 1.5).long() + 1, torch.randn(batch.shape)
        a = bars[t][:, None]
        return ((network(a.sqrt() * batch + (1 - a).sqrt() * eps, t) - eps) ** 2).mean()

    network = Small()
    averages = namespace["train"](network, loss, data.float(), 1500, 4e-3, 0.99)
    with torch.no_grad():
        for p, average in zip(network.parameters(), averages, strict=True):
            p.copy_(torch.as_tensor(average))

        def denoise(x: Tensor, t: Tensor) -> Prediction:
            level = process.level(t, x)
            eps = network(x.float(), t.expand(len(x)).float()).to(x.dtype)
            return Prediction(x, level, eps, (x - level.sigma * eps) / level.alpha)

        film = all_states(normal(0, 300, 2), DDIM().plan(process, denoise, 50))
    return figures.scrubber({"learned by your loop, in 1500 steps": film}, data[:800].double())


PROGRAM = Exercise(
    "spiral.program", "A training loop with averaged weights", TASK, STUB, SOLUTION, check, figure=figure, seconds=90.0,
    hints=(
        "data[torch.randint(len(data), (64,))] is a random batch. In every step: zero_grad, loss, backward, step.",
        "Before the loop: averages = [p.detach().clone() for p in network.parameters()].",
        "After each step, inside torch.no_grad(): average.mul_(decay).add_(p, alpha=1 - decay) for each pair.",
    ),
)  # fmt: skip
