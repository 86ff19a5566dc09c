"""Presets of the diffusion transformer DiT (Peebles & Xie 2023, tables 4 and 9) and of SiT (Ma et al. 2024, table 9).

The published ones are trained on latents of 256x256 ImageNet, 32x32 with four channels, of an autoencoder that is not
here: they say what was trained, and how. FID is after 400,000 steps, or 7 million for XL/2, and guided in brackets.
"""

from __future__ import annotations

from typing import Any

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.networks.dit import DiT
from sfumato.papers.adm import ADM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.presets.data import LATENTS256
from sfumato.papers.presets.preset import Preset, long, short

HIDING, SHAPE = Labels(1000, 0.1), (4, 32, 32)


def small(shape: tuple[int, ...], network: DiT, conditioning: Conditioning) -> DDPM:
    """For short runs: cosine betas and v, as the U-Nets' small presets have them."""
    return DDPM(shape, network, conditioning, betas="cosine", prediction="v", weight="v")


def sized(width: int, depth: int, heads: int, patch: int = 2) -> ADM:
    """A published size: ADM's diffusion with a learned variance."""
    return ADM(SHAPE, DiT(patch, width, depth, heads), HIDING, clip=False)


def training(steps: int = 400_000, **more: Any) -> Any:
    """AdamW at 1e-4, 256 a batch."""
    return long(steps, 256, 1e-4, **more)


S, B, B4 = sized(384, 12, 6), sized(768, 12, 12), sized(768, 12, 12, 4)
L, XL = sized(1024, 24, 16), sized(1152, 28, 16)
SIT = FlowMatching(SHAPE, DiT(2, 1152, 28, 16), HIDING)
SHORT, LONG = training(), training(7_000_000)
DIGITS = small((1, 8, 8), DiT(2, 96, 6, 4), Labels(10))
FASHION = small((1, 28, 28), DiT(4, 192, 8, 6), Unconditional())

SMALL = {
    # name            recipe   data       training                          what it is
    "digits":  Preset(DIGITS,  "digits",  short(1.0, learning_rate=1e-3), "digits by a transformer, labels"),
    "fashion": Preset(FASHION, "fashion", short(8.0, learning_rate=1e-3), "clothes by a transformer, patches of 4"),
}  # fmt: skip
PUBLISHED = {
    # name                 recipe  data        training  size and published result
    "imagenet256-s2":  Preset(S,   LATENTS256, SHORT,    "33M: FID 68.4"),
    "imagenet256-b4":  Preset(B4,  LATENTS256, SHORT,    "130M: FID 68.4"),
    "imagenet256-b2":  Preset(B,   LATENTS256, SHORT,    "130M: FID 43.5"),
    "imagenet256-l2":  Preset(L,   LATENTS256, SHORT,    "458M: FID 23.3"),
    "imagenet256":     Preset(XL,  LATENTS256, LONG,     "675M: FID 9.62 (1.5: 2.27); 19.5 after 400,000 steps"),
    "imagenet256-sit": Preset(SIT, LATENTS256, LONG,     "SiT-XL/2, 675M: FID 8.3 (1.5: 2.06)"),
}  # fmt: skip
