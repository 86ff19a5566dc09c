"""Presets of one and of three dimensions by DDPM: signals and clips of bundled sets, on a CPU in minutes.

Their network is that of Improved DDPM (Nichol & Dhariwal 2021): where groups of the norms have one channel, as in
narrow layers, an embedding that is only added is normalised away; here it scales and shifts.
"""

from __future__ import annotations

from dataclasses import replace

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.unet import ImprovedUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets.ddpm import small
from sfumato.papers.presets.preset import CLIPS, SIGNALS, Preset, Size, short


def modulated(size: Size, conditioning: Conditioning) -> DDPM:
    """For short runs, with an embedding that scales and shifts."""
    return replace(small(size, conditioning), network=ImprovedUNet(**size.unet))


WAVES, FILMS = modulated(SIGNALS, Unconditional()), modulated(CLIPS, Labels(10))

SMALL = {
    # name                  recipe data             training              what it is
    "signals":       Preset(WAVES, "signals",       short(3.0),           "128 numbers each, sums of damped sines"),
    "moving-digits": Preset(FILMS, "moving_digits", short(8.0, batch=32), "8 frames of 16x16, digits that bounce"),
}  # fmt: skip
PUBLISHED: dict[str, Preset] = {}
