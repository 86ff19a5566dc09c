"""Presets of score SDEs: Song et al. 2021, appendices F to I and the authors' configurations.

"flow" is what the probability flow ODE reaches: FID and bits/dim (NLL). Where no result is named, the authors published
a configuration alone. Images larger than CIFAR-10's were shown, and have no FID.
"""

from __future__ import annotations

from dataclasses import replace

from sfumato.networks.backbone import Backbone
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp, SongUNet
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, Size, emoji, long, short
from sfumato.papers.score_sde import ScoreSDE
from sfumato.papers.training import TrainConfig

# ---------------------------------------------------------------- on a CPU, in minutes


def vp(size: Size) -> ScoreSDE:
    """DDPM++ and the VP SDE, for short runs."""
    return ScoreSDE(size.shape, DDPMpp(**size.unet), sde="vp", reduction="mean", corrector="none")


def subvp(size: Size) -> ScoreSDE:
    """The same by the sub-VP SDE."""
    return replace(vp(size), sde="subvp", predictor="euler")


def ve(size: Size, first_sigma: float) -> ScoreSDE:
    """NCSN++ and the VE SDE, for short runs."""
    return ScoreSDE(size.shape, NCSNpp(**size.unet), sde="ve", reduction="mean", first_sigma=first_sigma)


ONE, TWO, EIGHT = (short(minutes, preview_steps=100) for minutes in (1.0, 2.0, 8.0))
HALF_HOUR = emoji(preview_steps=100)

SMALL = {
    # name                  recipe             data       training   what it is
    "digits":        Preset(vp(DIGITS),        "digits",  ONE,       "8x8 digits by DDPM++ and the VP SDE"),
    "digits-subvp":  Preset(subvp(DIGITS),     "digits",  ONE,       "the same by the sub-VP SDE"),
    "digits-ve":     Preset(ve(DIGITS, 6.0),   "digits",  TWO,       "8x8 digits by NCSN++ and the VE SDE"),
    "fashion":       Preset(vp(FASHION),       "fashion", EIGHT,     "clothes by DDPM++ and the VP SDE"),
    "fashion-subvp": Preset(subvp(FASHION),    "fashion", EIGHT,     "the same by the sub-VP SDE"),
    "fashion-ve":    Preset(ve(FASHION, 20.9), "fashion", EIGHT,     "clothes by NCSN++ and the VE SDE"),
    "emoji32":       Preset(vp(EMOJI),         "emoji32", HALF_HOUR, "emoji by DDPM++ and the VP SDE"),
    "emoji32-subvp": Preset(subvp(EMOJI),      "emoji32", HALF_HOUR, "the same by the sub-VP SDE"),
    "emoji32-ve":    Preset(ve(EMOJI, 37.1),   "emoji32", HALF_HOUR, "emoji by NCSN++ and the VE SDE"),
}  # fmt: skip

# ---------------------------------------------------------------- CIFAR-10

VE = ScoreSDE()
VP = ScoreSDE(network=DDPMpp(), sde="vp", reduction="mean", predictor="euler", corrector="none")
SUBVP = replace(VP, sde="subvp")
VE_N = replace(VE, continuous=False)
VP_N = replace(VP, continuous=False, predictor="ancestral")
VP_RD = replace(VP, continuous=False, predictor="reverse")

DDPM, PLUS, PLUS_DEEP = SongUNet(), DDPMpp(), DDPMpp(blocks=8)
NCSN, NCSN_DEEP = NCSNpp(fourier=False), NCSNpp(blocks=8, fourier=False)
FOURIER, FOURIER_DEEP = NCSNpp(), NCSNpp(blocks=8)  # the noise level itself enters


def song(steps: int, batch: int, ema: float) -> TrainConfig:
    """A training of appendix H: warm-up over 5,000 steps, gradients clipped to norm 1."""
    return long(steps, batch, 2e-4, ema, warmup=5000 * batch, clip=1.0, flip=True)


def cifar(recipe: ScoreSDE, network: Backbone, thousands: int, about: str) -> Preset:
    """A row of CIFAR-10, by its length in thousands of steps."""
    config = song(1000 * thousands, 128, ema=0.999 if recipe.sde == "ve" else 0.9999)
    return Preset(replace(recipe, network=network), data.CIFAR10, config, about)


