"""The program of the first lesson: a small U-Net with a time embedding, which then learns to draw digits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.data import open_source, to_float, to_uint8
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, block

TASK = r"""Write the network of nearly all these papers, a small U-Net: a class `UNet(torch.nn.Module)` without arguments, whose `forward(x, t)` takes
pictures `x` (N, 1, 8, 8) and levels `t` (N,) from 1 to 1000, and gives back numbers of the shape of `x`. At most a million parameters.

- **Time**: sines and cosines of `t` at several frequencies, then a linear layer or two; added to the channels of a layer.
- **Down**: convolutions at 8x8, then pooling or a stride to 4x4 with more channels, and convolutions there.
- **Up**: back to 8x8 (`torch.nn.Upsample` or `ConvTranspose2d`), joined with what was there before at 8x8: the skip connection.
- Pictures of a batch have nothing to do with each other: no `BatchNorm`.

The check trains it for 100 steps on real digits to predict noise, and looks inside: does the level matter, does each output see the
whole picture, do details pass beside the bottleneck? Then it learns for 300 more steps, and draws."""

STUB = '''class UNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        ...

    def forward(self, x, t):
        """x (N, 1, 8, 8), t (N,) -> (N, 1, 8, 8)"""
        ...
'''

SOLUTION = """class UNet(torch.nn.Module):
    def __init__(self):
        super().__init__()
        nn, n = torch.nn, 32
        self.time = nn.Sequential(nn.Linear(16, 64), nn.SiLU(), nn.Linear(64, n + 2 * n))
        self.into = nn.Conv2d(1, n, 3, padding=1)
        self.first = nn.Conv2d(n, n, 3, padding=1)
        self.down = nn.Conv2d(n, 2 * n, 3, padding=1, stride=2)
        self.middle = nn.Conv2d(2 * n, 2 * n, 3, padding=1)
        self.up = nn.ConvTranspose2d(2 * n, n, 2, stride=2)
        self.last = nn.Conv2d(2 * n, n, 3, padding=1)
        self.out = nn.Conv2d(n, 1, 3, padding=1)

    def forward(self, x, t):
        act, n = torch.nn.functional.silu, 32
        angle = t[:, None] / 1000 * 2.0 ** torch.arange(8)
        time = self.time(torch.cat([angle.sin(), angle.cos()], dim=1))[:, :, None, None]
        fine = act(self.into(x) + time[:, :n])
        fine = act(self.first(fine))
        coarse = act(self.down(fine) + time[:, n:])
        coarse = act(self.middle(coarse))
        joined = torch.cat([act(self.up(coarse)), fine], dim=1)  # the skip connection
        return self.out(act(self.last(joined)))
