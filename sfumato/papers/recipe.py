"""The seam between the papers and the machinery: what a paper must say so that it can be trained, sampled and measured.

A recipe is a frozen dataclass of plain values (so that a checkpoint can carry it as JSON) with these methods.
"""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Distribution, Noise
from sfumato.core.guidance import Classify
from sfumato.core.kernels import Std
from sfumato.core.nonequilibrium import LowerBound
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move
from sfumato.core.times import Steps, Times


class Trainable(Protocol):
    """What training needs. `labels` are the network's further inputs, for example y (B,)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        ...

    @property
    def classes(self) -> int:
        """The number of classes that the network is told about, or tells apart; 0 without labels."""
        ...

    def process(self) -> GaussianDiffusion:
        """The forward process."""
        ...

    def model(self) -> nn.Module:
        """A freshly initialised network."""
        ...

    def times(self) -> Times:
        """Which times to train on."""
        ...

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        """The training loss of each image, (B,). x0 (B, C, H, W) in [-1, 1]; t (B,) on the host."""
        ...


class Recipe(Trainable, Protocol):
    """A paper whose model makes images."""

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Denoise:
        """What the network believes, as the sampler sees it; scale is that of classifier-free guidance."""
        ...

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Distribution:
        """Where sampling starts; shape (B, C, H, W)."""
        ...

    def moves(self, denoise: Denoise, steps: Steps = None) -> list[Move]:
        """The paper's own sampler, in so many steps or on a grid of levels (all of them where None)."""
        ...


def low_res_side(recipe: Trainable) -> int:
    """Height and width of the small image that an upsampler enlarges; 0 for any other recipe."""
    return getattr(recipe, "low_res", 0)


@runtime_checkable
class Bounded(Protocol):
    """A recipe whose ancestral steps have a decoder, so that it has a variational bound."""

    def std(self) -> Std:
        """The spread of its ancestral steps."""
        ...


@runtime_checkable
class Classifying(Protocol):
    """A recipe that tells noisy images apart instead of making them."""

    def classify(self, model: nn.Module) -> Classify:
        """(x_t, t) -> logits (B, classes)."""
        ...


@runtime_checkable
class Nonequilibrium(Protocol):
    """A recipe of 2015: it lives in the units of its data, and its bound is K."""

    @property
    def null(self) -> float:
        """L_null, bits per data point: the likelihood under the simplest model of the same moments."""
        ...

    def standardised(self, images: Tensor) -> Any:
        """The recipe with the moments of these data (N, C, H, W) in [-1, 1]."""
        ...

    def lower_bound(
        self, model: nn.Module, x0: Tensor, noise: Noise = torch.randn_like, levels: Tensor | None = None
    ) -> LowerBound:
        """K, bits per data point, of data (B, C, H, W) in [-1, 1]; of all levels, or of some that stand for all."""
        ...
