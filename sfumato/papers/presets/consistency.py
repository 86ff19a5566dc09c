"""Presets of consistency tuning (Geng et al. 2024, table 1), from EDM's weights: `--from`; FID in one and two steps.

RAdam and the stages of their long runs are not here; from random weights these are hard to train.
"""

from __future__ import annotations

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.unet import HoUNet
from sfumato.papers.consistency import ConsistencyModel
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, emoji, long, short
from sfumato.spaces import Pixels

NONE = Unconditional()


def small(size: Size, conditioning: Conditioning) -> ConsistencyModel:
    """For short runs: the networks of EDM's."""
    return ConsistencyModel(size.shape, HoUNet(**size.unet), conditioning)


TUNED = short(4.0, learning_rate=3e-4)

SMALL = {
    # name                   recipe                           data       training    what it is
    "digits":         Preset(small(DIGITS, Labels(10)),       "digits",  short(1.0), "8x8 digits in one or two steps"),
    "fashion":        Preset(small(FASHION, NONE),            "fashion", TUNED,      "clothes in two steps, from EDM"),
    "fashion-labels": Preset(small(FASHION, Labels(10, 0.1)), "fashion", TUNED,      "the same with labels"),
    "emoji32":        Preset(small(EMOJI, Labels(9)),         "emoji32", emoji(),    "emoji in two steps, from EDM"),
}  # fmt: skip
CIFAR, TRAIN = ConsistencyModel(space=Pixels(), q=2.0), long(400_000, 128, 1e-4)
PUBLISHED = {
    # name           recipe  data           training  size and published result
    "cifar10": Preset(CIFAR, data.CIFAR10, TRAIN,    "55.7M: FID 3.60 in one step, 2.11 in two"),
}  # fmt: skip