"""


def _train(network: Any, steps: int) -> float:
    """Predict the noise of digits for so many steps; the mean loss of the last fifth."""
    images = to_float(open_source("digits").images)
    optimizer, losses, bars = torch.optim.Adam(network.parameters(), lr=2e-3), [], BARS.float()
    for _ in range(steps):
        x0 = images[torch.randint(len(images), (64,))]
        t, eps = torch.randint(1, 1001, (64,)), torch.randn_like(x0)
        a = bars[t][:, None, None, None]
        optimizer.zero_grad()
        loss = ((network(a.sqrt() * x0 + (1 - a).sqrt() * eps, t) - eps) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return sum(losses[-steps // 5 :]) / (steps // 5)


def check(namespace: Namespace) -> None:
    """Shapes; then, after a short training: independence of rows, the level, the field of view and the skip connection."""
    network: Any = wanted(namespace, "UNet")()
    assert isinstance(network, nn.Module), "UNet is a class that inherits torch.nn.Module"
    count = sum(p.numel() for p in network.parameters())
    assert count, "the network has no parameters: make its layers in __init__, as attributes"
    assert count <= 10**6, tr("at most a million parameters, yours has {count:,}", count=count)
    x, t = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 1000])
    made = network(x, t)
    assert made is not None, "forward returns nothing"
    assert made.shape == x.shape, tr(
        "forward gives back shape {shape}, yours {yours}", shape=tuple(x.shape), yours=tuple(made.shape)
    )
    loss = _train(network, 100)
    with torch.no_grad():
        together, alone = network(x, t), torch.cat([network(x[i : i + 1], t[i : i + 1]) for i in range(3)])
        other = network(x, t.flip(0))
    assert torch.allclose(together, alone, atol=1e-3), (
        "a picture's output depends on the others of its batch: each has its own level, and BatchNorm mixes them"
    )
    assert float((together - other)[[0, 2]].abs().max()) > 1e-2, (
        "the level makes no difference: the time embedding must reach the channels"
    )
    _look_inside(network)
    assert loss < 0.45, tr(
        "after 100 steps on digits the mean squared error of the noise is below 0.45, yours is {loss:.3f}", loss=loss
    )
    namespace["_network"] = network


def _look_inside(network: Any) -> None:
    """What an output depends on; and what remains of that if every layer that works at 4x4 or less is silenced."""
    x, t, coarse = torch.randn(1, 1, 8, 8, requires_grad=True), torch.tensor([300]), list[str]()
    (seen,) = torch.autograd.grad(network(x, t)[0, 0, 4, 4], x)

    def silence(module: nn.Module, given: Any, output: Any) -> Any:
        if isinstance(output, Tensor) and output.ndim == 4 and output.shape[-1] <= 4:
            coarse.append(type(module).__name__)
            return output * 0
        return None

    hooks = [m.register_forward_hook(silence) for m in network.modules() if not list(m.children())]
    (beside,) = torch.autograd.grad(network(x, t).square().sum(), x, allow_unused=True)
    for hook in hooks:
        hook.remove()
    assert coarse, "no layer works at 4x4: go down by pooling or a stride, and convolve there"
    assert float(seen[0, 0, :2, :2].abs().max()) > 0, (
        "an output in the middle does not see the corner: convolve at 4x4 too"
    )
    assert beside is not None, "without the layers at 4x4 nothing of the picture arrives: there is no skip connection"
    assert float(beside.abs().max()) > 0, (
        "without the layers at 4x4 nothing of the picture arrives: there is no skip connection"
    )


def figure(namespace: Namespace) -> Figure:
    """Twelve digits by DDIM from the answer's network, after 300 steps more."""
    network = namespace["_network"]
    _train(network, 300)
    x, bars, film = torch.randn(12, 1, 8, 8), BARS.float(), []
    times = [round(1000 * k / 40) for k in range(40, -1, -1)]
    with torch.no_grad():
        for t, s in pairwise(times):
            eps = network(x, torch.full((12,), t))
            x0 = ((x - (1 - bars[t]).sqrt() * eps) / bars[t].sqrt()).clamp(-1, 1)
            eps = (x - bars[t].sqrt() * x0) / (1 - bars[t]).sqrt()
            x = bars[s].sqrt() * x0 + (1 - bars[s]).sqrt() * eps
            film.append(block(to_uint8(x), columns=6))
    return figures.frames({"drawn by your U-Net after 400 steps": torch.stack(film)})


PROGRAM = Exercise(
    "first_picture.program", "A small U-Net", TASK, STUB, SOLUTION, check, figure=figure, seconds=120.0,
    hints=(
        "Layers are made once, in __init__: self.into = torch.nn.Conv2d(1, 32, 3, padding=1), and so on. padding=1 keeps the size.",
        "angle = t[:, None] / 1000 * 2.0 ** torch.arange(8) gives eight frequencies; the sines and cosines go through a Linear layer to "
        "as many numbers as a layer has channels, and [:, :, None, None] makes them fit pictures.",
        "torch.cat([up, fine], dim=1) joins the upsampled channels with those of 8x8 from before; the next convolution takes both.",
    ),
)  # fmt: skip
