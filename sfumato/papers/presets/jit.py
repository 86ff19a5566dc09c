"""Presets of JiT (Li & He 2025, tables 5, 6 and 9): clean data from large patches of pixels.

Its times are logit-normal with mean -0.8 towards data, which is 0.8 here, where 1 is noise; FID is guided, after 600
epochs. The learning rate is 5e-5 for each 256 images of a batch of 1024.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.jit import JiT
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import Preset, long, short


def clean(shape: tuple[int, ...], network: JiT, conditioning: Conditioning, **more: Any) -> FlowMatching:
    """The paper's training."""
    times: Any = {"times": "logit-normal", "logit_mean": 0.8, "logit_std": 0.8}
    return FlowMatching(shape, network, conditioning, **times, prediction="x0", steps=50, **more)


HIDING = Labels(1000, 0.1)
DIGITS = clean((1, 8, 8), JiT(2, 16, 96, 6, 4, context=4, start=2), Labels(10))
FASHION = clean((1, 28, 28), JiT(4, 16, 192, 8, 6), Unconditional())
B16 = clean((3, 256, 256), JiT(), HIDING)
L16 = clean((3, 256, 256), JiT(width=1024, depth=24, heads=16, start=8), HIDING)
H16 = clean((3, 256, 256), JiT(bottleneck=256, width=1280, depth=32, heads=16, start=10), HIDING)
B32 = clean((3, 512, 512), JiT(32), HIDING, shift=2.0)
TRAIN = replace(long(750_000, 1024, 2e-4, warmup=6_400_000, flip=True), betas=(0.9, 0.95))

SMALL = {
    # name            recipe   data       training                          what it is
    "digits":  Preset(DIGITS,  "digits",  short(1.0, learning_rate=1e-3), "digits by x-prediction, labels as tokens"),
    "fashion": Preset(FASHION, "fashion", short(8.0, learning_rate=1e-3), "clothes by x-prediction, patches of 4"),
}  # fmt: skip
PUBLISHED = {
    # name                    recipe  data              training  size and published result
    "imagenet256":     Preset(B16,    data.IMAGENET256, TRAIN,    "B/16, 131M: FID 3.66"),
    "imagenet256-l16": Preset(L16,    data.IMAGENET256, TRAIN,    "L/16, 459M: FID 2.36"),
    "imagenet256-h16": Preset(H16,    data.IMAGENET256, TRAIN,    "H/16, 953M: FID 1.86"),
    "imagenet512-b32": Preset(B32,    data.IMAGENET512, TRAIN,    "B/32, 133M: FID 4.02"),
}  # fmt: skip
