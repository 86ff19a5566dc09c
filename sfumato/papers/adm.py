"""ADM: Diffusion models beat GANs on image synthesis (Dhariwal & Nichol 2021): a better U-Net, and classifier guidance.

Beside the PDF: the network is section 3, the classifier section 4.1, guided ancestral steps algorithm 1 and guided DDIM
algorithm 2 (`core.guidance.MeanShifted` and `score_shifted`), the upsampler section 5. Training is Improved DDPM's
hybrid loss. Beyond the paper: classifier-free guidance, so that both can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core import kernels, losses, schedules, times
from sfumato.core.denoisers import Denoise, Denoiser, Read, predict_eps, predict_v, with_variance
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.guidance import clipped, forget_labels, free_guided
from sfumato.core.likelihood import bound_term
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, descend
from sfumato.core.times import Steps
from sfumato.networks import unet

BETAS = {"linear": schedules.scaled_linear_betas, "cosine": schedules.cosine_betas}
READ: dict[str, Read] = {"eps": predict_eps, "v": predict_v}
WEIGHT = {"eps": losses.eps_weight, "v": losses.v_weight}


@dataclass(frozen=True)
class ADM:
    """Dhariwal & Nichol's model; the defaults are the paper's for 256x256 ImageNet (tables 4 and 11)."""

    shape: tuple[int, int, int] = (3, 256, 256)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 1000
    """Classes that the network is told about; 0 trains without labels."""
    label_dropout: float = 0.0
    """Share of labels hidden in training, for classifier-free guidance (Ho & Salimans 2022; they hide 0.1 to 0.2)."""
    low_res: int = 0
    """Height and width of the small image that an upsampler enlarges; 0 is no upsampler (section 5)."""
    steps: int = 1000
    """T, the number of noise levels."""
    betas: Literal["linear", "cosine"] = "linear"
    """The noise schedule; the paper takes cosine for 64x64 images."""
    prediction: Literal["eps", "v"] = "eps"
    """What the network returns."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling, before a classifier's guidance."""
    channels: int = 256
    """Width of the U-Net's first level."""
    multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (8, 16, 32)
    """Downsampling factors with self-attention."""
    head_channels: int = 64
    """Channels of an attention head; 0 takes `heads` heads instead."""
    heads: int = 4
    """Attention heads where head_channels is 0, as in the 128x128 model and the 64 -> 256 upsampler."""
    dropout: float = 0.0
    """Dropout inside the residual blocks."""

    def __post_init__(self) -> None:
        if self.label_dropout and not self.classes:
            raise ValueError("label dropout needs classes")

    def process(self) -> GaussianDiffusion:
        return GaussianDiffusion(schedules.from_betas(BETAS[self.betas](self.steps)))

    def model(self) -> nn.Module:
        return unet.adm(
            in_channels=self.shape[0],
            out_channels=2 * self.shape[0],
            channels=self.channels,
            multipliers=self.multipliers,
            blocks_per_level=self.blocks,
            attention_factors=self.attention,
            heads=self.heads,
            head_channels=self.head_channels or None,
            dropout=self.dropout,
            num_classes=self.classes + bool(self.label_dropout) or None,
            low_res_channels=self.shape[0] if self.low_res else 0,
        )

    def times(self) -> times.Times:
        return times.UniformLevels(self.steps)

    def std(self) -> kernels.Std:
        return kernels.learned_range

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        eps, process = noise(x0), self.process()
        if self.label_dropout:
            labels["y"] = forget_labels(labels["y"], self.label_dropout, self.classes, noise)
        if self.low_res:
            labels.setdefault("low_res", F.interpolate(x0, self.low_res, mode="area"))
        belief = self._belief(model, **labels)(process.level(t, x0).noise(x0, eps), t)
        above = (t + 1).clamp(max=self.steps)
        term = bound_term(process, self.std(), belief.mean_detached(), x0, t, t - 1, above)
        return losses.weighted(belief, x0, eps, WEIGHT[self.prediction]) + 0.001 * self.steps * term

    def _belief(self, model: nn.Module, **labels: Any) -> Denoise:
        read = with_variance(READ[self.prediction])
        return Denoiser(model, self.process(), read, condition=lambda t: t - 1, labels=labels)

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Denoise:
        null = self.classes if self.label_dropout else None
        denoise = free_guided(partial(self._belief, model), scale, null, labels)
        return clipped(denoise) if self.clip else denoise

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Gaussian:
        return self.process().prior(shape, device)

    def moves(self, denoise: Denoise, steps: Steps = None) -> list[Move]:
        return descend(kernels.Ancestral(self.process(), denoise, self.std()), times.visits(self.steps, steps))
