"""Ready choices, `paper/data` or `backbone/data`: a recipe, a data set and training numbers, one aligned table each.

The small ones train on a CPU in minutes. The papers' own end in size (parameters) and published result: FID is Fréchet
inception distance, IS the Inception score, both as the authors measured them.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sfumato.papers.presets import (
    adm,
    adm_classifier,
    autoencoder,
    consistency,
    continuous,
    control,
    ddpm,
    dimensions,
    dit,
    dpm,
    edm,
    flow,
    iddpm,
    jit,
    mean_flow,
    mixed,
    mp,
    ncsn,
    ncsnv2,
    pictures,
    score_sde,
    shortcut,
    uvit,
)
from sfumato.papers.presets.preset import Preset
from sfumato.papers.presets.sizes import check_size, sized
from sfumato.spec import unknown

TABLES = {
    "dpm": dpm,
    "ddpm": ddpm,
    "iddpm": iddpm,
    "adm": adm,
    "adm_classifier": adm_classifier,
    "autoencoder": autoencoder,
    "ncsn": ncsn,
    "ncsnv2": ncsnv2,
    "score_sde": score_sde,
    "edm": edm,
    "flow": flow,
    "consistency": consistency,
    "control": control,
    "dit": dit,
    "uvit": uvit,
    "jit": jit,
    "mean_flow": mean_flow,
    "shortcut": shortcut,
    "continuous": continuous,
    "mixed": mixed,
    "mp": mp,
}
WHOLE = (*TABLES.items(), ("ddpm", pictures), ("ddpm", dimensions))
"""Every table with the first part of its names; DDPM has three."""
SMALL: dict[str, Preset] = {f"{paper}/{name}": row for paper, table in WHOLE for name, row in table.SMALL.items()}
"""What trains on a CPU in minutes."""
PUBLISHED: dict[str, Preset] = {
    f"{paper}/{name}": row for paper, table in WHOLE for name, row in table.PUBLISHED.items()
}
"""The papers' own configurations."""
PRESETS: dict[str, Preset] = {**SMALL, **PUBLISHED}
MADE = {"distilled/fashion": "clothes in four steps, distilled from ddpm/fashion"}
"""Models that ship without a preset, since they were made of another model, and what they are."""


def preset(name: str) -> Preset:
    """The preset of that name; ValueError lists the known ones, the nearest first."""
    if name not in PRESETS:
        raise ValueError(unknown("preset", name, PRESETS))
    return PRESETS[name]


def about(name: str) -> str:
    """What a preset or a shipped model is, in one line; empty where nothing of that name is known."""
    return PRESETS[name].about if name in PRESETS else MADE.get(name, "")


def use(name: str) -> str:
    """The command that draws with a model that ships: a classifier guides the model of the same name in `adm`."""
    paper, _, data = name.partition("/")
    return f"sfumato sample adm/{data} --classifier {name}" if paper == "adm_classifier" else f"sfumato sample {name}"


def with_size(name: str, recipe: Any, size: str, shape: tuple[int, ...]) -> Any:
    """The recipe of a preset with a network of another size (`sizes.NAMES`), for images of a shape (C, H, W).

    Args:
        name: of the preset; paper/NAME or the paper alone. A published one has its own network for the size paper.
        recipe: the preset's, perhaps changed.

    Raises:
        ValueError: an unknown size.
    """
    paper = name.partition("/")[0]
    rows = {name: PUBLISHED[name]} if name in PUBLISHED else TABLES[paper].PUBLISHED if paper in TABLES else {}
    return replace(recipe, network=sized(recipe.network, size, recipe.shape, shape, rows))


__all__ = ["MADE", "PRESETS", "PUBLISHED", "SMALL", "Preset", "about", "check_size", "preset", "use", "with_size"]
