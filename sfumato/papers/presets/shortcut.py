"""Presets of shortcut models (Frans et al. 2024), whose own are transformers on latents and are not here.

The small ones may begin at a flow's weights, `--from flow/fashion --recipe.time-scale 1000`: a shortcut of length 0 is
flow matching.
"""

from __future__ import annotations

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.unet import HoUNet
from sfumato.papers.presets.preset import DIGITS, FASHION, Preset, Size, short
from sfumato.papers.shortcut import Shortcut


def small(size: Size, conditioning: Conditioning) -> Shortcut:
    """For short runs: the networks of the flows."""
    return Shortcut(size.shape, HoUNet(**size.unet), conditioning)


SMALL = {
    # name            recipe                           data       training    what it is
    "digits":  Preset(small(DIGITS, Labels(10)),       "digits",  short(2.0), "8x8 digits in one, two, ... 128 steps"),
    "fashion": Preset(small(FASHION, Unconditional()), "fashion", short(8.0), "clothes in one, two, ... 128 steps"),
}  # fmt: skip
PUBLISHED: dict[str, Preset] = {}
