"""DDPM: Denoising diffusion probabilistic models (Ho, Jain & Abbeel 2020).

Beside the PDF: the forward process is eq. 4, the training of algorithm 1 is `loss`, the sampling of algorithm 2 is
`moves`, and section 4 and appendix B are the defaults below. Beyond the paper: v prediction, cosine betas, class labels
and classifier-free guidance, each by one field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato.core import kernels, losses, schedules, times
from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    Read,
    predict_eps,
    predict_previous_mean,
    predict_v,
    predict_x0,
    with_variance,
)
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.guidance import clipped, forget_labels, free_guided
from sfumato.core.likelihood import bound_term
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, descend
from sfumato.core.times import Steps
from sfumato.networks import unet

BETAS: dict[str, Callable[[int], Tensor]] = {
    "linear": schedules.linear_betas,
    "quad": schedules.quad_betas,
    "const": schedules.const_betas,
    "warmup": schedules.warmup_betas,
    "jsd": schedules.jsd_betas,
    "sigmoid": schedules.sigmoid_betas,
    "cosine": schedules.cosine_betas,
}
READ: dict[str, Read] = {"eps": predict_eps, "x0": predict_x0, "v": predict_v, "mean": predict_previous_mean}
WEIGHT = {"eps": losses.eps_weight, "x0": losses.x0_weight, "v": losses.v_weight}
STD = {"small": kernels.small, "large": kernels.large, "learned": kernels.learned}


@dataclass(frozen=True)
class DDPM:
    """Ho et al.'s model; the defaults are the paper's for 32x32 images (appendix B)."""

    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 0
    """Classes that the network is told about; 0 trains without labels, as the paper does."""
    label_dropout: float = 0.0
    """Share of labels hidden in training, for classifier-free guidance (Ho & Salimans 2022; they hide 0.1 to 0.2)."""
    steps: int = 1000
    """T, the number of noise levels."""
    betas: Literal["linear", "quad", "const", "warmup", "jsd", "sigmoid", "cosine"] = "linear"
    """The noise schedule (section 4: linear from 1e-4 to 0.02)."""
    prediction: Literal["eps", "x0", "v", "mean"] = "eps"
    """What the network returns (section 3.2)."""
    weight: Literal["eps", "x0", "v", "bound"] = "eps"
    """In which space every level counts alike; eps is L_simple (eq. 14), and bound the variational bound (eq. 5)."""
    variance: Literal["small", "large", "learned"] = "large"
    """The spread of an ancestral step (section 3.2); learned is the one of table 2, which needs the bound."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling."""
    channels: int = 128
    """Width of the U-Net's first level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: float = 0.1
    """Dropout inside the residual blocks."""

    def __post_init__(self) -> None:
        if self.variance == "learned" and self.weight != "bound":
            raise ValueError("only the bound trains a learned variance: set weight to bound as well")
        if self.label_dropout and not self.classes:
            raise ValueError("label dropout needs classes")

    def process(self) -> GaussianDiffusion:
        return GaussianDiffusion(schedules.from_betas(BETAS[self.betas](self.steps)))

    def model(self) -> nn.Module:
        return unet.ho(
            in_channels=self.shape[0],
            out_channels=self.shape[0] * (2 if self.variance == "learned" else 1),
            channels=self.channels,
            multipliers=self.multipliers,
            blocks_per_level=self.blocks,
            attention_factors=self.attention,
            dropout=self.dropout,
            num_classes=self.classes + bool(self.label_dropout) or None,
        )

    def times(self) -> times.Times:
        return times.UniformLevels(self.steps)

    def std(self) -> kernels.Std:
        return STD[self.variance]

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        eps, process = noise(x0), self.process()
        if self.label_dropout:
            labels["y"] = forget_labels(labels["y"], self.label_dropout, self.classes, noise)
        belief = self._belief(model, **labels)(process.level(t, x0).noise(x0, eps), t)
        if self.weight == "bound":
            above = (t + 1).clamp(max=self.steps)
            return self.steps * bound_term(process, self.std(), belief, x0, t, t - 1, above)
        return losses.weighted(belief, x0, eps, WEIGHT[self.weight])

    def _belief(self, model: nn.Module, **labels: Any) -> Denoise:
        read = READ[self.prediction]
        read = with_variance(read) if self.variance == "learned" else read
        return Denoiser(model, self.process(), read, condition=lambda t: t - 1, labels=labels)

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Denoise:
        null = self.classes if self.label_dropout else None
        denoise = free_guided(partial(self._belief, model), scale, null, labels)
        return clipped(denoise) if self.clip else denoise

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Gaussian:
        return self.process().prior(shape, device)

    def moves(self, denoise: Denoise, steps: Steps = None) -> list[Move]:
        return descend(kernels.Ancestral(self.process(), denoise, self.std()), times.visits(self.steps, steps))
