"""Presets of DDPM with two objectives at once (lucidrains' weighted objective): a short run, of DDPM's network."""

from __future__ import annotations

from sfumato.conditioning import Labels
from sfumato.networks.unet import HoUNet
from sfumato.papers.mixed import MixedDDPM
from sfumato.papers.presets.preset import DIGITS, Preset, short

MADE = MixedDDPM(DIGITS.shape, HoUNet(**DIGITS.unet), Labels(10), betas="cosine")
SMALL = {
    # name           recipe data      training    what it is
    "digits": Preset(MADE, "digits", short(1.0), "8x8 digits by noise and data at once, labels"),
}
PUBLISHED: dict[str, Preset] = {}
