"""Ready choices, `paper/data`: a recipe, a data set and training numbers that belong together.

The paper's own configurations carry their published result in a comment; the small ones train on a CPU in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.dpm import DPM
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.recipe import Trainable
from sfumato.papers.score_sde import ScoreSDE
from sfumato.published_scores import PUBLISHED, Published
from sfumato.train.config import TrainConfig


@dataclass(frozen=True)
class Preset:
    """What `sfumato train NAME` starts from.

    Attributes:
        recipe: the paper's choices; shape and classes are taken from the data.
        data: the spec of the training images.
        train: the training numbers.
        about: one line for the list of presets.
    """

    recipe: Trainable
    data: str
    train: TrainConfig
    about: str


# What fits a short run (docs/training.md): v prediction on cosine betas, a small net, a high learning rate that decays
# to zero over whatever budget is given. The papers' own numbers need hundreds of times as long.
SMALL: dict[str, Any] = {
    "shape": (1, 28, 28), "channels": 32, "multipliers": (1, 2, 2), "blocks": 1, "attention": (4,), "dropout": 0.0,
}  # fmt: skip
DDPM_SHORT = DDPM(**SMALL, betas="cosine", prediction="v", weight="v")
IDDPM_SHORT = ImprovedDDPM(**SMALL, steps=1000, prediction="v")
ADM_SHORT = ADM(**SMALL, classes=10, label_dropout=0.1, betas="cosine", prediction="v", head_channels=32)
CLASSIFIER_SHORT = NoisyClassifier(**SMALL, classes=10, betas="cosine", head_channels=32)

SDE_SHORT = ScoreSDE(**SMALL, sde="vp", network="ddpmpp", reduction="mean", corrector="none")
VE_SHORT = ScoreSDE(**SMALL, sde="ve", network="ncsnpp", reduction="mean", first_sigma=20.9)

DIGITS = TrainConfig(minutes=1.0, learning_rate=2e-3)
FASHION = TrainConfig(minutes=8.0, learning_rate=2e-3)
EMOJI = TrainConfig(minutes=30.0, learning_rate=2e-3, ema=(0.9995,))


def long(steps: int, batch: int, learning_rate: float, ema: float = 0.9999, **more: Any) -> TrainConfig:
    """A published training: so many steps with a constant learning rate; what is not published is torch's default."""
    return TrainConfig(
        images=steps * batch, batch=batch, learning_rate=learning_rate, decay="constant", betas=(0.9, 0.999),
        ema=(ema,), times="random", **{"clip": 0.0, "warmup": 0, **more},
    )  # fmt: skip


def ho(steps: int, batch: int, learning_rate: float, ema: float = 0.9999, flip: bool = True) -> TrainConfig:
    """Ho et al.'s training: warm-up over 5,000 steps, gradients clipped to norm 1."""
    return long(steps, batch, learning_rate, ema, clip=1.0, warmup=5000 * batch, flip=flip)


def published(row: Published) -> Preset:
    """A configuration of the score line."""
    config = long(row.steps, row.batch, row.rate, row.ema, warmup=row.warmup, clip=row.clip, flip=row.flip)
    return Preset(row.recipe, row.data, config, row.about)


LSUN_DDPM = DDPM(shape=(3, 256, 256), variance="small", multipliers=(1, 1, 2, 2, 4, 4), attention=(16,), dropout=0.0)
IMAGENET64 = ImprovedDDPM(shape=(3, 64, 64), multipliers=(1, 2, 3, 4), attention=(4, 8), dropout=0.0)
LSUN_ADM = ADM(classes=0, dropout=0.1)
CLASSIFIER = replace(long(300_000, 256, 3e-4, weight_decay=0.05, flip=True), decay="cosine")

# Sohl-Dickstein et al. 2015, section 3 and appendix D; K in bits beside the paper's is in docs/dpm.md.
# K asks for float32: steps near the data are a thousandth of its spread.
TOY = TrainConfig(minutes=1.5, precision="float32", batch=128, learning_rate=3e-3, ema=(0.999,), preview_images=400)
LEAVES = TrainConfig(minutes=7.0, precision="float32", learning_rate=2e-3, preview_steps=100)
# The noise of level 1, below which nothing is modelled, is about one of 256 grey levels.
IMAGE_2015 = DPM(hidden=32, scales=2, dense=256, betas="even", first_beta=1e-4)

