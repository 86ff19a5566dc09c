"""Presets of flow matching: Lipman et al. 2023, tables 1 and 3, and the 1-rectified flow of Liu et al. 2023, table 1.

FID and bits/dim of Lipman et al. are by an adaptive solver of 142 and 138 evaluations, Liu et al.'s by one of 127.
Lipman et al.'s learning rate falls to 0 by a line, here by a cosine; the average of their weights is our choice. The
length of Liu et al.'s training is that of their configuration.
"""

from __future__ import annotations

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.unet import ADMUNet, HoUNet
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, clothes, emoji, long, short

NONE = Unconditional()


def small(size: Size, conditioning: Conditioning) -> FlowMatching:
    """For short runs: the U-Net of the other papers' small presets."""
    return FlowMatching(size.shape, HoUNet(**size.unet), conditioning)


RECTIFIED = FlowMatching()
MATCHED = FlowMatching(network=ADMUNet(attention=(2,), multipliers=(1, 2, 2, 2)))
NET64 = FlowMatching((3, 64, 64), ADMUNet(192, (1, 2, 3, 4), blocks=3, attention=(2, 4, 8)))

LIU = long(1_300_000, 128, 2e-4, 0.999999, warmup=5000 * 128, clip=1.0, flip=True)
LIPMAN = long(391_000, 256, 5e-4, decay="cosine", warmup=45_000 * 256)
LIPMAN64 = long(157_000, 2048, 1e-4)

SMALL = {
    # name                   recipe                           data       training    what it is
    "digits":         Preset(small(DIGITS, Labels(10)),       "digits",  short(1.0), "8x8 digits by a flow, labels"),
    "fashion":        Preset(small(FASHION, NONE),            "fashion", clothes(),  "clothes by a flow"),
    "fashion-labels": Preset(small(FASHION, Labels(10, 0.1)), "fashion", clothes(),  "clothes by a flow, with dropout"),
    "emoji32":        Preset(small(EMOJI, Labels(9)),         "emoji32", emoji(),    "emoji with categories by a flow"),
}  # fmt: skip
PUBLISHED = {
    # name                   recipe     data             training  size and published result
    "cifar10":        Preset(RECTIFIED, data.CIFAR10,    LIU,      "Liu et al.'s, 61.8M: FID 2.58, IS 9.60"),
    "cifar10-lipman": Preset(MATCHED,   data.CIFAR10,    LIPMAN,   "171.3M: FID 6.35, 2.99 bits/dim"),
    "imagenet64":     Preset(NET64,     data.IMAGENET64, LIPMAN64, "295.1M: FID 14.45, 3.31 bits/dim"),
}  # fmt: skip
