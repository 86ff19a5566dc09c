"""Presets of the classifiers that guide (Dhariwal & Nichol 2021, section 4.1 and appendix H), as in the official code.

Each guides the preset of the same name in `adm`.
"""

from __future__ import annotations

from typing import Any

from sfumato.conditioning import Labels
from sfumato.networks.classifier import Encoder
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, emoji, long, short


def small(size: Size, classes: int, **more: Any) -> NoisyClassifier:
    """For short runs."""
    encoder = Encoder(**{**size.unet, "head_channels": 32, **more})
    return NoisyClassifier(size.shape, encoder, Labels(classes), betas="cosine")


NOISY64 = NoisyClassifier((3, 64, 64), Encoder(128, (1, 2, 3, 4), blocks=4, attention=(2, 4, 8)), betas="cosine")
NOISY128 = NoisyClassifier((3, 128, 128), Encoder(128, (1, 1, 2, 3, 4), attention=(4, 8, 16)))
NOISY256 = NoisyClassifier()
NOISY512 = NoisyClassifier((3, 512, 512), Encoder(128, (0.5, 1, 1, 2, 2, 4, 4), attention=(16, 32, 64)))

EIGHT = emoji(8.0, weight_decay=0.05, flip=True)
LONG = long(300_000, 256, 3e-4, weight_decay=0.05, flip=True, decay="cosine")

SMALL = {
    # name            recipe                        data       training    what it is
    "digits":  Preset(small(DIGITS, 10),            "digits",  short(1.0), "guides adm/digits"),
    "fashion": Preset(small(FASHION, 10),           "fashion", short(4.0), "guides adm/fashion"),
    "emoji32": Preset(small(EMOJI, 9, dropout=0.3), "emoji32", EIGHT,      "guides adm/emoji32"),
}  # fmt: skip
PUBLISHED = {
    # name                recipe    data              training size and what it is
    "imagenet64":  Preset(NOISY64,  data.IMAGENET64,  LONG, "65M: guides adm/imagenet64"),
    "imagenet128": Preset(NOISY128, data.IMAGENET128, LONG, "43M: guides adm/imagenet128"),
    "imagenet256": Preset(NOISY256, data.IMAGENET256, LONG, "54M: guides adm/imagenet256"),
    "imagenet512": Preset(NOISY512, data.IMAGENET512, LONG, "54M: guides adm/imagenet512"),
}  # fmt: skip
