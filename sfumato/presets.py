"""Ready choices, `paper/data`: a recipe, a data set and training numbers that belong together.

The paper's own configurations carry their published result in a comment; the small ones train on a CPU in minutes.
"""

from __future__ import annotations

from dataclasses import dataclass
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


# What fits a short run (measured in docs/training.md): v prediction on cosine betas, a small net, a high learning rate
# that decays to zero over whatever budget is given. The paper's own numbers need hundreds of times as long.
_SHORT = TrainConfig(batch=64, learning_rate=2e-3, warmup=6_400, decay="cosine", ema=(0.999,))

PRESETS: dict[str, Preset] = {
    "ddpm/digits": Preset(
        DDPM(betas="cosine", prediction="v", weight="v", channels=32, multipliers=(1, 2), blocks=1, attention=(2,),
             dropout=0.0, classes=10),
        "digits", TrainConfig(batch=64, learning_rate=2e-3, warmup=3_200, decay="cosine", ema=(0.999,), minutes=1.0),
        "8x8 digits with labels: a minute on a laptop",
    ),
    "ddpm/fashion": Preset(
        DDPM(betas="cosine", prediction="v", weight="v", channels=32, multipliers=(1, 2, 2), blocks=1, attention=(4,),
             dropout=0.0),
        "fashion", TrainConfig(batch=64, learning_rate=2e-3, warmup=6_400, decay="cosine", ema=(0.999,), minutes=8.0),
        "28x28 clothes in eight minutes on two cores",
    ),
    "ddpm/mnist": Preset(
        DDPM(betas="cosine", prediction="v", weight="v", channels=32, multipliers=(1, 2, 2), blocks=1, attention=(4,),
             dropout=0.0, classes=10),
        "mnist", TrainConfig(batch=64, learning_rate=2e-3, warmup=6_400, decay="cosine", ema=(0.999,), minutes=8.0),
        "28x28 handwritten digits with labels",
    ),
    "ddpm/emoji32": Preset(
        DDPM(betas="cosine", prediction="v", weight="v", channels=48, multipliers=(1, 2, 3), blocks=1, attention=(4,),
             dropout=0.1, classes=10),
        "emoji32", TrainConfig(batch=64, learning_rate=2e-3, warmup=12_800, decay="cosine", ema=(0.9995,), minutes=60.0),
        "32x32 colour emoji with categories; its checkpoint ships",
    ),
    "ddpm/cifar10": Preset(
        # Ho et al. 2020, appendix B: 35.7M parameters, 800k steps; FID 3.17, IS 9.46, at most 3.75 bits/dim.
        DDPM(shape=(3, 32, 32)),
        "npz:cifar10.npz",
        TrainConfig(images=102_400_000, batch=128, learning_rate=2e-4, warmup=640_000, decay="constant", betas=(0.9, 0.999),
                    ema=(0.9999,), flip=True, times="random"),
        "the paper's CIFAR-10 model; bring the images as cifar10.npz",
    ),
}  # fmt: skip


def preset(name: str) -> Preset:
    """The preset of that name; ValueError lists the known ones."""
    if name not in PRESETS:
        near = get_close_matches(name, PRESETS, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"unknown preset {name!r}{hint} Known: {', '.join(PRESETS)}")
    return PRESETS[name]
