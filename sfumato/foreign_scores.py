"""The official checkpoints of ncsn, ncsnv2 and score_sde_pytorch as recipes, key maps and weights.

What the weights do not say is taken from the published configuration of the same network, from the folder's name
(`vp/cifar10_ddpmpp_continuous/checkpoint_15.pth`), or from the caller; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.convert import ncsn, score_sde
from sfumato.convert.files import ForeignError
from sfumato.convert.keys import Key
from sfumato.convert.scores import LayersFacts, RefineNetFacts, ScoreFacts
from sfumato.core.schedules import geometric_sigmas
from sfumato.core.techniques import best_step_size
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.score_sde import ScoreSDE
from sfumato.published_scores import PUBLISHED

CHOICES = {
    "size": "height and width of the images",
    "first_sigma": "the largest noise, for images in [0, 1]",
    "last_sigma": "the smallest noise, for images in [0, 1]",
    "sde": "how noise comes: ve, vp or subvp",
    "continuous": "whether it was trained on all times, or on separate levels",
}
"""What a caller may have to say of a score network."""


class Settled(NamedTuple):
    """A recipe, and where each of its choices comes from."""

    recipe: Any
    source: str


def settle(facts: ScoreFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    """The recipe of a network. ForeignError names what is missing, does not exist, or fits no recipe."""
    if isinstance(facts, LayersFacts):
        open_to = {"size", "sde", "continuous"}
    else:
        open_to = {"size"} | ({"first_sigma", "last_sigma"} if facts.levels else set())
    for choice in choices:
        if choice not in open_to:
            raise ForeignError(f"{choice} cannot be chosen for this file. {facts}")
    size = choices.get("size", 1)
    if isinstance(size, bool) or not isinstance(size, int) or size < 1:
        raise ForeignError(f"size ({CHOICES['size']}) is a whole number from 1, not {size!r}")
    try:
        if isinstance(facts, LayersFacts):
            return _layers(facts, path, choices)
        return _refinenet(facts, path, choices)
    except ForeignError:
        raise
    except (TypeError, ValueError) as error:
        raise ForeignError(f"{facts}: {error}") from None


def key_map(facts: ScoreFacts, network: Any) -> Iterable[Key]:
    """Which official tensor is which of ours; the table of noise levels is the recipe's, not the network's."""
    keys = score_sde.keys(network, {}) if isinstance(facts, LayersFacts) else ncsn.keys(network, {})
    return (key for key in keys if key.official != "sigmas")


def weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the table of noise levels."""
    return {name: value for name, value in state.items() if name != "sigmas"}


def official_keys(network: nn.Module, recipe: Any) -> Iterable[Key]:
    """The key map of a recipe's network, for writing."""
    keys = score_sde.keys(network, {}) if isinstance(recipe, ScoreSDE) else ncsn.keys(network, {})  # type: ignore[arg-type]
    return (key for key in keys if key.official != "sigmas")


# ---------------------------------------------------------------- RefineNets


