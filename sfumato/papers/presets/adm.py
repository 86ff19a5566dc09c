"""Presets of Dhariwal & Nichol 2021, tables 4, 5 and 11: FID without and with a classifier's guidance of that scale.

The lengths of the upsamplers are Improved DDPM's; those of the LSUN models are a guess of ours.
"""

from __future__ import annotations

from sfumato.conditioning import Labels, LowRes, Together, Unconditional
from sfumato.networks.unet import ADMUNet
from sfumato.papers.adm import ADM
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, clothes, emoji, long, short
from sfumato.papers.training import TrainConfig


def small(size: Size, classes: int) -> ADM:
    """For short runs, with labels of which a tenth is hidden, for guidance of both kinds."""
    unet = ADMUNet(**size.unet, head_channels=32)
    return ADM(size.shape, unet, Labels(classes, dropout=0.1), betas="cosine", prediction="v")


def enlarging(picture: int) -> Together:
    """Labels, and the small picture that is enlarged."""
    return Together((Labels(1000), LowRes(picture)))


ADM64 = ADM(
    (3, 64, 64), ADMUNet(192, (1, 2, 3, 4), blocks=3, attention=(2, 4, 8), dropout=0.1), betas="cosine",
)  # fmt: skip
ADM128 = ADM((3, 128, 128), ADMUNet(multipliers=(1, 1, 2, 3, 4), attention=(4, 8, 16), head_channels=0, heads=4))
ADM256 = ADM()
PLAIN = ADM(conditioning=Unconditional())
ADM512 = ADM((3, 512, 512), ADMUNet(multipliers=(0.5, 1, 1, 2, 2, 4, 4), attention=(16, 32, 64)))
TO256 = ADM((3, 256, 256), ADMUNet(192, head_channels=0, heads=4), enlarging(64))
TO512 = ADM((3, 512, 512), ADMUNet(192, attention=(16, 32)), enlarging(128))
LSUN = ADM(network=ADMUNet(dropout=0.1), conditioning=Unconditional())


def flipped(steps: int, batch: int = 256, learning_rate: float = 1e-4) -> TrainConfig:
    """A training on ImageNet, half of the images mirrored."""
    return long(steps, batch, learning_rate, flip=True)


TRAIN64, TRAIN128 = flipped(540_000, 2048, 3e-4), flipped(4_360_000)
TRAIN256, TRAIN512 = flipped(1_980_000), flipped(1_940_000)
UPWARDS, GUESSED = long(500_000, 256, 1e-4), long(1_000_000, 256, 1e-4)

SMALL = {
    # name            recipe              data       training    what it is
    "digits":  Preset(small(DIGITS, 10),  "digits",  short(1.0), "digits with label dropout: guidance of both kinds"),
    "fashion": Preset(small(FASHION, 10), "fashion", clothes(),  "clothes with label dropout: guidance of both kinds"),
    "emoji32": Preset(small(EMOJI, 9),    "emoji32", emoji(),    "emoji with label dropout: guidance of both kinds"),
}  # fmt: skip
PUBLISHED = {
    # name                              recipe  data              training  size and published result
    "imagenet64":                Preset(ADM64,  data.IMAGENET64,  TRAIN64,  "296M: FID 2.07"),
    "imagenet128":               Preset(ADM128, data.IMAGENET128, TRAIN128, "422M: FID 5.91; guided (0.5) 2.97"),
    "imagenet256":               Preset(ADM256, data.IMAGENET256, TRAIN256, "554M: FID 10.94; guided (1.0) 4.59"),
    "imagenet256-unconditional": Preset(PLAIN,  data.IMAGENET256, TRAIN256, "553M: FID 26.21; guided (10) 12.00"),
    "imagenet512":               Preset(ADM512, data.IMAGENET512, TRAIN512, "559M: FID 23.24; guided (4.0) 7.72"),
    "imagenet256-upsampler":     Preset(TO256,  data.IMAGENET256, UPWARDS,  "312M: after a guided 64x64, FID 3.94"),
    "imagenet512-upsampler":     Preset(TO512,  data.IMAGENET512, UPWARDS,  "309M: after a guided 128x128, FID 3.85"),
    "lsun-bedroom":              Preset(LSUN,   data.BEDROOM,     GUESSED,  "553M: FID 1.90"),
    "lsun-horse":                Preset(LSUN,   data.HORSE,       GUESSED,  "553M: FID 2.57"),
    "lsun-cat":                  Preset(LSUN,   data.CAT,         GUESSED,  "553M: FID 5.57"),
}  # fmt: skip
