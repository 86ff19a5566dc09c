"""The seam between the papers and the machinery: what a paper must say so that it can be trained, sampled and measured.

A recipe is a frozen dataclass of plain values (so that a checkpoint can carry it as JSON) with these methods.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move
from sfumato.core.times import Times


class Recipe(Protocol):
    """One paper's choices. `labels` are the network's further inputs, for example y (B,)."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, H, W) of an image."""
        ...

    @property
    def classes(self) -> int:
        """The number of classes that the network is told about; 0 without labels."""
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

    def denoiser(self, model: nn.Module, **labels: Any) -> Denoise:
        """What the network believes, as the sampler sees it."""
        ...

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Gaussian:
        """Where sampling starts; shape (B, C, H, W)."""
        ...

    def moves(self, denoise: Denoise, steps: int | None = None) -> list[Move]:
        """The paper's own sampler, in the given number of steps (all of them where None)."""
        ...
