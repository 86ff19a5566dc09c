"""Presets of Ho et al. 2020, appendix B; and the CelebA model of DDIM (Song et al. 2020, appendix D.1).

Short runs need what differs from the paper: cosine betas, v weighed by min-SNR, a small net (docs/training.md).
DDIM's model reaches FID 17.33, 13.73, 9.17, 6.53 and 3.51 in 10, 20, 50, 100 and 1000 steps; its length is ours.
"""

from __future__ import annotations

from typing import Any

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import (
    DIGITS,
    EMOJI,
    FASHION,
    Preset,
    Size,
    clothes,
    emoji,
    long,
    short,
)
from sfumato.papers.training import TrainConfig
from sfumato.spaces import Latents

NONE = Unconditional()


def small(size: Size, conditioning: Conditioning) -> DDPM:
    """For short runs."""
    return DDPM(size.shape, HoUNet(**size.unet), conditioning, betas="cosine", prediction="v", weight="min-snr")


def ho(steps: int, batch: int, learning_rate: float, **more: Any) -> TrainConfig:
    """Ho et al.'s training: warm-up over 5,000 steps, gradients clipped to norm 1."""
    return long(steps, batch, learning_rate, **{"clip": 1.0, "warmup": 5000 * batch, "flip": True, **more})


CELEBA = DDPM((3, 64, 64), HoUNet(multipliers=(1, 2, 2, 2, 4), attention=(4,)))
LARGE = DDPM((3, 256, 256), HoUNet(multipliers=(1, 1, 2, 2, 4, 4), attention=(16,), dropout=0.0), variance="small")
BEDS = ho(2_400_000, 64, 2e-5, flip=False)

LATENT = DDPM((3, 128, 128), HoUNet(**{**EMOJI.unet, "attention": (2, 4)}), Labels(9), Latents(), prediction="v",
              weight="v", betas="cosine", clip=False)  # fmt: skip
HOUR = emoji(60.0, batch=32)

SMALL = {
    # name             recipe                      data        training    what it is
    "digits":   Preset(small(DIGITS, Labels(10)),  "digits",   short(1.0), "8x8 digits with labels in a minute"),
    "fashion":  Preset(small(FASHION, NONE),       "fashion",  clothes(),  "28x28 clothes in eight minutes, two cores"),
    "mnist":    Preset(small(FASHION, Labels(10)), "mnist",    clothes(),  "28x28 handwritten digits with labels"),
    "emoji32":  Preset(small(EMOJI, Labels(9)),    "emoji32",  emoji(),    "32x32 colour emoji with categories"),
    "emoji128": Preset(LATENT,                     "emoji128", HOUR,       "128x128, latents of autoencoder/emoji128"),
}  # fmt: skip
PUBLISHED = {
    # name                 recipe  data           training                 size and published result
    "cifar10":      Preset(DDPM(), data.CIFAR10,  ho(800_000, 128, 2e-4),  "35.7M: FID 3.17, IS 9.46, 3.75 bits/dim"),
    "celebahq":     Preset(LARGE,  data.CELEBAHQ, ho(500_000, 64, 2e-5),   "114M: samples shown"),
    "lsun-bedroom": Preset(LARGE,  data.BEDROOM,  BEDS,                    "114M: FID 6.36"),
    "lsun-church":  Preset(LARGE,  data.CHURCH,   ho(1_200_000, 64, 2e-5), "114M: FID 7.89"),
    "lsun-cat":     Preset(LARGE,  data.CAT,      ho(1_800_000, 64, 2e-5), "114M: FID 19.75"),
    "celeba64":     Preset(CELEBA, data.CELEBA64, ho(800_000, 128, 2e-4),  "DDIM's, 78.7M: FID 3.51"),
}  # fmt: skip
