"""The exercises of the first lesson: the loop that all samplers share, and from numbers to pixels."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


class _Fixed:
    """A distribution that is known: its mean, and draws that lie so far above it."""

    def __init__(self, mean: torch.Tensor, above: float) -> None:
        self.mean, self.above = mean, above

    def sample(self) -> torch.Tensor:
        return self.mean + self.above


class _Step(NamedTuple):
    """What a kernel returns."""

    to: _Fixed
    prediction: torch.Tensor


def _check_loop(namespace: dict[str, Any]) -> None:
    loop = wanted(namespace, "sample")
    seen: list[tuple[int, int]] = []

    def halve(x: torch.Tensor, t: int, s: int) -> _Step:
        seen.append((t, s))
        return _Step(_Fixed(x / 2, 0.0), x)

    x = torch.tensor([8.0, -4.0])
    found = loop(x, [(halve, 3, 2), (halve, 2, 1), (halve, 1, 0)])
    assert isinstance(found, torch.Tensor), "return the last state, a tensor"
    assert seen == [(3, 2), (2, 1), (1, 0)], tr(
        "each kernel is asked about its own (t, s), in order; yours asked {seen}", seen=seen
    )
    assert torch.equal(found, x / 8), tr(
        "three steps that halve leave an eighth, {x}; yours leave {found}: does every step begin "
        "where the last one ended?",
        x=(x / 8).tolist(),
        found=found.tolist(),
    )
    found = loop(x, [(lambda x, t, s: _Step(_Fixed(x, 1.0), x), 1, 0)])
    assert torch.equal(found, x + 1), "step.to is a distribution: draw from it with .sample(), do not take its mean"


def _check_pixels(namespace: dict[str, Any]) -> None:
    pixels = wanted(namespace, "pixels")
    for byte in range(256):
        x = torch.tensor([byte / 127.5 - 1])
        found = int(pixels(x)[0])
        assert found == byte, tr(
            "the grey level {byte} is stored as {x:.5f}, and should come back; yours is {found}",
            byte=byte,
            x=float(x),
            found=found,
        )
    for value, expected in ((1.3, 255), (-7.0, 0)):
        found = int(pixels(torch.tensor([value]))[0])
        assert found == expected, tr(
            "a sampler may leave [-1, 1]: {value} should be {expected}, yours is {found}",
            value=value,
            expected=expected,
            found=found,
        )


EXERCISES = (
    Exercise(
        "first_picture.1",
        "The loop that all eight papers share",
        r"""`moves` is a list of `(kernel, t, s)`. A kernel maps the state at level `t` to a step: `step.to` is the
*distribution* of the state at the lower level `s`, with `.mean` and `.sample()`, and `step.prediction` what the network predicted. Take
all the moves from `x` on and return the last state.""",
        "def sample(x, moves):\n    for kernel, t, s in moves:\n        step = kernel(x, t, s)\n    return x\n",
        "def sample(x, moves):\n    for kernel, t, s in moves:\n        x = kernel(x, t, s).to.sample()\n    return x\n",
        _check_loop,
        version=2,
    ),
    Exercise(
        "first_picture.2",
        "A planted bug",
        r"""A network sees numbers in $[-1, 1]$, a picture has 0 to 255. This has a mistake that darkens every picture by half a grey level,
and another that turns the brightest spots black. Fix both.""",
        "def pixels(x):\n    return ((x + 1) * 127.5).to(torch.uint8)\n",
        "def pixels(x):\n    return ((x + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)\n",
        _check_pixels,
    ),
)
