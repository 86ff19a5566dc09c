"""Presets of NCSN: Song & Ermon 2019, section 5."""

from __future__ import annotations

from sfumato.networks.refinenet import RefineNet
from sfumato.papers.ncsn import NCSN
from sfumato.papers.presets import data
from sfumato.papers.presets.preset import DIGITS, EMOJI, FASHION, Preset, emoji, long, short

DIGIT = NCSN(
    DIGITS.shape, RefineNet(16), first_sigma=3.0, last_sigma=0.03, step_size=1.8e-4, moves_per_level=40,
)  # fmt: skip
CLOTHES, FACES = NCSN(FASHION.shape, RefineNet(24)), NCSN(EMOJI.shape, RefineNet(24))
CIFAR, MNIST = NCSN(), NCSN((1, 28, 28), RefineNet(64))

TWO = short(2.0, batch=16, preview_steps=200)
EIGHT, HALF_HOUR = short(8.0, learning_rate=1e-3, preview_steps=200), emoji(learning_rate=1e-3, preview_steps=200)
ONLINE, UNFLIPPED = long(200_000, 128, 1e-3, 0.0, flip=True), long(200_000, 128, 1e-3, 0.0)  # no moving average

SMALL = {
    # name            recipe   data       training   what it is
    "digits":  Preset(DIGIT,   "digits",  TWO,       "8x8 digits by annealed Langevin dynamics, ten levels"),
    "fashion": Preset(CLOTHES, "fashion", EIGHT,     "clothes by Langevin dynamics, the paper's levels and steps"),
    "emoji32": Preset(FACES,   "emoji32", HALF_HOUR, "emoji by annealed Langevin dynamics"),
}  # fmt: skip
PUBLISHED = {
    # name             recipe data           training   size and published result
    "cifar10":  Preset(CIFAR, data.CIFAR10,  ONLINE,    "30.1M: IS 8.87, FID 25.32"),
    "celeba32": Preset(CIFAR, data.CELEBA32, ONLINE,    "30.1M: samples shown"),
    "mnist":    Preset(MNIST, "mnist",       UNFLIPPED, "7.6M: samples shown"),
}  # fmt: skip