CIFAR10 = {
    # name                             SDE    network       steps size and published result
    "cifar10-ve-levels":         cifar(VE_N,  NCSN,         1300, "62.7M: FID 2.45, IS 9.73"),
    "cifar10-ve":                cifar(VE,    FOURIER,      1300, "62.8M: FID 2.38, IS 9.83"),
    "cifar10-ve-deep":           cifar(VE,    FOURIER_DEEP, 950,  "107.6M: FID 2.20, IS 9.89"),
    "cifar10-ve-ddpm":           cifar(VE_N,  DDPM,         1300, "35.2M: no result"),
    "cifar10-vp-ddpm-levels":    cifar(VP_N,  DDPM,         1300, "35.2M: FID 3.24; flow FID 3.37, NLL 3.28"),
    "cifar10-vp-ddpm":           cifar(VP,    DDPM,         1300, "35.2M: flow FID 3.69, NLL 3.21"),
    "cifar10-vp-levels":         cifar(VP_N,  PLUS,         1300, "61.8M: FID 2.78, IS 9.64"),
    "cifar10-vp":                cifar(VP,    PLUS,         1300, "61.8M: FID 2.55, IS 9.58; flow FID 3.93, NLL 3.16"),
    "cifar10-vp-deep":           cifar(VP,    PLUS_DEEP,    950,  "106.6M: FID 2.41, IS 9.68; flow FID 3.08, NLL 3.13"),
    "cifar10-vp-ncsnpp-levels":  cifar(VP_RD, NCSN,         1300, "62.7M: no result"),
    "cifar10-vp-ncsnpp":         cifar(VP,    NCSN,         1300, "62.7M: no result"),
    "cifar10-vp-ncsnpp-deep":    cifar(VP,    NCSN_DEEP,    950,  "107.5M: no result"),
    "cifar10-subvp-ddpm":        cifar(SUBVP, DDPM,         1300, "35.2M: flow FID 3.56, NLL 3.05"),
    "cifar10-subvp":             cifar(SUBVP, PLUS,         1300, "61.8M: FID 2.61, IS 9.56; flow FID 3.16, NLL 3.02"),
    "cifar10-subvp-deep":        cifar(SUBVP, PLUS_DEEP,    950,  "106.6M: FID 2.41, IS 9.57; flow FID 2.92, NLL 2.99"),
    "cifar10-subvp-ncsnpp":      cifar(SUBVP, NCSN,         1300, "62.7M: no result"),
    "cifar10-subvp-ncsnpp-deep": cifar(SUBVP, NCSN_DEEP,    950,  "107.5M: no result"),
}  # fmt: skip

# ---------------------------------------------------------------- larger images

SKIP = NCSNpp(128, (1, 1, 2, 2, 2, 2, 2), blocks=2, attention=(16,), dropout=0.0, progressive="skip")
HUGE = NCSNpp(16, (1, 2, 4, 8, 16, 32, 32, 32), blocks=1, attention=(64,), dropout=0.0, progressive="skip")
CELEBA = replace(VE_N, shape=(3, 64, 64), network=NCSNpp(attention=(4,), fourier=False), first_sigma=90.0, snr=0.17)
HUGE_VE = replace(VE, shape=(3, 1024, 1024), network=HUGE, first_sigma=1348.0, snr=0.15, steps=2000)
HUGE_MEAN = replace(HUGE_VE, reduction="mean")
VP256 = replace(VP_N, shape=(3, 256, 256), network=SongUNet(128, (1, 1, 2, 2, 4, 4), 2, attention=(16,), dropout=0.0))


def ve256(first_sigma: float) -> ScoreSDE:
    """The paper's VE for 256x256."""
    return replace(VE, shape=(3, 256, 256), network=SKIP, first_sigma=first_sigma, snr=0.075, steps=2000)


TRAIN64 = song(1_300_000, 128, ema=0.999)
TRAIN256, TRAIN_VP = song(2_400_000, 64, ema=0.999), song(2_400_000, 64, ema=0.9999)
TRAIN1024 = song(2_400_000, 8, ema=0.9999)

LARGE = {
    # name                    recipe        data               training   size, network and SDE
    "celeba64-ve":     Preset(CELEBA,       data.CELEBA64,     TRAIN64,   "62.7M: NCSN++, VE on 1,000 levels"),
    "lsun-bedroom-ve": Preset(ve256(378.0), data.BEDROOM,      TRAIN256,  "65.6M: NCSN++, VE"),
    "lsun-church-ve":  Preset(ve256(380.0), data.CHURCH,       TRAIN256,  "65.6M: NCSN++, VE"),
    "celebahq256-ve":  Preset(ve256(348.0), data.CELEBAHQ,     TRAIN256,  "65.6M: NCSN++, VE"),
    "ffhq256-ve":      Preset(ve256(348.0), data.FFHQ,         TRAIN256,  "65.6M: NCSN++, VE"),
    "celebahq1024-ve": Preset(HUGE_VE,      data.CELEBAHQ1024, TRAIN1024, "105.8M: NCSN++, VE"),
    "ffhq1024-ve":     Preset(HUGE_MEAN,    data.FFHQ1024,     TRAIN1024, "105.8M: NCSN++, VE"),
    "lsun-bedroom-vp": Preset(VP256,        data.BEDROOM,      TRAIN_VP,  "111.6M: DDPM, VP on 1,000 levels"),
    "lsun-church-vp":  Preset(VP256,        data.CHURCH,       TRAIN_VP,  "111.6M: DDPM, VP on 1,000 levels"),
    "celebahq256-vp":  Preset(VP256,        data.CELEBAHQ,     TRAIN_VP,  "111.6M: DDPM, VP on 1,000 levels"),
}  # fmt: skip
PUBLISHED = {**CIFAR10, **LARGE}
