"""Presets of image-to-image models by DDPM: SR3 (Saharia et al. 2021), Palette (Saharia et al. 2022), and small ones;
and one of text-to-image.

The papers tell the network a noise level drawn between those of a grid of 2000; here it is told its number on the grid,
whose linear betas are Ho's, rescaled. SR3's blocks are BigGAN's (625M numbers); here the network of its widths is Ho's.
"""

from __future__ import annotations

from sfumato.conditioning import Labels, Picture, Text, Together
from sfumato.networks.unet import ADMUNet, HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets import data
from sfumato.papers.presets.ddpm import ho, small
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, clothes, emoji

PALETTE = DDPM((3, 256, 256), ADMUNet(dropout=0.0), Picture("grey"), steps=2000)
SR3 = DDPM((3, 256, 256), HoUNet(128, (1, 2, 4, 4, 8, 8), 3, (16,), 0.0), Picture("bicubic?factor=4"), steps=2000)
COLOUR, FILL = small(EMOJI, Picture("grey")), small(FASHION, Picture("mask"))
TWICE = small(FASHION, Picture("bicubic?factor=2"))
HALF, CLASSES, NOISY = Size((1, 14, 14), DIGITS.unet), Labels(10, 0.1), Picture("bicubic?factor=2", noise=0.5)
BASE, UPSAMPLER = small(HALF, CLASSES), small(FASHION, Together((CLASSES, NOISY)))
EMOJI64 = small(Size((3, 64, 64), EMOJI.unet), NOISY)
HALVED, WHOLE = "fashion?size=14", "emoji128?size=64"
LONG = ho(1_000_000, 1024, 1e-4, warmup=10_000 * 1024)
LONG256 = ho(1_000_000, 256, 1e-4, warmup=10_000 * 256)

SMALL = {
    # name                   recipe     data       training                what it is
    "emoji32-colour": Preset(COLOUR,    "emoji32", emoji(),                "colours grey emoji"),
    "emoji32-text":   Preset(small(EMOJI, Text()), "emoji32", emoji(),     "emoji by their names, as texts"),
    "fashion-fill":   Preset(FILL,      "fashion", clothes(),              "fills in missing boxes in clothes"),
    "fashion-x2":     Preset(TWICE,     "fashion", clothes(),              "enlarges 14x14 clothes to 28x28"),
    "fashion14":      Preset(BASE,      HALVED,    clothes(),              "14x14 clothes, the base of a cascade"),
    "fashion14-x2":   Preset(UPSAMPLER, "fashion", clothes(batch=16),      "its upsampler, with noise on its input"),
    "emoji32-x2":     Preset(EMOJI64,   WHOLE,     emoji(30.0, batch=16),  "upsampler of ddpm/emoji32 to 64x64"),
}  # fmt: skip
PUBLISHED = {
    # name                       recipe   data              training  size and published result
    "imagenet256-colour": Preset(PALETTE, data.IMAGENET256, LONG,     "Palette, 553M: colouring, FID-5K 15.78"),
    "imagenet256-x4":     Preset(SR3,     data.IMAGENET256, LONG256,  "SR3, 575M: FID 11.3 after a 64x64 model"),
}  # fmt: skip
