"""The classifier of noisy images that guides ADM (Dhariwal & Nichol 2021, section 4.1 and appendix H).

It is trained like a diffusion model, on q(x_t | x_0) at uniform levels, but to say the class. It makes no pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.core import schedules, times
from sfumato.core.distributions import Noise
from sfumato.core.guidance import Classify
from sfumato.core.processes import GaussianDiffusion
from sfumato.networks.classifier import EncoderUNet

BETAS = {"linear": schedules.scaled_linear_betas, "cosine": schedules.cosine_betas}


@dataclass(frozen=True)
class NoisyClassifier:
    """The classifier of noisy images that guides (section 4.1); the defaults are the paper's for 256x256 ImageNet."""

    shape: tuple[int, int, int] = (3, 256, 256)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 1000
    """How many classes it tells apart; taken from the data set."""
    steps: int = 1000
    """T, the number of noise levels; as in the model that it guides."""
    betas: Literal["linear", "cosine"] = "linear"
    """The noise schedule; as in the model that it guides."""
    channels: int = 128
    """Width of the network's first level."""
    multipliers: tuple[float, ...] = (1, 1, 2, 2, 4, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: int = 2
    """Residual blocks a level."""
    attention: tuple[int, ...] = (8, 16, 32)
    """Downsampling factors with self-attention."""
    head_channels: int = 64
    """Channels of an attention head."""
    pool: Literal["attention", "adaptive", "spatial", "spatial_v2"] = "attention"
    """How pixels become one answer."""
    dropout: float = 0.0
    """Dropout inside the residual blocks."""

    def process(self) -> GaussianDiffusion:
        return GaussianDiffusion(schedules.from_betas(BETAS[self.betas](self.steps)))

    def model(self) -> nn.Module:
        return EncoderUNet(
            in_channels=self.shape[0],
            num_classes=self.classes,
            channels=self.channels,
            multipliers=self.multipliers,
            blocks_per_level=self.blocks,
            attention_factors=self.attention,
            head_channels=self.head_channels,
            dropout=self.dropout,
            pool=self.pool,
            image_size=self.shape[1],
        )

    def times(self) -> times.Times:
        return times.UniformLevels(self.steps)

    def classify(self, model: nn.Module) -> Classify:
        """(x_t, t) -> logits (B, classes)."""
        return lambda x, t: model(x, (t - 1).to(x.device, torch.float32).expand(x.shape[0]))

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        x_t = self.process().level(t, x0).noise(x0, noise(x0))
        return F.cross_entropy(self.classify(model)(x_t, t).float(), labels["y"], reduction="none")