PRESETS: dict[str, Preset] = {
    # ---------------------------------------------------------------- on a CPU, in minutes
    # K 2.35 bits, K - L_null 6.45
    "dpm/swiss_roll": Preset(
        DPM(shape=(1, 1, 2), network="local", hidden=64, bumps=6, steps=40, betas="even", first_beta=1e-6,
            last_signal=0.01, bin=0.0, reading="attractor"),
        "swiss_roll", replace(TOY, minutes=9.0, batch=256, learning_rate=4e-3), "2015's swiss roll in 40 steps",
    ),
    # K -2.414 bits, K - L_null 12.024
    "dpm/heartbeat": Preset(
        DPM(shape=(1, 1, 20), diffusion="binomial", network="bits", hidden=50, layers=3, steps=2000, betas="jsd"),
        "heartbeat", replace(TOY, preview_images=64), "2015's heartbeat: binomial diffusion of 20 bits",
    ),
    # K 1.489 bits/pixel, K - L_null 3.536
    "dpm/dead_leaves": Preset(
        replace(IMAGE_2015, shape=(1, 16, 16)), "dead_leaves", LEAVES, "2015's dead leaves, 16x16"
    ),
    "dpm/digits": Preset(
        replace(IMAGE_2015, shape=(1, 8, 8), bin=2 / 16, first_beta=1e-3), "digits", replace(LEAVES, minutes=3.0),
        "8x8 digits by 2015's model",
    ),
    "dpm/fashion": Preset(replace(IMAGE_2015, shape=(1, 28, 28)), "fashion", LEAVES, "clothes by 2015's model"),
    "dpm/emoji32": Preset(replace(IMAGE_2015, shape=(3, 32, 32)), "emoji32", LEAVES, "emoji by 2015's model"),
    "ddpm/digits": Preset(
        replace(DDPM_SHORT, shape=(1, 8, 8), multipliers=(1, 2), attention=(2,), classes=10), "digits", DIGITS,
        "8x8 digits with labels: a minute on a laptop",
    ),
    "ddpm/fashion": Preset(DDPM_SHORT, "fashion", FASHION, "28x28 clothes in eight minutes on two cores"),
    "ddpm/mnist": Preset(replace(DDPM_SHORT, classes=10), "mnist", FASHION, "28x28 handwritten digits with labels"),
    "ddpm/emoji32": Preset(
        replace(DDPM_SHORT, shape=(3, 32, 32), multipliers=(1, 2, 4), dropout=0.1, classes=9), "emoji32", EMOJI,
        "32x32 colour emoji with categories; its checkpoint ships",
    ),
    "iddpm/digits": Preset(
        replace(IDDPM_SHORT, shape=(1, 8, 8), multipliers=(1, 2), attention=(2,), classes=10), "digits", DIGITS,
        "the same with a learned variance: bits/dim and few steps",
    ),
    "iddpm/fashion": Preset(IDDPM_SHORT, "fashion", FASHION, "clothes with a learned variance"),
    "iddpm/emoji32": Preset(
        replace(IDDPM_SHORT, shape=(3, 32, 32), multipliers=(1, 2, 4), dropout=0.1, classes=9), "emoji32", EMOJI,
        "emoji with a learned variance",
    ),
    "iddpm/fashion-upsampler": Preset(
        replace(IDDPM_SHORT, low_res=14), "fashion", replace(FASHION, minutes=5.0), "enlarges 14x14 clothes to 28x28"
    ),
    "adm/digits": Preset(
        replace(ADM_SHORT, shape=(1, 8, 8), multipliers=(1, 2), attention=(2,)), "digits", DIGITS,
        "digits with label dropout, for guidance of both kinds",
    ),
    "adm/fashion": Preset(ADM_SHORT, "fashion", FASHION, "clothes with label dropout, for guidance of both kinds"),
    "adm/emoji32": Preset(
        replace(ADM_SHORT, shape=(3, 32, 32), multipliers=(1, 2, 4), dropout=0.1, classes=9), "emoji32", EMOJI,
        "emoji with label dropout, for guidance of both kinds",
    ),
    "adm_classifier/digits": Preset(
        replace(CLASSIFIER_SHORT, shape=(1, 8, 8), multipliers=(1, 2), attention=(2,)), "digits", DIGITS,
        "guides adm/digits",
    ),
    "adm_classifier/fashion": Preset(
        CLASSIFIER_SHORT, "fashion", replace(FASHION, minutes=4.0), "guides adm/fashion"
    ),
    "adm_classifier/emoji32": Preset(
        replace(CLASSIFIER_SHORT, shape=(3, 32, 32), multipliers=(1, 2, 4), dropout=0.3, classes=9), "emoji32",
        replace(EMOJI, minutes=8.0, weight_decay=0.05, flip=True), "guides adm/emoji32",
    ),
    "ncsn/digits": Preset(
        NCSN(shape=(1, 8, 8), channels=16, first_sigma=3.0, last_sigma=0.03, step_size=1.8e-4, moves_per_level=40),
        "digits", replace(DIGITS, minutes=2.0, batch=16, preview_steps=200),
        "8x8 digits by annealed Langevin dynamics, ten levels",
    ),
    "ncsnv2/digits": Preset(
        NCSNv2(shape=(1, 8, 8), channels=32, steps=21, first_sigma=4.8, step_size=2.4e-5), "digits",
        replace(DIGITS, minutes=2.0, learning_rate=1e-3, preview_steps=200), "8x8 digits by NCSNv2's techniques",
    ),
    "ncsn/fashion": Preset(
        NCSN(shape=(1, 28, 28), channels=24), "fashion", replace(FASHION, learning_rate=1e-3, preview_steps=200),
        "clothes by annealed Langevin dynamics, the paper's levels and steps",
    ),
    "ncsnv2/fashion": Preset(
        NCSNv2(shape=(1, 28, 28), channels=32, steps=98, first_sigma=20.9, step_size=1.1e-5), "fashion",
        replace(FASHION, learning_rate=1e-3, preview_steps=200), "clothes by NCSNv2's techniques",
    ),
    "ncsn/emoji32": Preset(
        NCSN(channels=24), "emoji32", replace(EMOJI, learning_rate=1e-3, preview_steps=200),
        "emoji by annealed Langevin dynamics",
    ),
    "ncsnv2/emoji32": Preset(
        NCSNv2(channels=32, steps=212, first_sigma=37.1, step_size=6.5e-6), "emoji32",
        replace(EMOJI, learning_rate=1e-3, preview_steps=212), "emoji by NCSNv2's techniques",
    ),
    "score_sde/digits": Preset(
        replace(SDE_SHORT, shape=(1, 8, 8), multipliers=(1, 2), attention=(2,)), "digits",
        replace(DIGITS, preview_steps=100), "8x8 digits in continuous time: VP, with exact likelihood",
    ),
    "score_sde/digits-subvp": Preset(
        replace(SDE_SHORT, shape=(1, 8, 8), multipliers=(1, 2), attention=(2,), sde="subvp", predictor="euler"),
        "digits", replace(DIGITS, preview_steps=100), "the same by the sub-VP SDE",
    ),
    "score_sde/digits-ve": Preset(
        replace(VE_SHORT, shape=(1, 8, 8), multipliers=(1, 2), attention=(2,), first_sigma=6.0), "digits",
        replace(DIGITS, minutes=2.0, preview_steps=100), "8x8 digits by NCSN++ and the VE SDE",
    ),
    "score_sde/fashion": Preset(
        SDE_SHORT, "fashion", replace(FASHION, preview_steps=100), "clothes by DDPM++ and the VP SDE"
    ),
    "score_sde/fashion-subvp": Preset(
        replace(SDE_SHORT, sde="subvp", predictor="euler"), "fashion", replace(FASHION, preview_steps=100),
        "the same by the sub-VP SDE",
    ),
    "score_sde/fashion-ve": Preset(
        VE_SHORT, "fashion", replace(FASHION, preview_steps=100), "clothes by NCSN++ and the VE SDE"
    ),
    "score_sde/emoji32": Preset(
        replace(SDE_SHORT, shape=(3, 32, 32), multipliers=(1, 2, 4), dropout=0.1), "emoji32",
        replace(EMOJI, preview_steps=100), "emoji by DDPM++ and the VP SDE",
    ),
    "score_sde/emoji32-subvp": Preset(
        replace(SDE_SHORT, shape=(3, 32, 32), multipliers=(1, 2, 4), dropout=0.1, sde="subvp", predictor="euler"),
        "emoji32", replace(EMOJI, preview_steps=100), "the same by the sub-VP SDE",
    ),
    "score_sde/emoji32-ve": Preset(
        replace(VE_SHORT, shape=(3, 32, 32), multipliers=(1, 2, 4), dropout=0.1, first_sigma=37.1), "emoji32",
        replace(EMOJI, preview_steps=100), "emoji by NCSN++ and the VE SDE",
    ),
    # ---------------------------------------------------------------- Ho et al. 2020, appendix B; bring the images
    # 35.7M parameters: FID 3.17, Inception score 9.46, at most 3.75 bits/dim
    "ddpm/cifar10": Preset(DDPM(), "npz:cifar10.npz", ho(800_000, 128, 2e-4), "the paper's CIFAR-10 model"),
    # 114M parameters; samples shown, no FID given
    "ddpm/celebahq": Preset(
        LSUN_DDPM, "folder:celebahq?size=256", ho(500_000, 64, 2e-5), "the paper's 256x256 CelebA-HQ model"
    ),
    # FID 6.36
    "ddpm/lsun-bedroom": Preset(
        LSUN_DDPM, "folder:lsun/bedroom?size=256", ho(2_400_000, 64, 2e-5, flip=False), "the paper's LSUN bedrooms"
    ),
    # FID 7.89
    "ddpm/lsun-church": Preset(
        LSUN_DDPM, "folder:lsun/church?size=256", ho(1_200_000, 64, 2e-5), "the paper's LSUN churches"
    ),
    # FID 19.75
    "ddpm/lsun-cat": Preset(LSUN_DDPM, "folder:lsun/cat?size=256", ho(1_800_000, 64, 2e-5), "the paper's LSUN cats"),
    # ---------------------------------------------------------------- Song et al. 2020 (DDIM), appendix D.1
    # 78.7M parameters: FID 17.33 / 13.73 / 9.17 / 6.53 / 3.51 in 10 / 20 / 50 / 100 / 1000 steps of DDIM; the paper
    # does not say how long it was trained: the length here is ours
    "ddpm/celeba64": Preset(
        DDPM(shape=(3, 64, 64), multipliers=(1, 2, 2, 2, 4), attention=(4,)), "folder:celeba?size=64",
        ho(800_000, 128, 2e-4), "DDIM's CelebA model",
    ),
    # ---------------------------------------------------------------- Nichol & Dhariwal 2021, appendix A
    # 52.5M parameters: 3.17 bits/dim, FID 3.19
    "iddpm/cifar10": Preset(
        ImprovedDDPM(), "npz:cifar10.npz", long(500_000, 128, 1e-4), "the paper's CIFAR-10 model, L_hybrid"
    ),
    # 2.94 bits/dim, FID 11.47
    "iddpm/cifar10-vlb": Preset(
        ImprovedDDPM(objective="vlb", importance=True), "npz:cifar10.npz", long(500_000, 128, 1e-4),
        "the same with L_vlb and importance sampling",
    ),
    # 121M parameters: 3.57 bits/dim, FID 19.2
    "iddpm/imagenet64": Preset(
        IMAGENET64, "folder:imagenet/train?size=64", long(1_500_000, 128, 1e-4), "the paper's ImageNet 64x64, L_hybrid"
    ),
    # 3.53 bits/dim, FID 40.1
    "iddpm/imagenet64-vlb": Preset(
        replace(IMAGENET64, objective="vlb", importance=True), "folder:imagenet/train?size=64",
        long(1_500_000, 128, 1e-4), "the same with L_vlb and importance sampling",
    ),
    # 273M parameters: FID 2.92 in 250 steps
    "iddpm/imagenet64-classes": Preset(
        replace(IMAGENET64, classes=1000, channels=192, vlb_weight=1 / 4000, rescale_times=False),
        "folder:imagenet/train?size=64", long(250_000, 2048, 3e-4), "the paper's class-conditional ImageNet 64x64",
    ),
    # 280M parameters: two stages, 64x64 and this, reach FID 12.26 at 256x256; batch and rate as in the small models
    "iddpm/imagenet256-upsampler": Preset(
        ImprovedDDPM(shape=(3, 256, 256), classes=1000, low_res=64, betas="linear", vlb_weight=1 / 4000,
                     rescale_times=False, channels=192, multipliers=(1, 1, 2, 2, 4, 4), blocks=2, attention=(16, 32),
                     dropout=0.0),
        "folder:imagenet/train?size=256", long(500_000, 256, 1e-4), "the paper's upsampler, 64 to 256",
    ),
    # 114M parameters; the released model of 2.4M steps
    "iddpm/lsun-bedroom": Preset(
        ImprovedDDPM(shape=(3, 256, 256), steps=1000, betas="linear", rescale_times=False,
                     multipliers=(1, 1, 2, 2, 4, 4), blocks=2, attention=(16,), heads=1, scale_shift=False,
                     dropout=0.0),
        "folder:lsun/bedroom?size=256", long(2_400_000, 64, 2e-5), "the paper's LSUN bedrooms",
    ),
    # ---------------------------------------------------------------- Dhariwal & Nichol 2021, tables 4, 5 and 11
    # 296M parameters: FID 2.07
    "adm/imagenet64": Preset(
        ADM(shape=(3, 64, 64), betas="cosine", channels=192, multipliers=(1, 2, 3, 4), blocks=3, attention=(2, 4, 8),
            dropout=0.1),
        "folder:imagenet/train?size=64", long(540_000, 2048, 3e-4, flip=True), "the paper's ImageNet 64x64",
    ),
    # 422M parameters: FID 5.91; guided (scale 0.5) 2.97
    "adm/imagenet128": Preset(
        ADM(shape=(3, 128, 128), multipliers=(1, 1, 2, 3, 4), attention=(4, 8, 16), head_channels=0, heads=4),
        "folder:imagenet/train?size=128", long(4_360_000, 256, 1e-4, flip=True), "the paper's ImageNet 128x128",
    ),
    # 554M parameters: FID 10.94; guided (scale 1.0) 4.59
    "adm/imagenet256": Preset(
        ADM(), "folder:imagenet/train?size=256", long(1_980_000, 256, 1e-4, flip=True), "the paper's ImageNet 256x256"
    ),
    # 553M parameters: FID 26.21; guided (scale 10) 12.00
    "adm/imagenet256-unconditional": Preset(
        ADM(classes=0), "folder:imagenet/train?size=256", long(1_980_000, 256, 1e-4, flip=True),
        "the same without labels",
    ),
    # 559M parameters: FID 23.24; guided (scale 4.0) 7.72
    "adm/imagenet512": Preset(
        ADM(shape=(3, 512, 512), multipliers=(0.5, 1, 1, 2, 2, 4, 4), attention=(16, 32, 64)),
        "folder:imagenet/train?size=512", long(1_940_000, 256, 1e-4, flip=True), "the paper's ImageNet 512x512",
    ),
    # 312M parameters: guided 64x64 and this reach FID 3.94 at 256x256; the length is Improved DDPM's
    "adm/imagenet256-upsampler": Preset(
        ADM(low_res=64, channels=192, attention=(8, 16, 32), head_channels=0, heads=4),
        "folder:imagenet/train?size=256", long(500_000, 256, 1e-4), "the paper's upsampler, 64 to 256",
    ),
    # 309M parameters: guided 128x128 and this reach FID 3.85 at 512x512; the length is Improved DDPM's
    "adm/imagenet512-upsampler": Preset(
        ADM(shape=(3, 512, 512), low_res=128, channels=192, attention=(16, 32)),
        "folder:imagenet/train?size=512", long(500_000, 256, 1e-4), "the paper's upsampler, 128 to 512",
    ),
    # 553M parameters: FID 1.90 (bedroom), 2.57 (horse), 5.57 (cat); the length is a guess of ours
    "adm/lsun-bedroom": Preset(
        LSUN_ADM, "folder:lsun/bedroom?size=256", long(1_000_000, 256, 1e-4), "the paper's LSUN bedrooms"
    ),
    "adm/lsun-horse": Preset(
        LSUN_ADM, "folder:lsun/horse?size=256", long(1_000_000, 256, 1e-4), "the paper's LSUN horses"
    ),
    "adm/lsun-cat": Preset(LSUN_ADM, "folder:lsun/cat?size=256", long(1_000_000, 256, 1e-4), "the paper's LSUN cats"),
    # 65M, 43M, 54M and 54M parameters; 300,000 steps, official code
    "adm_classifier/imagenet64": Preset(
        NoisyClassifier(shape=(3, 64, 64), betas="cosine", multipliers=(1, 2, 3, 4), blocks=4, attention=(2, 4, 8)),
        "folder:imagenet/train?size=64", CLASSIFIER, "guides adm/imagenet64",
    ),
    "adm_classifier/imagenet128": Preset(
        NoisyClassifier(shape=(3, 128, 128), multipliers=(1, 1, 2, 3, 4), attention=(4, 8, 16)),
        "folder:imagenet/train?size=128", CLASSIFIER, "guides adm/imagenet128",
    ),
    "adm_classifier/imagenet256": Preset(
        NoisyClassifier(), "folder:imagenet/train?size=256", CLASSIFIER, "guides adm/imagenet256"
    ),
    "adm_classifier/imagenet512": Preset(
        NoisyClassifier(shape=(3, 512, 512), multipliers=(0.5, 1, 1, 2, 2, 4, 4), attention=(16, 32, 64)),
        "folder:imagenet/train?size=512", CLASSIFIER, "guides adm/imagenet512",
    ),
    # ---------------------------------------------------------------- the score line: see published_scores.py
    **{name: published(row) for name, row in PUBLISHED.items()},
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of that name; ValueError lists the known ones."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(f"unknown preset {name!r}{hint} Known: {', '.join(PRESETS)}")
    return PRESETS[name]
