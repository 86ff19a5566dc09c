"""What the checks and figures of programs share: answers in any precision, of torch or NumPy, as float64 tensors; what a
training loss asks its model; a training loop; Ho et al.'s levels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sfumato.learn.languages import tr

Model = Callable[[Any, Any], Tensor]
"""(x, t) -> what a network would say; takes torch's tensors, NumPy's arrays and numbers."""

BARS = torch.cat([torch.ones(1, dtype=torch.float64),
                  torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)])  # fmt: skip
"""Ho et al.'s schedule with level 0."""


def tensor(value: Any, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
    """What an answer gave back, in float64. AssertionError where it is no numbers, or not of the shape, or not finite."""
    try:
        found = torch.as_tensor(np.asarray(value.detach() if isinstance(value, Tensor) else value), dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError):
        raise AssertionError(
            tr("{name} gives back numbers, not {type_name}", name=name, type_name=type(value).__name__)
        ) from None
    if shape is not None:
        assert tuple(found.shape) == shape, tr(
            "{name} gives back shape {shape} here, yours has {yours}",
            name=name,
            shape=shape,
            yours=tuple(found.shape),
        )
    assert bool(found.isfinite().all()), tr("{name} gives back numbers that are not finite (nan or inf)", name=name)
    return found


def states(value: Any, name: str, count: int, shape: tuple[int, ...]) -> Tensor:
    """A whole trajectory, a list or an array of `count` states: (count, *shape) in float64."""
    assert hasattr(value, "__len__"), tr("{name} gives back all states, from the start to the end", name=name)
    assert len(value) == count, tr(
        "{name} gives back {count} states here, the start among them; yours are {found}",
        name=name,
        count=count,
        found=len(value),
    )
    return torch.stack([tensor(state, tr("every state of {name}", name=name), shape) for state in value])


def given(model: Callable[[Tensor, Tensor], Tensor]) -> Model:
    """A model that takes whatever an answer hands to it; x becomes float64 (N, D), and t float64, a number or (N,)."""

    def asked(x: Any, t: Any) -> Tensor:
        t = torch.as_tensor(np.asarray(t), dtype=torch.float64)
        x = torch.as_tensor(np.asarray(x.detach() if isinstance(x, Tensor) else x), dtype=torch.float64)
        return model(x, t.flatten()[:, None] if t.numel() > 1 else t.reshape(()))

    return asked


class Watched(nn.Module):
    """A model with one parameter, c times `inner(x, t)` with t (N, 1), that keeps the x and t (N,) of every call."""

    def __init__(self, inner: Callable[[Tensor, Tensor], Tensor], c: float) -> None:
        super().__init__()
        self.inner, self.c, self.asked = inner, nn.Parameter(torch.tensor(c)), list[tuple[Tensor, Tensor]]()

    def forward(self, x: Any, t: Any) -> Tensor:
        x, t = torch.as_tensor(x), torch.as_tensor(t)
        self.asked.append((x.detach().double(), t.detach().double().reshape(-1)))
        return self.c * self.inner(x, t.reshape(-1, 1))

    def once(self, name: str, rows: int) -> tuple[Tensor, Tensor]:
        """The x and t of a loss that asks it once, with a time for each of so many rows. AssertionError for another.

        Args:
            name: what messages call the model, translated.
        """
        assert len(self.asked) == 1, tr(
            "the loss asks {name} once, yours {times} times", name=name, times=len(self.asked)
        )
        x, t = self.asked[0]
        assert t.numel() == rows, tr(
            "each of {rows} rows has a time of its own; you give {name} {count}",
            rows=rows,
            name=name,
            count=t.numel(),
        )
        return x, t


def on_line(x: Tensor, t: Tensor, x0: Tensor, eps: Tensor) -> None:
    """AssertionError unless x (N, D) is (1 - t) x0 + t eps for the times t (N,)."""
    line = (1 - t[:, None]) * x0 + t[:, None] * eps
    assert x.shape == line.shape, tr(
        "x has shape {shape}, yours {found}", shape=tuple(line.shape), found=tuple(x.shape)
    )
    assert torch.allclose(x, line, atol=1e-4), tr(
        "x lies on the line, (1 - t) x0 + t eps with the row's own t; yours is up to {off:.2f} off",
        off=float((x - line).abs().max()),
    )


def loss_value(value: Any) -> Tensor:
    """What a training loss gave back. AssertionError where it is no tensor with one number."""
    assert isinstance(value, Tensor), "the loss is a tensor, so that a training can go backward from it"
    assert value.numel() == 1, tr("the loss is one number, yours has shape {shape}", shape=tuple(value.shape))
    return value


def descend(network: nn.Module, loss: Callable[[], Tensor], steps: int, rate: float) -> None:
    """Train a network by Adam, whose rate falls to 0 along a cosine; `loss` draws a batch of its own each time."""
    optimizer = torch.optim.Adam(network.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()
        schedule.step()


def near(found: Tensor | float, expected: Tensor | float, share: float) -> bool:
    """Whether all numbers are within this share of what is expected."""
    found, expected = torch.as_tensor(found), torch.as_tensor(expected)
    return bool(((found - expected).abs() <= share * expected.abs()).all())


def normal(seed: int, *shape: int) -> Tensor:
    """float64 standard normal numbers of a seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def block(pictures: Tensor, columns: int = 3) -> Tensor:
    """Pictures (N, C, H, W) in rows of so many, as one picture (C, rows H, columns W)."""
    return torch.cat([torch.cat([*row], dim=2) for row in pictures.split(columns)], dim=1)


def shown(numbers: Tensor) -> str:
    """A few numbers, to be read."""
    return "(" + ", ".join(f"{float(number):.4f}" for number in numbers) + ")"
