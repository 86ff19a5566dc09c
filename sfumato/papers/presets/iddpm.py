"""Presets of Nichol & Dhariwal 2021, appendix A: trained by L_hybrid, except for those that say vlb.

The upsampler's batch and rate are as in the small models. The bedrooms are the released model.
"""

from __future__ import annotations

from dataclasses import replace

from sfumato.conditioning import Conditioning, Labels, LowRes, Together, Unconditional
from sfumato.networks.unet import ImprovedUNet
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, clothes, emoji, long, short

NONE = Unconditional()


def small(size: Size, conditioning: Conditioning) -> ImprovedDDPM:
    """For short runs."""
    return ImprovedDDPM(size.shape, ImprovedUNet(**size.unet), conditioning, steps=1000, prediction="v")


def vlb(recipe: ImprovedDDPM) -> ImprovedDDPM:
    """The same trained by L_vlb with importance sampling."""
    return replace(recipe, objective="vlb", importance=True)


CIFAR = ImprovedDDPM()
NET64 = ImprovedDDPM((3, 64, 64), ImprovedUNet(multipliers=(1, 2, 3, 4), attention=(4, 8), dropout=0.0))
CLASSES = ImprovedDDPM(
    (3, 64, 64), ImprovedUNet(192, (1, 2, 3, 4), attention=(4, 8), dropout=0.0), Labels(1000),
    vlb_weight=1 / 4000, rescale_times=False,
)  # fmt: skip
ENLARGE = ImprovedDDPM(
    (3, 256, 256), ImprovedUNet(192, (1, 1, 2, 2, 4, 4), blocks=2, attention=(16, 32), dropout=0.0),
    Together((Labels(1000), LowRes(64))), betas="linear", vlb_weight=1 / 4000, rescale_times=False,
)  # fmt: skip
LSUN = ImprovedDDPM(
    (3, 256, 256),
    ImprovedUNet(128, (1, 1, 2, 2, 4, 4), blocks=2, attention=(16,), heads=1, scale_shift=False, dropout=0.0),
    steps=1000, betas="linear", rescale_times=False,
)  # fmt: skip

TRAIN32, TRAIN64 = long(500_000, 128, 1e-4), long(1_500_000, 128, 1e-4)
TRAIN_LARGE = long(250_000, 2048, 3e-4)
TRAIN256, TRAIN_LSUN = long(500_000, 256, 1e-4), long(2_400_000, 64, 2e-5)

SMALL = {
    # name                      recipe                      data       training    what it is
    "digits":            Preset(small(DIGITS, Labels(10)),  "digits",  short(1.0), "digits with a learned variance"),
    "fashion":           Preset(small(FASHION, NONE),       "fashion", clothes(),  "clothes with a learned variance"),
    "emoji32":           Preset(small(EMOJI, Labels(9)),    "emoji32", emoji(),    "emoji with a learned variance"),
    "fashion-upsampler": Preset(small(FASHION, LowRes(14)), "fashion", short(5.0), "enlarges 14x14 clothes to 28x28"),
}  # fmt: skip
PUBLISHED = {
    # name                          recipe      data              training     size and published result
    "cifar10":               Preset(CIFAR,      data.CIFAR10,     TRAIN32,     "52.5M: 3.17 bits/dim, FID 3.19"),
    "cifar10-vlb":           Preset(vlb(CIFAR), data.CIFAR10,     TRAIN32,     "52.5M: 2.94 bits/dim, FID 11.47"),
    "imagenet64":            Preset(NET64,      data.IMAGENET64,  TRAIN64,     "121M: 3.57 bits/dim, FID 19.2"),
    "imagenet64-vlb":        Preset(vlb(NET64), data.IMAGENET64,  TRAIN64,     "121M: 3.53 bits/dim, FID 40.1"),
    "imagenet64-classes":    Preset(CLASSES,    data.IMAGENET64,  TRAIN_LARGE, "273M: FID 2.92 in 250 steps"),
    "imagenet256-upsampler": Preset(ENLARGE,    data.IMAGENET256, TRAIN256,    "280M: after a 64x64 model, FID 12.26"),
    "lsun-bedroom":          Preset(LSUN,       data.BEDROOM,     TRAIN_LSUN,  "114M; the released model"),
}  # fmt: skip
