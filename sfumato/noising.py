"""Noising: how the noise of a training batch is drawn, and so which noise meets which image.

Independently; by minibatch optimal transport (Pooladian et al. 2023; Tong et al. 2024), which is the assignment of
Immiscible Diffusion (Li et al. 2024); the nearest of a few draws (Li et al. 2025), or that of the least loss
(Gladstone et al. 2026); with an offset a channel (Guttenberg 2023). Sampling starts from independent noise after any of
them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor

from sfumato.core.distributions import Noise
from sfumato.core.pairing import nearest, paired
from sfumato.fields import Range, check


class Noising:
    """Base class of noise couplings, frozen dataclasses of plain values. By itself noise is independent."""

    def __post_init__(self) -> None:
        check(self)

    @property
    def tries(self) -> int:
        """How many draws an image has in training, of which the one with the least loss is trained on."""
        return 1

    def draw(self, x0: Tensor, noise: Noise, y: Tensor | None = None) -> Tensor:
        """The training noise eps, like x0 (B, C, ...).

        Args:
            x0: clean data.
            noise: draws standard normal noise, for each image its own.
            y: (B,) labels, where the model is conditioned on them.
        """
        return noise(x0)

    def doubt(self, together: int, classes: int) -> str:
        """A line where it does next to nothing for so many images at once, of so many classes; else nothing."""
        return ""


@dataclass(frozen=True)
class Independent(Noising):
    """Independent standard normal noise for each image."""


@dataclass(frozen=True)
class Optimal(Noising):
    """Minibatch optimal transport (OT-CFM): the batch's noises, assigned so that squared distances sum to the least.

    Exact, on the host, in what a process sees at once; within classes where the model has labels, or noise would tell
    the class (Tong et al. 2024). Immiscible Diffusion (Li et al. 2024) is this assignment.
    """

    def draw(self, x0: Tensor, noise: Noise, y: Tensor | None = None) -> Tensor:
        return paired(x0, noise(x0), y)

    def doubt(self, together: int, classes: int) -> str:
        if together >= 4 * max(classes, 1):
            return ""
        of = f"of {classes:,} classes, " if classes else ""
        return (
            f"noise is assigned within {together:,} images {of}{together / max(classes, 1):.2g} to choose among on "
            "average, which changes little; take a larger --train.batch, or --recipe.noising immiscible"
        )


@dataclass(frozen=True)
class Immiscible(Noising):
    """Immiscible noise: the nearest to the image of a few draws (Li et al. 2025), whatever else is in the batch.

    The noise is no longer quite standard normal given the image: along it, its mean is that of the largest of so many
    normal numbers (1.4 for 8), so that where images share a mean, as grey ones far from 0 do, sampling starts beside
    what was trained. A draw costs what drawing noise costs.
    """

    candidates: Annotated[int, Range(1, 4096)] = 8
    """How many draws; 1 is independent noise."""

    def draw(self, x0: Tensor, noise: Noise, y: Tensor | None = None) -> Tensor:
        return nearest(x0, (noise(x0) for _ in range(self.candidates)))


@dataclass(frozen=True)
class Offset(Noising):
    """Offset noise: one more normal number a channel of an image, for its brightness as a whole (Guttenberg 2023).

    Meant for schedules that leave signal at their end, for which zero terminal SNR is the cure (Lin et al. 2024).
    Variances and the bound take noise to be standard normal, which it no longer is.
    """

    strength: Annotated[float, Range(0, 10)] = 0.1
    """Standard deviation of that number."""

    def draw(self, x0: Tensor, noise: Noise, y: Tensor | None = None) -> Tensor:
        eps = noise(x0)
        channels = noise(torch.empty(x0.shape[:2], dtype=x0.dtype, device=x0.device))
        return eps + self.strength * channels.reshape(*channels.shape, *(1,) * (x0.ndim - 2))


@dataclass(frozen=True)
class Explorative(Noising):
    """Explorative modelling (forward XM, Gladstone et al. 2026): train on the noise with the least loss among a few.

    Each draw costs an evaluation with its gradient. What is learned is no longer the mean of clean data but what the
    network is near to already, so few steps of a sampler gain and many lose (`sfumato reproduce explorative`), and
    likelihoods are no longer those of the model. Mean flows, whose loss has two times, refuse it; what is distilled
    from such a model is trained on one draw.
    """

    candidates: Annotated[int, Range(1, 256)] = 4
    """How many draws; 1 is independent noise."""

    @property
    def tries(self) -> int:
        return self.candidates


INDEPENDENT = Independent()

NOISINGS: dict[str, type[Noising]] = {
    "independent": Independent,
    "optimal": Optimal,
    "immiscible": Immiscible,
    "offset": Offset,
    "explorative": Explorative,
}
"""Every noising by the name under which a checkpoint keeps it."""
