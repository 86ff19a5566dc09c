"""The U-Net of Hugging Face's diffusers, `UNet2DModel`, with that library's defaults, where they are not Ho et al.'s.

The same layers as `unet`: Ho et al. 2020, appendix B, with heads of 8 channels, other sinusoids, paddings and norms.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Channels, Embedded, Factors, Few, RealMultipliers, Share
from sfumato.networks.unet import UNet


def sinusoids(t: Tensor, width: int, first: str = "cos", shift: int = 0) -> Tensor:
    """Sinusoids of the time at width/2 rates, from 1 down to 1/10,000 (`shift` 1: inclusive; 0: not quite).

    Args: t (B,), integers or floats; width, the number of features; first, "sin" or "cos". Returns (B, width) float32.
    """
    half = width // 2
    rates = torch.exp(-math.log(10_000) * torch.arange(half, dtype=torch.float32, device=t.device) / (half - shift))
    angles = t.float()[:, None] * rates
    parts = [angles.cos(), angles.sin()] if first == "cos" else [angles.sin(), angles.cos()]
    return nn.functional.pad(torch.cat(parts, dim=1), (0, width % 2))


@dataclass(frozen=True)
class UNet2D(Backbone):
    """The U-Net of diffusers' UNet2DModel with its defaults (von Platen et al. 2022): 274 million parameters.

    For 64x64 images the library's examples take channels 64, multipliers (1, 2, 3, 4): 22 million.
    """

    channels: Channels = 224
    """Width of the U-Net's first level."""
    multipliers: RealMultipliers = (1, 2, 3, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: Few = 2
    """Residual blocks a level."""
    attention: Factors = (2, 4, 8)
    """Downsampling factors with self-attention."""
    head_channels: Annotated[int, Range(0, 16_384)] = 8
    """Channels of an attention head; 0 takes one head."""
    dropout: Share = 0.0
    """Dropout inside the residual blocks."""
    first: Literal["cos", "sin"] = "cos"
    """Which of the sinusoids of the time come first."""
    shift: Literal[0, 1] = 0
    """Whether their rates reach 1/10,000."""
    padding: Literal["around", "after"] = "around"
    """Where zeros lie in the convolutions that halve the resolution."""
    groups: Annotated[int, Range(1, 16_384)] = 32
    """Groups of the norms."""
    epsilon: Annotated[float, Range(0, 1, above=True)] = 1e-5
    """Added to the variance in the norms."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UNet:
        if self.channels < 2 * (1 + self.shift):
            raise ValueError(f"{self.channels} channels hold no sinusoids of the time")
        return UNet(
            in_channels=shape[0], out_channels=outputs, channels=self.channels, multipliers=self.multipliers,
            blocks_per_level=self.blocks, attention_factors=self.attention, head_channels=self.head_channels or None,
            dropout=self.dropout, num_classes=given.labels or None, low_res_channels=given.picture,
            numbers=given.numbers,
            asymmetric=self.padding == "after", embedding=partial(sinusoids, first=self.first, shift=self.shift),
            groups=self.groups, norm_eps=self.epsilon, stem=int(self.channels * self.multipliers[0]),
        )  # fmt: skip
