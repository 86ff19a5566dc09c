"""Presets of Sohl-Dickstein et al. 2015, section 3 and appendix D; our K beside the paper's is in docs/dpm.md.

K asks for float32: steps near the data are a thousandth of its spread.
"""

from __future__ import annotations

from sfumato.networks.dpm2015 import DPMBits, DPMImage, DPMLocal
from sfumato.papers.dpm import DPM
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, short
from sfumato.spaces import Bits, Standardised

IMAGE = DPMImage(hidden=32, scales=2, dense=256)


def image(shape: tuple[int, ...], first_beta: float = 1e-4, bin: float = 2 / 255) -> DPM:
    """The noise of level 1, below which nothing is modelled, is about one of an image's grey levels."""
    return DPM(shape, IMAGE, space=Standardised(bin=bin), betas="even", first_beta=first_beta)


SWISS = DPM(
    (1, 1, 2), DPMLocal(), space=Standardised(bin=0.0), steps=40, betas="even", first_beta=1e-6, last_signal=0.01,
    prediction="attractor",
)  # fmt: skip
HEARTBEAT = DPM((1, 1, 20), DPMBits(), space=Bits(), steps=2000, betas="jsd")

ROLL = short(9.0, precision="float32", batch=256, learning_rate=4e-3, preview_images=400)
BEAT = short(1.5, precision="float32", batch=128, learning_rate=3e-3, preview_images=64)
THREE = short(3.0, precision="float32", preview_steps=100)
SEVEN = short(7.0, precision="float32", preview_steps=100)

LEAVES, DIGIT = image((1, 16, 16)), image(DIGITS.shape, 1e-3, bin=2 / 16)
CLOTHES, FACES = image(FASHION.shape), image(EMOJI.shape)

SMALL = {
    # name                recipe     data           training what, and the paper's result
    "swiss_roll":  Preset(SWISS,     "swiss_roll",  ROLL,  "in 40 steps: K 2.35 bits, K - L_null 6.45"),
    "heartbeat":   Preset(HEARTBEAT, "heartbeat",   BEAT,  "binomial: K -2.414 bits, K - L_null 12.024"),
    "dead_leaves": Preset(LEAVES,    "dead_leaves", SEVEN, "16x16: K 1.489 bits/pixel, K - L_null 3.536"),
    "digits":      Preset(DIGIT,     "digits",      THREE, "8x8 digits by 2015's model"),
    "fashion":     Preset(CLOTHES,   "fashion",     SEVEN, "clothes by 2015's model"),
    "emoji32":     Preset(FACES,     "emoji32",     SEVEN, "emoji by 2015's model"),
}  # fmt: skip
PUBLISHED: dict[str, Preset] = {}
