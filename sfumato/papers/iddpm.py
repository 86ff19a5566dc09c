"""Improved DDPM: Improved denoising diffusion probabilistic models (Nichol & Dhariwal 2021).

Beside the PDF: the learned variance is eq. 15, the hybrid loss eq. 16, the cosine schedule eq. 17, importance sampling
eq. 18, shorter chains section 4, class labels and the upsampler section 6. Beyond the paper: v prediction and
classifier-free guidance, each by one field.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core import kernels, losses, schedules, times
from sfumato.core.denoisers import Denoise, Denoiser, Read, predict_eps, predict_v, predict_x0, with_variance
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.guidance import clipped, forget_labels, free_guided
from sfumato.core.likelihood import bound_term
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, descend
from sfumato.core.times import Steps
from sfumato.networks import unet

BETAS = {"linear": schedules.scaled_linear_betas, "cosine": schedules.cosine_betas}
READ: dict[str, Read] = {"eps": predict_eps, "x0": predict_x0, "v": predict_v}
WEIGHT = {"eps": losses.eps_weight, "x0": losses.x0_weight, "v": losses.v_weight}
STD = {"small": kernels.small, "large": kernels.large, "learned_range": kernels.learned_range}


@dataclass(frozen=True)
class ImprovedDDPM:
    """Nichol & Dhariwal's model; the defaults are the paper's for CIFAR-10 (appendix A)."""

    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 0
    """Classes that the network is told about; 0 trains without labels."""
    label_dropout: float = 0.0
    """Share of labels hidden in training, for classifier-free guidance (Ho & Salimans 2022; they hide 0.1 to 0.2)."""
    low_res: int = 0
    """Height and width of the small image that an upsampler enlarges; 0 is no upsampler (section 6)."""
    steps: int = 4000
    """T, the number of noise levels."""
    betas: Literal["linear", "cosine"] = "cosine"
    """The noise schedule; cosine is eq. 17, linear is Ho et al.'s, stretched to T."""
    prediction: Literal["eps", "x0", "v"] = "eps"
    """What the network returns."""
    variance: Literal["small", "large", "learned_range"] = "learned_range"
    """The spread of a step; learned_range is eq. 15."""
    objective: Literal["simple", "hybrid", "vlb"] = "hybrid"
    """L_simple; L_hybrid, in which the bound trains the variance alone (eq. 16); or L_vlb, the bound itself."""
    vlb_weight: float = 0.001
    """lambda of eq. 16; the class-conditional, LSUN and upsampling models were trained with 1/T."""
    importance: bool = False
    """Draw levels by the size of their recent losses (eq. 18), as the paper does for L_vlb."""
    rescale_times: bool = True
    """Tell the network 1000 t / T, so that its embedding means the same for any T."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling."""
    channels: int = 128
    """Width of the U-Net's first level."""
    multipliers: tuple[float, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`."""
    blocks: int = 3
    """Residual blocks a level."""
    attention: tuple[int, ...] = (2, 4)
    """Downsampling factors with self-attention."""
    heads: int = 4
    """Attention heads."""
    scale_shift: bool = True
    """Whether the embedding scales and shifts the residual blocks; the paper's LSUN model only adds it."""
    dropout: float = 0.3
    """Dropout inside the residual blocks."""

    def __post_init__(self) -> None:
        if (self.variance == "learned_range") != (self.objective != "simple"):
            raise ValueError("a learned variance is trained by the hybrid or vlb objective, and only these train one")
        if self.label_dropout and not self.classes:
            raise ValueError("label dropout needs classes")

    def process(self) -> GaussianDiffusion:
        return GaussianDiffusion(schedules.from_betas(BETAS[self.betas](self.steps)))

    def model(self) -> nn.Module:
        return unet.improved(
            in_channels=self.shape[0],
            out_channels=self.shape[0] * (2 if self.variance == "learned_range" else 1),
            channels=self.channels,
            multipliers=self.multipliers,
            blocks_per_level=self.blocks,
            attention_factors=self.attention,
            heads=self.heads,
            dropout=self.dropout,
            num_classes=self.classes + bool(self.label_dropout) or None,
            low_res_channels=self.shape[0] if self.low_res else 0,
            scale_shift=self.scale_shift,
        )

    def times(self) -> times.Times:
        return times.LossSecondMoment(self.steps) if self.importance else times.UniformLevels(self.steps)

    def std(self) -> kernels.Std:
        return STD[self.variance]

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        eps, process = noise(x0), self.process()
        if self.label_dropout:
            labels["y"] = forget_labels(labels["y"], self.label_dropout, self.classes, noise)
        if self.low_res:
            labels.setdefault("low_res", F.interpolate(x0, self.low_res, mode="area"))
        belief = self._belief(model, **labels)(process.level(t, x0).noise(x0, eps), t)
        simple = losses.weighted(belief, x0, eps, WEIGHT[self.prediction])
        if self.objective == "simple":
            return simple
        belief = belief.mean_detached() if self.objective == "hybrid" else belief
        term = bound_term(process, self.std(), belief, x0, t, t - 1, (t + 1).clamp(max=self.steps))
        vlb = self.steps * term
        return simple + self.vlb_weight * vlb if self.objective == "hybrid" else vlb

    def _belief(self, model: nn.Module, **labels: Any) -> Denoise:
        read = READ[self.prediction]
        read = with_variance(read) if self.variance == "learned_range" else read
        scale = 1000 / self.steps if self.rescale_times else 1
        return Denoiser(model, self.process(), read, condition=lambda t: scale * (t - 1), labels=labels)

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Denoise:
        null = self.classes if self.label_dropout else None
        denoise = free_guided(partial(self._belief, model), scale, null, labels)
        return clipped(denoise) if self.clip else denoise

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Gaussian:
        return self.process().prior(shape, device)

    def moves(self, denoise: Denoise, steps: Steps = None) -> list[Move]:
        return descend(kernels.Ancestral(self.process(), denoise, self.std()), times.visits(self.steps, steps))