def _refinenet(facts: RefineNetFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    if not facts.levels and not facts.sigmas:
        raise ForeignError(f"{facts}: one noise level, which no recipe has; see convert.from_official")
    return _ncsn(facts, path, choices) if facts.levels else _ncsnv2(facts, path, choices)


def _ncsn(facts: RefineNetFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    if facts.depth != 4:
        raise ForeignError(f"{facts}: NCSN's recipe has four stages; convert.from_official builds the deeper network")
    name = _published(
        path, lambda r: isinstance(r, NCSN) and _alike(r, facts.image_channels, facts.channels, facts.levels)
    )
    shape = _shape(facts, name, choices)
    sigmas: dict[str, Any] = {key: float(choices[key]) for key in ("first_sigma", "last_sigma") if key in choices}
    if name is None and len(sigmas) < 2:
        _missing(facts, [key for key in ("first_sigma", "last_sigma") if key not in sigmas])
    recipe = replace(NCSN(), shape=shape, steps=facts.levels, channels=facts.channels, **sigmas)
    words = ["size", "first_sigma", "last_sigma", "step_size", "moves_per_level"]
    return Settled(recipe, _source(recipe, name, choices, words))


def _ncsnv2(facts: RefineNetFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    first, last, steps = facts.sigmas[0], facts.sigmas[-1], len(facts.sigmas)
    found = torch.tensor(facts.sigmas, dtype=torch.float64)
    if steps < 2 or not torch.allclose(found.flip(0), geometric_sigmas(steps, last, first), rtol=1e-3):
        raise ForeignError(f"{facts}: its noise levels do not fall geometrically, which no recipe has")

    def same(recipe: Any) -> bool:
        if not isinstance(recipe, NCSNv2) or recipe.depth != facts.depth:
            return False
        near = abs(recipe.first_sigma / first - 1) < 1e-3 and abs(recipe.last_sigma / last - 1) < 1e-3
        return near and _alike(recipe, facts.image_channels, facts.channels, steps)

    name = _published(path, same)
    known = PUBLISHED[name].recipe if name else NCSNv2()
    assert isinstance(known, NCSNv2)
    fields: dict[str, Any] = {"first_sigma": float(f"{first:.6g}"), "last_sigma": float(f"{last:.6g}"), "steps": steps}
    if name is None:
        fields["step_size"] = best_step_size(last, (first / last) ** (1 / (steps - 1)), known.moves_per_level)
    recipe = replace(known, shape=_shape(facts, name, choices), channels=facts.channels, depth=facts.depth, **fields)
    source = _source(recipe, name, choices, ["size", "step_size", "moves_per_level"])
    return Settled(recipe, source.replace("assumed", "assumed, the step by technique 4"))


# ---------------------------------------------------------------- score_sde


def _layers(facts: LayersFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    folder = _folder(path)
    told: dict[str, Any] = {"sde": "ve", "continuous": True} if facts.fourier else folder
    said: dict[str, Any] = {**told, **{key: choices[key] for key in ("sde", "continuous") if key in choices}}
    if missing := [key for key in ("sde", "continuous") if key not in said]:
        _missing(facts, missing)
    if said["sde"] not in ("ve", "vp", "subvp") or not isinstance(said["continuous"], bool):
        raise ForeignError("sde is one of ve, vp, subvp, and continuous is True or False")
    if facts.network == "ncsnpp" and facts.fourier != (said["sde"] == "ve" and said["continuous"]):
        seen = "has Fourier features, so it is of the continuous VE SDE" if facts.fourier else (
            "has no Fourier features, so it is not of the continuous VE SDE")  # fmt: skip
        raise ForeignError(f"this NCSN++ {seen}. {facts}")
    if not facts.sigmas:
        raise ForeignError(f"{facts}: its table of noise levels (sigmas) is missing")
    fields: dict[str, Any] = {
        "sde": said["sde"], "continuous": said["continuous"], "network": facts.network, "channels": facts.channels,
        "multipliers": facts.multipliers, "blocks": facts.blocks, "attention": facts.attention,
        "progressive": facts.progressive, "steps": len(facts.sigmas),
    }  # fmt: skip
    if said["sde"] == "ve":
        fields |= {"first_sigma": float(f"{max(facts.sigmas):.6g}"), "last_sigma": float(f"{min(facts.sigmas):.6g}")}
    names = [n for n, row in PUBLISHED.items() if isinstance(row.recipe, ScoreSDE)
             and all(getattr(row.recipe, key) == value for key, value in fields.items())]  # fmt: skip
    name = _best(path, names)
    known = PUBLISHED[name].recipe if name else ScoreSDE(
        sde=said["sde"], continuous=said["continuous"], network=facts.network, reduction="mean",  # type: ignore[arg-type]
        corrector="langevin" if said["sde"] == "ve" else "none",
    )  # fmt: skip
    recipe = replace(known, **fields, shape=_shape(facts, name, choices), dropout=0.0)  # type: ignore[type-var]
    source = _source(recipe, name, choices, ["size", "predictor", "corrector", "snr"])
    if folder and not facts.fourier:
        named = ", ".join(f"{key} {value}" for key, value in folder.items() if key not in choices)
        source = f"by the folder's name: {named}; {source}" if named else source
    return Settled(recipe, source)


def _folder(path: Path) -> dict[str, Any]:
    """What the official folders say: vp/cifar10_ddpmpp_continuous/checkpoint_15.pth."""
    parents = [part.lower() for part in path.absolute().parent.parts[-3:]]
    sde = next((part for part in parents if part in ("ve", "vp", "subvp")), None)
    return {} if sde is None else {"sde": sde, "continuous": any("continuous" in part for part in parents)}


# ---------------------------------------------------------------- what all share


def _alike(recipe: Any, image_channels: int, channels: int, steps: int) -> bool:
    return (recipe.shape[0], recipe.channels, recipe.steps) == (image_channels, channels, steps)


def _published(path: Path, same: Any) -> str | None:
    return _best(path, [name for name, row in PUBLISHED.items() if same(row.recipe)])


def _best(path: Path, names: list[str]) -> str | None:
    """Among equals, the one whose words the path has."""
    said = "/".join(path.parts[-3:]).lower()
    return max(names, key=lambda n: sum(word in said for word in n.split("/")[1].split("-")), default=None)


def _shape(facts: ScoreFacts, name: str | None, choices: Mapping[str, Any]) -> tuple[int, int, int]:
    if "size" not in choices and name is None:
        _missing(facts, ["size"])
    side = choices["size"] if "size" in choices else PUBLISHED[str(name)].recipe.shape[1]
    return facts.image_channels, side, side


def _missing(facts: ScoreFacts, names: list[str]) -> None:
    listed = "; ".join(f"{name} ({CHOICES[name]})" for name in names)
    raise ForeignError(f"{facts}. Neither its weights nor a published network say: {listed}")


def _source(recipe: Any, name: str | None, choices: Mapping[str, Any], words: list[str]) -> str:
    values = {**vars(recipe), "size": recipe.shape[1]}
    asked = [f"{choice} {values[choice]}" for choice in choices]
    other = [f"{word} {values[word]:g}" if isinstance(values[word], float) else f"{word} {values[word]}"
             for word in words if word not in choices]  # fmt: skip
    parts = {"as asked": asked, f"as published for {name}" if name else "assumed": other}
    return "; ".join(f"{source}: {', '.join(named)}" for source, named in parts.items() if named)
