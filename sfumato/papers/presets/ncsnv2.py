"""Presets of NCSNv2: Song & Ermon 2020, table 2 of appendix B; the FID is after the last denoising.

FFHQ's Adam had an epsilon of 1e-3, which is not ours to choose. The authors' file for LSUN churches says 64x64; its
levels and the paper say 96x96.
"""

from __future__ import annotations

from typing import Literal

from sfumato.networks.refinenet import RefineNetV2
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, emoji, long, short


def song(
    side: int, first_sigma: float, levels: int, moves: int, step_size: float, depth: Literal[4, 5, 6], images: str,
    steps: int, batch: int, about: str,
) -> Preset:  # fmt: skip
    """A row of the paper's table."""
    recipe = NCSNv2(
        (3, side, side), RefineNetV2(depth=depth), steps=levels, first_sigma=first_sigma, moves_per_level=moves,
        step_size=step_size,
    )  # fmt: skip
    return Preset(recipe, images, long(steps, batch, 1e-4, 0.999, flip=True), about)


SMALLER = RefineNetV2(32)
DIGIT = NCSNv2(DIGITS.shape, SMALLER, steps=21, first_sigma=4.8, step_size=2.4e-5)
CLOTHES = NCSNv2(FASHION.shape, SMALLER, steps=98, first_sigma=20.9, step_size=1.1e-5)
FACES = NCSNv2(EMOJI.shape, SMALLER, steps=212, first_sigma=37.1, step_size=6.5e-6)

TWO, EIGHT = (short(minutes, learning_rate=1e-3, preview_steps=200) for minutes in (2.0, 8.0))
HALF_HOUR = emoji(learning_rate=1e-3, preview_steps=212)

SMALL = {
    # name            recipe   data       training   what it is
    "digits":  Preset(DIGIT,   "digits",  TWO,       "8x8 digits by NCSNv2's techniques"),
    "fashion": Preset(CLOTHES, "fashion", EIGHT,     "clothes by NCSNv2's techniques"),
    "emoji32": Preset(FACES,   "emoji32", HALF_HOUR, "emoji by NCSNv2's techniques"),
}  # fmt: skip
PUBLISHED = {
    # name               side sigma  L     T  epsilon depth data          steps    batch size and published result
    "cifar10":      song(32,  50.0,  232,  5, 6.2e-6, 4, data.CIFAR10,    300_000, 128, "29.7M: FID 10.87, IS 8.40"),
    "celeba64":     song(64,  90.0,  500,  5, 3.3e-6, 4, data.CELEBA64,   210_000, 128, "29.7M: FID 10.23"),
    "lsun-church":  song(96,  140.0, 788,  4, 4.9e-6, 5, data.CHURCH96,   200_000, 128, "83.4M: samples shown"),
    "lsun-bedroom": song(128, 190.0, 1086, 3, 1.8e-6, 5, data.BEDROOM128, 150_000, 128, "83.4M: samples shown"),
    "lsun-tower":   song(128, 190.0, 1086, 3, 1.8e-6, 5, data.TOWER128,   150_000, 128, "83.4M: samples shown"),
    "ffhq256":      song(256, 348.0, 2311, 3, 9e-7,   6, data.FFHQ,       80_000,  32,  "94.1M: samples shown"),
}  # fmt: skip
