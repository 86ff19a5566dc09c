"""Seventeen recipes, one file a paper, each readable beside its PDF. They inherit nothing from each other.

A recipe becomes JSON and comes back; what is nested in it (network, conditioning, space) carries its kind.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from sfumato import spec
from sfumato.conditioning import CONDITIONINGS
from sfumato.networks import NETWORKS
from sfumato.noising import NOISINGS
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.autoencoder import ImageAutoencoder
from sfumato.papers.consistency import ConsistencyModel
from sfumato.papers.continuous import ContinuousDDPM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.distilled import Distilled
from sfumato.papers.dpm import DPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.mean_flow import MeanFlow
from sfumato.papers.mixed import MixedDDPM
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.recipe import Trainable
from sfumato.papers.score_sde import ScoreSDE
from sfumato.papers.shortcut import Shortcut
from sfumato.spaces import SPACES

PAPERS: dict[str, type[Any]] = {
    "dpm": DPM,
    "ddpm": DDPM,
    "iddpm": ImprovedDDPM,
    "adm": ADM,
    "adm_classifier": NoisyClassifier,
    "autoencoder": ImageAutoencoder,
    "ncsn": NCSN,
    "ncsnv2": NCSNv2,
    "score_sde": ScoreSDE,
    "edm": EDM,
    "flow": FlowMatching,
    "consistency": ConsistencyModel,
    "distilled": Distilled,
    "mean_flow": MeanFlow,
    "shortcut": Shortcut,
    "continuous": ContinuousDDPM,
    "mixed": MixedDDPM,
}
"""The name under which a checkpoint keeps each recipe."""

PARTS: dict[str, Mapping[str, type[Any]]] = {
    "network": NETWORKS,
    "conditioning": CONDITIONINGS,
    "space": SPACES,
    "noising": NOISINGS,
    "of": PAPERS,
}
"""The nested fields of a recipe, and the kinds of each by name."""


FORMER = {"flow": ("pairing", "noising")}
"""Words of a paper that are the kind of a part now: the field then, and the part. Files of before have them."""


def part_of(name: str, text: str) -> Any:
    """The part of a recipe that a spec names, such as a network; several conditionings at once with + between.

    ValueError, in one line, for what is unknown.
    """
    words = re.split(r"\+(?=[a-z])", text) if "together" in PARTS[name] else [text]
    made = [spec.construct(PARTS[name], word, name) for word in words]
    return made[0] if len(made) == 1 else PARTS[name]["together"](tuple(made))


def to_json(recipe: Trainable) -> dict[str, Any]:
    """A recipe as plain values, with the name of its paper and the kinds of its parts."""
    return {"paper": _name(PAPERS, recipe), **_plain(recipe)}


def from_json(values: Mapping[str, Any]) -> Any:
    """The recipe that `to_json` wrote; ValueError names what is unknown."""
    return _made(PAPERS, "paper", _today(values))


def rewritten(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A recipe as plain values, as this version would write it; as it is where it is none of `PAPERS`."""
    paper = values.get("paper")
    return to_json(from_json(values)) if isinstance(paper, str) and paper in PAPERS else values


def _today(values: Any) -> Any:
    """The values of a file of before, in the words of this version."""
    paper = values.get("paper") if isinstance(values, Mapping) else None
    if not isinstance(paper, str) or paper not in FORMER or FORMER[paper][0] not in values:
        return values
    then, now = FORMER[paper]
    return {now: {"kind": values[then]}, **{key: value for key, value in values.items() if key != then}}


def _name(table: Mapping[str, type[Any]], value: Any) -> str:
    for name, kind in table.items():
        if type(value) is kind:
            return name
    raise ValueError(f"{type(value).__name__} has no name among {', '.join(table)}, so no file can carry it")


def _plain(value: Any) -> dict[str, Any]:
    """The fields of a recipe or of a part."""
    return {field.name: _value(getattr(value, field.name)) for field in fields(value)}


def _value(value: Any) -> Any:
    if is_dataclass(value):
        kinds = {name: kind for table in PARTS.values() for name, kind in table.items()}
        return {"kind": _name(kinds, value), **_plain(value)}
    return [_value(part) for part in value] if isinstance(value, tuple) else value


def _made(table: Mapping[str, type[Any]], what: str, values: Mapping[str, Any]) -> Any:
    """The dataclass that these values describe; `what` is the key that names its kind."""
    if not isinstance(values, Mapping):
        raise ValueError(f"a {what} is written as names and values, not {values!r}")
    name = values.get(what)
    if not isinstance(name, str) or name not in table:
        raise ValueError(f"unknown {what} {name!r} in a recipe; this version knows {', '.join(table)}")
    given = {key: value for key, value in values.items() if key != what}
    known = {field.name for field in fields(table[name])}
    if unknown := sorted(set(given) - known):
        raise ValueError(f"unknown options of {name} in a recipe: {', '.join(unknown)}")
    made = {key: _part(PARTS.get(key, PARTS["conditioning"]), value) for key, value in given.items()}
    return table[name](**made)


def _part(kinds: Mapping[str, type[Any]], value: Any) -> Any:
    if isinstance(value, Mapping):
        return _made(kinds, "kind", value)
    return tuple(_part(kinds, part) for part in value) if isinstance(value, list | tuple) else value
