"""Eight recipes, one file a paper, each readable beside its PDF. They inherit nothing from each other."""

from __future__ import annotations

from dataclasses import asdict, fields
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

PAPERS: dict[str, type[Any]] = {
    "dpm": DPM,
    "ddpm": DDPM,
    "iddpm": ImprovedDDPM,
    "adm": ADM,
    "adm_classifier": NoisyClassifier,
    "ncsn": NCSN,
    "ncsnv2": NCSNv2,
    "score_sde": ScoreSDE,
}
"""The name under which a checkpoint keeps each recipe."""


def to_json(recipe: Trainable) -> dict[str, Any]:
    """A recipe as plain values, with the name of its paper."""
    paper = next(name for name, kind in PAPERS.items() if type(recipe) is kind)
    return {"paper": paper, **asdict(recipe)}  # type: ignore[call-overload]


def from_json(values: dict[str, Any]) -> Any:
    """The recipe that `to_json` wrote; ValueError names what is unknown."""
    values = dict(values)
    paper = values.pop("paper", None)
    if paper not in PAPERS:
        raise ValueError(f"unknown paper {paper!r} in a recipe; this version knows {', '.join(PAPERS)}")
    known = {field.name for field in fields(PAPERS[paper])}
    if unknown := sorted(set(values) - known):
        raise ValueError(f"unknown options in a {paper} recipe: {', '.join(unknown)}")
    fixed: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
    return PAPERS[paper](**fixed)
