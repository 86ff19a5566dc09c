"""Ready choices, `paper/data`: a recipe, a data set and training numbers that belong together.

The paper's own configurations carry their published result in a comment; the small ones train on a CPU in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches

from sfumato.papers.ddpm import DDPM
from sfumato.papers.recipe import Recipe
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

    recipe: Recipe
    data: str
    train: TrainConfig
    about: str


# What fits a short run (docs/training.md): v prediction on cosine betas, a small net, a high learning rate that decays
# to zero over whatever budget is given. The paper's own numbers need hundreds of times as long.
SHORT = DDPM(betas="cosine", prediction="v", weight="v", channels=32, multipliers=(1, 2, 2), blocks=1, attention=(4,),
             dropout=0.0)  # fmt: skip

PRESETS: dict[str, Preset] = {
    "ddpm/digits": Preset(
        replace(SHORT, multipliers=(1, 2), attention=(2,), classes=10),
        "digits",
        TrainConfig(minutes=1.0, learning_rate=2e-3),
        "8x8 digits with labels: a minute on a laptop",
    ),
    "ddpm/fashion": Preset(
        SHORT,
        "fashion",
        TrainConfig(minutes=8.0, learning_rate=2e-3),
        "28x28 clothes in eight minutes on two cores",
    ),
    "ddpm/mnist": Preset(
        replace(SHORT, classes=10),
        "mnist",
        TrainConfig(minutes=8.0, learning_rate=2e-3),
        "28x28 handwritten digits with labels",
    ),
    "ddpm/emoji32": Preset(
        replace(SHORT, multipliers=(1, 2, 4), dropout=0.1, classes=9),
        "emoji32",
        TrainConfig(minutes=30.0, learning_rate=2e-3, ema=(0.9995,)),
        "32x32 colour emoji with categories; its checkpoint ships",
    ),
    "ddpm/cifar10": Preset(
        # Ho et al. 2020, appendix B: 35.7M parameters, 800k steps; FID 3.17, IS 9.46, at most 3.75 bits/dim.
        DDPM(shape=(3, 32, 32)),
        "npz:cifar10.npz",
        TrainConfig(images=102_400_000, batch=128, learning_rate=2e-4, warmup=640_000, decay="constant",
                    betas=(0.9, 0.999), ema=(0.9999,), flip=True, times="random"),
        "the paper's CIFAR-10 model; bring the images as cifar10.npz",
    ),
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of that name; ValueError lists the known ones."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else "."
        raise ValueError(f"unknown preset {name!r}{hint} Known: {', '.join(PRESETS)}")
    return PRESETS[name]
