"""Presets of DDPM in continuous time (Kingma et al. 2021; Salimans & Ho 2022): short runs, of DDPM's networks."""

from __future__ import annotations

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.unet import HoUNet
from sfumato.papers.continuous import ContinuousDDPM
from sfumato.papers.presets.preset import DIGITS, FASHION, Preset, Size, short


def small(size: Size, conditioning: Conditioning) -> ContinuousDDPM:
    """For short runs."""
    return ContinuousDDPM(size.shape, HoUNet(**size.unet), conditioning)


SMALL = {
    # name            recipe                           data       training    what it is
    "digits":  Preset(small(DIGITS, Labels(10)),       "digits",  short(1.0), "8x8 digits in continuous time, labels"),
    "fashion": Preset(small(FASHION, Unconditional()), "fashion", short(8.0), "clothes in continuous time"),
}  # fmt: skip
PUBLISHED: dict[str, Preset] = {}
