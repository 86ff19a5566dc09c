"""Presets of U-ViT, simple diffusion (Hoogeboom, Heek & Salimans 2023): cosine schedule, v prediction.

The network is published by its transformer and its two billion parameters; the widths of the convolutions and the
length of the training are ours, and so is the schedule, which the paper shifts towards noise at 256x256.
"""

from __future__ import annotations

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.uvit import UViT
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import Preset, long, short


def small(shape: tuple[int, ...], network: UViT, conditioning: Conditioning) -> DDPM:
    """For short runs."""
    return DDPM(shape, network, conditioning, betas="cosine", prediction="v", weight="v")


DIGITS = small((1, 8, 8), UViT(32, (1,), 1, 96, 4, 4), Labels(10))
FASHION = small((1, 28, 28), UViT(32, (1, 2), 1, 192, 4, 6), Unconditional())
LARGE = small((3, 256, 256), UViT(patch=2, dropout=0.2), Labels(1000, 0.1))

SMALL = {
    # name            recipe   data       training                          what it is
    "digits":  Preset(DIGITS,  "digits",  short(1.0, learning_rate=1e-3), "digits by convolutions and a transformer"),
    "fashion": Preset(FASHION, "fashion", short(8.0, learning_rate=1e-3), "clothes, a transformer inside a U-Net"),
}  # fmt: skip
PUBLISHED = {
    # name                   recipe  data              training                    size and published result
    "imagenet256": Preset(LARGE, data.IMAGENET256, long(500_000, 2048, 1e-4), "2097M (2 billion): FID 2.77"),
}  # fmt: skip
