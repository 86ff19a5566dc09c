"""Presets of ControlNet (Zhang et al. 2023): a trained model beside a copy of its way down that is told of a picture.

The recipe, and unless --data says otherwise the images, are those of the model that --from names. The paper's rate is
1e-5 for a network of a thousand times the size; here it is half of the small presets'.
"""

from __future__ import annotations

from sfumato.conditioning import Picture
from sfumato.papers.controlled import controlled
from sfumato.papers.presets import ddpm
from sfumato.papers.presets.preset import Preset, short

BASE, SOURCE = ddpm.SMALL["fashion"], "ddpm/fashion"
RUN = short(5.0, batch=16, learning_rate=1e-3)


def beside(by: str, about: str) -> Preset:
    """A control by pictures that an operator makes of the images."""
    return Preset(controlled(BASE.recipe, Picture(by)), BASE.data, RUN, about, SOURCE)


SMALL = {
    # name          picture  what it is
    "edges": beside("edges", "ControlNet: a frozen model (--from MODEL) that follows edges"),
    "mask":  beside("mask",  "ControlNet: a frozen model (--from MODEL) that fills in boxes"),
}  # fmt: skip
PUBLISHED: dict[str, Preset] = {}
