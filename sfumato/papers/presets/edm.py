"""Presets of Karras et al. 2022, table 7: FID by the deterministic sampler, or the stochastic one for ImageNet.

Each FID is the least of three. The paper's trainings, but for ImageNet's, augment the images and tell the network how.
The networks are those of its VP rows, DDPM++, and ADM.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sfumato.conditioning import Augmented, Conditioning, Labels, Together, Unconditional
from sfumato.networks.ncsnpp import DDPMpp
from sfumato.networks.unet import ADMUNet, HoUNet
from sfumato.papers.edm import EDM
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, clothes, emoji, long, short
from sfumato.papers.training import TrainConfig
from sfumato.spaces import Pixels

NONE = Unconditional()


def small(size: Size, conditioning: Conditioning) -> EDM:
    """For short runs: the U-Net of the other papers' small presets."""
    return EDM(size.shape, HoUNet(**size.unet), conditioning)


def karras(millions: int, batch: int, learning_rate: float, half_life: float, **more: Any) -> TrainConfig:
    """A training of table 7: so many million images, and so many that halve what the moving average remembers."""
    ema = 0.5 ** (batch / half_life)
    return long(millions * 1_000_000 // batch, batch, learning_rate, ema, warmup=10_000_000, **more)


CIFAR = EDM(conditioning=Augmented(0.12), space=Pixels())
CIFAR_CLASSES = replace(CIFAR, conditioning=Together((Labels(10), Augmented(0.12))))
FFHQ = EDM((3, 64, 64), DDPMpp(attention=(4,), dropout=0.05), Augmented(0.15), Pixels(), steps=40)
AFHQ = replace(FFHQ, network=DDPMpp(attention=(4,), dropout=0.25))
NET64 = EDM(
    (3, 64, 64), ADMUNet(192, (1, 2, 3, 4), blocks=3, attention=(2, 4, 8), dropout=0.1), Labels(1000), Pixels(),
    steps=256, churn=40.0,
)  # fmt: skip
TRAIN32, TRAIN64 = karras(200, 512, 1e-3, 5e5), karras(200, 256, 2e-4, 5e5)
TRAIN_NET = karras(2500, 4096, 1e-4, 5e7)

SMALL = {
    # name                   recipe                           data       training    what it is
    "digits":         Preset(small(DIGITS, Labels(10)),       "digits",  short(1.0), "8x8 digits with labels, by EDM"),
    "fashion":        Preset(small(FASHION, NONE),            "fashion", clothes(),  "clothes by EDM"),
    "fashion-labels": Preset(small(FASHION, Labels(10, 0.1)), "fashion", clothes(),  "clothes by EDM, label dropout"),
    "emoji32":        Preset(small(EMOJI, Labels(9)),         "emoji32", emoji(),    "emoji with categories, by EDM"),
}  # fmt: skip
PUBLISHED = {
    # name                    recipe         data             training   size and published result
    "cifar10":         Preset(CIFAR,         data.CIFAR10,    TRAIN32,   "55.7M: FID 1.97 in 35 evaluations"),
    "cifar10-classes": Preset(CIFAR_CLASSES, data.CIFAR10,    TRAIN32,   "55.7M: FID 1.79 in 35 evaluations"),
    "ffhq64":          Preset(FFHQ,          data.FFHQ64,     TRAIN64,   "61.8M: FID 2.39 in 79 evaluations"),
    "afhqv2":          Preset(AFHQ,          data.AFHQ64,     TRAIN64,   "61.8M: FID 1.96 in 79 evaluations"),
    "imagenet64":      Preset(NET64,         data.IMAGENET64, TRAIN_NET, "295.9M: FID 1.36 in 511 evaluations"),
}  # fmt: skip
