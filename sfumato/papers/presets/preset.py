"""A preset: a recipe, a data set and training numbers that belong together; and what the tables share.

That is: sizes of short runs, and training numbers of short and of published ones.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig


@dataclass(frozen=True)
class Preset:
    """What `sfumato train NAME` starts from."""

    recipe: Trainable
    """The paper's choices; shape, classes and moments are taken from the data."""
    data: str
    """The spec of the training images."""
    train: TrainConfig
    """The training numbers."""
    about: str
    """What it is and the published result, in one line."""
    source: str | None = None
    """A model that the training begins at where --from names no other; its recipe and its images are taken."""


class Size(NamedTuple):
    """The shape of a small data set, and the options of any U-Net that is trained on it in minutes on a CPU."""

    shape: tuple[int, ...]
    unet: dict[str, Any]


DIGITS = Size((1, 8, 8), {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "dropout": 0.0})
FASHION = Size((1, 28, 28), {**DIGITS.unet, "multipliers": (1, 2, 2), "attention": (4,)})
EMOJI = Size((3, 32, 32), {**FASHION.unet, "multipliers": (1, 2, 4), "dropout": 0.1})
SIGNALS = Size((1, 128), {**DIGITS.unet, "multipliers": (1, 2, 2, 2), "attention": (8,)})
CLIPS = Size((1, 8, 16, 16), {**DIGITS.unet, "channels": 16, "multipliers": (1, 2, 4), "attention": (4,)})


def short(minutes: float, **more: Any) -> TrainConfig:
    """A run on a CPU: a high learning rate that decays to zero over the budget (docs/training.md)."""
    return TrainConfig(minutes=minutes, **{"learning_rate": 2e-3, **more})


def clothes(minutes: float = 8.0, **more: Any) -> TrainConfig:
    """A run on the clothes, in small batches: where arithmetic is the cost, more steps of fewer images learn faster."""
    return short(minutes, **{"batch": 32, **more})


def emoji(minutes: float = 30.0, **more: Any) -> TrainConfig:
    """A run on the emoji, with a slower moving average."""
    return short(minutes, ema=(0.9995,), **more)


def long(steps: int, batch: int, learning_rate: float, ema: float = 0.9999, **more: Any) -> TrainConfig:
    """A published training: so many steps with a constant learning rate; what is not published is torch's default."""
    return TrainConfig(
        images=steps * batch, batch=batch, learning_rate=learning_rate, betas=(0.9, 0.999), ema=(ema,), times="random",
        **{"decay": "constant", "clip": 0.0, "warmup": 0, **more},
    )  # fmt: skip
