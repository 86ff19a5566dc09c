"""DDPM: Denoising diffusion probabilistic models (Ho, Jain & Abbeel 2020).

Beside the PDF: the forward process is eq. 4, the training of algorithm 1 is `loss`, the sampling of algorithm 2 is
`moves`, and section 4 and appendix B are the defaults below. Beyond the paper: v and x0 prediction, cosine betas and
class labels, each by one field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato.core import kernels, losses, schedules, times
from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    predict_eps,
    predict_previous_mean,
    predict_v,
    predict_x0,
)
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.guidance import clipped
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, descend
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
READ = {"eps": predict_eps, "x0": predict_x0, "v": predict_v, "mean": predict_previous_mean}
WEIGHT = {"eps": losses.eps_weight, "x0": losses.x0_weight, "v": losses.v_weight}
STD = {"small": kernels.small, "large": kernels.large}


@dataclass(frozen=True)
class DDPM:
    """Ho et al.'s model; the defaults are the paper's for 32x32 images (appendix B)."""

    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 0
    """Classes that the network is told about; 0 trains without labels, as the paper does."""
    steps: int = 1000
    """T, the number of noise levels."""
    betas: Literal["linear", "quad", "const", "warmup", "jsd", "sigmoid", "cosine"] = "linear"
    """The noise schedule (section 4: linear from 1e-4 to 0.02)."""
    prediction: Literal["eps", "x0", "v", "mean"] = "eps"
    """What the network returns (section 3.2)."""
    weight: Literal["eps", "x0", "v"] = "eps"
    """In which space every level counts alike; eps is L_simple (eq. 14)."""
    variance: Literal["small", "large"] = "large"
    """The spread of an ancestral step (section 3.2)."""
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

    def process(self) -> GaussianDiffusion:
        return GaussianDiffusion(schedules.from_betas(BETAS[self.betas](self.steps)))

    def model(self) -> nn.Module:
        return unet.ho(
            in_channels=self.shape[0],
            out_channels=self.shape[0],
            channels=self.channels,
            multipliers=self.multipliers,
            blocks_per_level=self.blocks,
            attention_factors=self.attention,
            dropout=self.dropout,
            num_classes=self.classes or None,
        )

    def times(self) -> times.Times:
        return times.UniformLevels(self.steps)

    def _denoiser(self, model: nn.Module, **labels: Any) -> Denoise:
        return Denoiser(model, self.process(), READ[self.prediction], condition=lambda t: t - 1, labels=labels)

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        eps = noise(x0)
        x_t = self.process().level(t, x0).noise(x0, eps)
        return losses.weighted(self._denoiser(model, **labels)(x_t, t), x0, eps, WEIGHT[self.weight])

    def denoiser(self, model: nn.Module, **labels: Any) -> Denoise:
        denoise = self._denoiser(model, **labels)
        return clipped(denoise) if self.clip else denoise

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Gaussian:
        return self.process().prior(shape, device)

    def moves(self, denoise: Denoise, steps: int | None = None) -> list[Move]:
        kernel = kernels.Ancestral(self.process(), denoise, STD[self.variance])
        return descend(kernel, times.strided(self.steps, self.steps if steps is None else steps))
