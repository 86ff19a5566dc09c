"""Presets of EDM2's magnitude-preserving U-Net (Karras et al. 2024, tables 2 and 6).

The published ones are trained on latents of 512x512 ImageNet, 64x64 with four channels and a deviation of 0.5, of an
autoencoder that is not here: they say what was trained, and how. FID is without guidance, with the length of the
average chosen afterwards.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.mp_unet import MPUNet
from sfumato.papers.edm import EDM
from sfumato.papers.presets.data import LATENTS512
from sfumato.papers.presets.preset import Preset, long, short
from sfumato.papers.training import TrainConfig
from sfumato.spaces import Pixels


def small(shape: tuple[int, ...], network: MPUNet, conditioning: Conditioning) -> EDM:
    """For short runs."""
    return EDM(shape, network, conditioning)


def sized(channels: int) -> EDM:
    """A published size: the centre of the noise levels is lower than EDM's."""
    return EDM((4, 64, 64), MPUNet(channels), Labels(1000), Pixels(), p_mean=-0.4, p_std=1.0, steps=32)


def karras(learning_rate: float) -> TrainConfig:
    """2147 million images in batches of 2048; the rate falls after 70,000 steps."""
    decay: dict[str, Any] = {"decay": "inverse-sqrt", "decay_after": 70_000 * 2048}
    return replace(long(1_048_576, 2048, learning_rate, warmup=10_000_000, **decay), betas=(0.9, 0.99))


FAST = {"learning_rate": 1e-2}
DIGITS = small((1, 8, 8), MPUNet(32, (1, 2), 1, (2,), 32), Labels(10))
FASHION = small((1, 28, 28), MPUNet(32, (1, 2, 2), 1, (4,), 32), Unconditional())

SMALL = {
    # name            recipe   data       training             what it is
    "digits":  Preset(DIGITS,  "digits",  short(1.0, **FAST), "digits by a magnitude-preserving net, labels"),
    "fashion": Preset(FASHION, "fashion", short(8.0, **FAST), "clothes by a magnitude-preserving net"),
}  # fmt: skip
PUBLISHED = {
    # name                     recipe      data        training        size and published result
    "imagenet512-xs": Preset(sized(128), LATENTS512, karras(0.0120), "EDM2-XS, 124.7M: FID 3.53 in 63 evaluations"),
    "imagenet512-s":  Preset(sized(192), LATENTS512, karras(0.0100), "EDM2-S, 280.2M: FID 2.56 in 63 evaluations"),
}  # fmt: skip
