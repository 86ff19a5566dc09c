"""Presets of mean flows: Geng et al. 2025, table 3, in one evaluation a picture.

The small ones may begin at a flow's weights, `--from flow/fashion --recipe.time-scale 1000`: a mean flow with r = t is
flow matching.
"""

from __future__ import annotations

from sfumato.conditioning import Augmented, Conditioning, Labels, Unconditional
from sfumato.networks.unet import HoUNet
from sfumato.papers.mean_flow import MeanFlow
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, FASHION, Preset, Size, long, short


def small(size: Size, conditioning: Conditioning) -> MeanFlow:
    """For short runs: the networks of the flows."""
    return MeanFlow(size.shape, HoUNet(**size.unet), conditioning, t_mean=-0.4, t_std=1.0, r_mean=-0.4, r_std=1.0)


SMALL = {
    # name            recipe                           data       training    what it is
    "digits":  Preset(small(DIGITS, Labels(10)),       "digits",  short(2.0), "8x8 digits in one step, labels"),
    "fashion": Preset(small(FASHION, Unconditional()), "fashion", short(8.0), "clothes in one step"),
}  # fmt: skip
CIFAR = MeanFlow(conditioning=Augmented())
TRAIN = long(800_000, 1024, 6e-4, 0.99995, warmup=10_000 * 1024)
PUBLISHED = {
    # name            recipe data          training  size and published result
    "cifar10": Preset(CIFAR, data.CIFAR10, TRAIN,    "55.7M: FID 2.92 in one step"),
}  # fmt: skip
