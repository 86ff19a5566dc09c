"""The published configurations of the score line, as rows of the table of presets; each with its published result.

NCSN (Song & Ermon 2019, section 5), NCSNv2 (Song & Ermon 2020, appendix B) and score SDEs (Song et al. 2021, appendices
F to I and the authors' configurations). FID is Fréchet inception distance, IS the Inception score, both by the authors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.recipe import Trainable
from sfumato.papers.score_sde import ScoreSDE


@dataclass(frozen=True)
class Published:
    """A published configuration: recipe, data, so many steps with this batch, rate and EMA, and one line about it."""

    recipe: Trainable
    data: str
    steps: int
    batch: int
    rate: float
    ema: float
    about: str
    warmup: int = 0
    clip: float = 0.0
    flip: bool = True


CIFAR, CELEBA = "npz:cifar10.npz", "folder:celeba?size=64"
ONLINE = 0.0
"""No moving average."""


def ncsnv2(side: int, sigma: float, levels: int, moves: int, eps: float, data: str, steps: int, depth: int, **more: Any
           ) -> Published:  # fmt: skip
    """A row of NCSNv2's table 2 of appendix B. FFHQ's Adam had an epsilon of 1e-3, which is not ours to choose."""
    recipe = NCSNv2((3, side, side), steps=levels, first_sigma=sigma, moves_per_level=moves, step_size=eps, depth=depth)
    about = f"the paper's {data.partition(':')[2].partition('?')[0].removesuffix('.npz')} at {side}x{side}"
    return Published(recipe, data, steps, more.pop("batch", 128), 1e-4, 0.999, about, **more)


VE = ScoreSDE()
VP = ScoreSDE(sde="vp", network="ddpmpp", reduction="mean", predictor="euler", corrector="none")
LEVELS: dict[str, Any] = {"continuous": False, "predictor": "ancestral"}
DDPM: dict[str, Any] = {"network": "ddpm", "blocks": 2}
PLUS: dict[str, Any] = {"network": "ncsnpp"}
DEEP: dict[str, Any] = {"blocks": 8}
LARGE: dict[str, Any] = {
    "shape": (3, 256, 256), "multipliers": (1, 1, 2, 2, 2, 2, 2), "blocks": 2, "attention": (16,), "dropout": 0.0,
    "progressive": "skip", "steps": 2000, "snr": 0.075,
}  # fmt: skip
HUGE: dict[str, Any] = {
    **LARGE, "shape": (3, 1024, 1024), "channels": 16, "multipliers": (1, 2, 4, 8, 16, 32, 32, 32), "blocks": 1,
    "attention": (64,), "first_sigma": 1348.0, "snr": 0.15,
}  # fmt: skip
LARGE_VP = replace(
    VP, shape=(3, 256, 256), continuous=False, predictor="ancestral", network="ddpm", blocks=2,
    multipliers=(1, 1, 2, 2, 4, 4), attention=(16,), dropout=0.0,
)  # fmt: skip


def sde(recipe: ScoreSDE, about: str, data: str = CIFAR, steps: int = 1_300_000, batch: int = 128) -> Published:
    """A training of appendix H: warm-up over 5,000 steps, gradients clipped to norm 1."""
    ema = 0.999 if recipe.sde == "ve" and recipe.channels > 16 else 0.9999
    return Published(recipe, data, steps, batch, 2e-4, ema, about, warmup=5000 * batch, clip=1.0)


PUBLISHED: dict[str, Published] = {
    # 30.1M parameters: IS 8.87, FID 25.32
    "ncsn/cifar10": Published(NCSN(), CIFAR, 200_000, 128, 1e-3, ONLINE, "the paper's CIFAR-10 model"),
    # samples shown
    "ncsn/celeba32": Published(
        NCSN(), "folder:celeba?size=32", 200_000, 128, 1e-3, ONLINE, "the paper's 32x32 CelebA"
    ),
    "ncsn/mnist": Published(
        NCSN(shape=(1, 28, 28), channels=64), "mnist", 200_000, 128, 1e-3, ONLINE, "the paper's MNIST model",
        flip=False,
    ),
    # 29.7M parameters: FID 10.87, IS 8.40, both with the last denoising
    "ncsnv2/cifar10": ncsnv2(32, 50.0, 232, 5, 6.2e-6, CIFAR, 300_000, 4),
    # FID 10.23
    "ncsnv2/celeba64": ncsnv2(64, 90.0, 500, 5, 3.3e-6, CELEBA, 210_000, 4),
    # 83.4M parameters; samples shown. The authors' file says 64x64; its levels and the paper say 96x96
    "ncsnv2/lsun-church": ncsnv2(96, 140.0, 788, 4, 4.9e-6, "folder:lsun/church?size=96", 200_000, 5),
    "ncsnv2/lsun-bedroom": ncsnv2(128, 190.0, 1086, 3, 1.8e-6, "folder:lsun/bedroom?size=128", 150_000, 5),
    "ncsnv2/lsun-tower": ncsnv2(128, 190.0, 1086, 3, 1.8e-6, "folder:lsun/tower?size=128", 150_000, 5),
    # 94.1M parameters; samples shown
    "ncsnv2/ffhq256": ncsnv2(256, 348.0, 2311, 3, 9e-7, "folder:ffhq?size=256", 80_000, 6, batch=32),
    # ---------------------------------------------------------------- CIFAR-10: FID and IS; bits/dim by the flow
    # 62.7M parameters: FID 2.45, IS 9.73
    "score_sde/cifar10-ve-levels": sde(replace(VE, continuous=False), "NCSN++, VE on 1,000 levels"),
    # 62.8M parameters: FID 2.38, IS 9.83
    "score_sde/cifar10-ve": sde(VE, "NCSN++, VE"),
    # 107.6M parameters: FID 2.20, IS 9.89
    "score_sde/cifar10-ve-deep": sde(replace(VE, **DEEP), "NCSN++ deep, VE", steps=950_000),
    # 35.2M parameters; no result
    "score_sde/cifar10-ve-ddpm": sde(replace(VE, continuous=False, **DDPM), "the DDPM network, VE on levels"),
    # 35.2M parameters: FID 3.24; by the flow 3.37, 3.28 bits/dim
    "score_sde/cifar10-vp-ddpm-levels": sde(replace(VP, **LEVELS, **DDPM), "the DDPM network, VP on 1,000 levels"),
    # FID by the flow 3.69, 3.21 bits/dim
    "score_sde/cifar10-vp-ddpm": sde(replace(VP, **DDPM), "the DDPM network, VP"),
    # 61.8M parameters: FID 2.78, IS 9.64
    "score_sde/cifar10-vp-levels": sde(replace(VP, **LEVELS), "DDPM++, VP on 1,000 levels"),
    # FID 2.55, IS 9.58; by the flow 3.93, 3.16 bits/dim
    "score_sde/cifar10-vp": sde(VP, "DDPM++, VP"),
    # 106.6M parameters: FID 2.41, IS 9.68; by the flow 3.08, 3.13 bits/dim
    "score_sde/cifar10-vp-deep": sde(replace(VP, **DEEP), "DDPM++ deep, VP", steps=950_000),
    # 62.7M and 107.5M parameters; configured by the authors, no result
    "score_sde/cifar10-vp-ncsnpp-levels": sde(
        replace(VP, continuous=False, predictor="reverse", **PLUS), "NCSN++, VP on 1,000 levels"
    ),
    "score_sde/cifar10-vp-ncsnpp": sde(replace(VP, **PLUS), "NCSN++, VP"),
    "score_sde/cifar10-vp-ncsnpp-deep": sde(replace(VP, **PLUS, **DEEP), "NCSN++ deep, VP", steps=950_000),
    # FID by the flow 3.56, 3.05 bits/dim
    "score_sde/cifar10-subvp-ddpm": sde(replace(VP, sde="subvp", **DDPM), "the DDPM network, sub-VP"),
    # FID 2.61, IS 9.56; by the flow 3.16, 3.02 bits/dim
    "score_sde/cifar10-subvp": sde(replace(VP, sde="subvp"), "DDPM++, sub-VP"),
    # FID 2.41, IS 9.57; by the flow 2.92, 2.99 bits/dim
    "score_sde/cifar10-subvp-deep": sde(replace(VP, sde="subvp", **DEEP), "DDPM++ deep, sub-VP", steps=950_000),
    # configured by the authors, no result
    "score_sde/cifar10-subvp-ncsnpp": sde(replace(VP, sde="subvp", **PLUS), "NCSN++, sub-VP"),
    "score_sde/cifar10-subvp-ncsnpp-deep": sde(
        replace(VP, sde="subvp", **PLUS, **DEEP), "NCSN++ deep, sub-VP", steps=950_000
    ),
    # ---------------------------------------------------------------- larger images: samples shown, no FID
    "score_sde/celeba64-ve": sde(
        replace(VE, shape=(3, 64, 64), continuous=False, first_sigma=90.0, attention=(4,), snr=0.17),
        "NCSN++, VE on 1,000 levels", CELEBA,
    ),
    # 65.6M parameters
    "score_sde/lsun-bedroom-ve": sde(
        replace(VE, first_sigma=378.0, **LARGE), "NCSN++, VE, 256x256", "folder:lsun/bedroom?size=256", 2_400_000, 64
    ),
    "score_sde/lsun-church-ve": sde(
        replace(VE, first_sigma=380.0, **LARGE), "NCSN++, VE, 256x256", "folder:lsun/church?size=256", 2_400_000, 64
    ),
    "score_sde/celebahq256-ve": sde(
        replace(VE, first_sigma=348.0, **LARGE), "NCSN++, VE, 256x256", "folder:celebahq?size=256", 2_400_000, 64
    ),
    "score_sde/ffhq256-ve": sde(
        replace(VE, first_sigma=348.0, **LARGE), "NCSN++, VE, 256x256", "folder:ffhq?size=256", 2_400_000, 64
    ),
    # 105.8M parameters
    "score_sde/celebahq1024-ve": sde(
        replace(VE, **HUGE), "NCSN++, VE, 1024x1024", "folder:celebahq?size=1024", 2_400_000, 8
    ),
    "score_sde/ffhq1024-ve": sde(
        replace(VE, **HUGE, reduction="mean"), "NCSN++, VE, 1024x1024", "folder:ffhq?size=1024", 2_400_000, 8
    ),
    # 111.6M parameters
    "score_sde/lsun-bedroom-vp": sde(
        LARGE_VP, "the DDPM network, VP on 1,000 levels", "folder:lsun/bedroom?size=256", 2_400_000, 64
    ),
    "score_sde/lsun-church-vp": sde(
        LARGE_VP, "the DDPM network, VP on 1,000 levels", "folder:lsun/church?size=256", 2_400_000, 64
    ),
    "score_sde/celebahq256-vp": sde(
        LARGE_VP, "the DDPM network, VP on 1,000 levels", "folder:celebahq?size=256", 2_400_000, 64
    ),
}  # fmt: skip
