"""The official checkpoints of ncsn, ncsnv2 and score_sde_pytorch as recipes.

What the weights do not say is taken from the published configuration of the same network, from the folder's name
(`vp/cifar10_ddpmpp_continuous/checkpoint_15.pth`), or from the caller; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sfumato.convert import ncsn, published, score_sde
from sfumato.convert.keys import Key
from sfumato.convert.scores import LayersFacts, RefineNetFacts, ScoreFacts
from sfumato.convert.state import ForeignError
from sfumato.core.betas import geometric_sigmas
from sfumato.core.techniques import best_step_size
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp, ScoreBackbone, SongUNet
from sfumato.networks.refinenet import RefineNet, RefineNetV2
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.score_sde import ScoreSDE

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
    if type(size) is not int or size < 1:
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
    return layers_keys(network) if isinstance(facts, LayersFacts) else refinenet_keys(network)


def layers_keys(network: Any) -> Iterable[Key]:
    """The key map of a network of score_sde."""
    return _without_table(score_sde.keys(network, {}))


def refinenet_keys(network: Any) -> Iterable[Key]:
    """The key map of a RefineNet."""
    return _without_table(ncsn.keys(network, {}))


def _without_table(keys: Iterable[Key]) -> Iterable[Key]:
    return (key for key in keys if key.official != "sigmas")


def weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights without the table of noise levels."""
    return {name: value for name, value in state.items() if name != "sigmas"}


# ---------------------------------------------------------------- RefineNets


def _refinenet(facts: RefineNetFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    if not facts.levels and not facts.sigmas:
        raise ForeignError(f"{facts}: one noise level, which no recipe has; see convert.from_official")
    return _ncsn(facts, path, choices) if facts.levels else _ncsnv2(facts, path, choices)


def _ncsn(facts: RefineNetFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    if facts.depth != 4:
        raise ForeignError(f"{facts}: NCSN's recipe has four stages; convert.from_official builds the deeper network")
    network = RefineNet(facts.channels)

    def same(known: NCSN) -> bool:
        return (known.shape[0], known.network, known.steps) == (facts.image_channels, network, facts.levels)

    name = _published("ncsn", path, same)
    sigmas: dict[str, Any] = {key: float(choices[key]) for key in ("first_sigma", "last_sigma") if key in choices}
    if name is None and len(sigmas) < 2:
        _missing(facts, [key for key in ("first_sigma", "last_sigma") if key not in sigmas])
    recipe = NCSN(_shape(facts, name, choices), network, steps=facts.levels, **sigmas)
    return _settled(recipe, name, choices, ["size", "first_sigma", "last_sigma", "step_size", "moves_per_level"])


def _ncsnv2(facts: RefineNetFacts, path: Path, choices: Mapping[str, Any]) -> Settled:
    first, last, steps = facts.sigmas[0], facts.sigmas[-1], len(facts.sigmas)
    found = torch.tensor(facts.sigmas, dtype=torch.float64)
    if steps < 2 or not torch.allclose(found.flip(0), geometric_sigmas(steps, last, first), rtol=1e-3):
        raise ForeignError(f"{facts}: its noise levels do not fall geometrically, which no recipe has")
    network = RefineNetV2(facts.channels, facts.depth, facts.norm)

    def same(known: NCSNv2) -> bool:
        near = abs(known.first_sigma / first - 1) < 1e-3 and abs(known.last_sigma / last - 1) < 1e-3
        return near and (known.shape[0], known.network, known.steps) == (facts.image_channels, network, steps)

    name = _published("ncsnv2", path, same)
    known = published.recipe(name) if name else NCSNv2()
    fields: dict[str, Any] = {"first_sigma": float(f"{first:.6g}"), "last_sigma": float(f"{last:.6g}"), "steps": steps}
    if name is None:
        fields["step_size"] = best_step_size(last, (first / last) ** (1 / (steps - 1)), known.moves_per_level)
    recipe = replace(known, shape=_shape(facts, name, choices), network=network, **fields)
    settled = _settled(recipe, name, choices, ["size", "step_size", "moves_per_level"])
    return settled._replace(source=settled.source.replace("assumed", "assumed, the step by technique 4"))


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
    fields: dict[str, Any] = {**said, "network": _network(facts), "steps": len(facts.sigmas)}
    if said["sde"] == "ve":
        fields |= {"first_sigma": float(f"{max(facts.sigmas):.6g}"), "last_sigma": float(f"{min(facts.sigmas):.6g}")}

    def same(known: ScoreSDE) -> bool:
        network: Any = known.network
        shown = {**vars(known), "network": replace(network, dropout=0.0)}
        return all(shown[key] == value for key, value in fields.items())

    name = _published("score_sde", path, same)
    known = published.recipe(name) if name else ScoreSDE(
        **fields, reduction="mean", corrector="langevin" if said["sde"] == "ve" else "none",
    )  # fmt: skip
    recipe = replace(known, **fields, shape=_shape(facts, name, choices))
    settled = _settled(recipe, name, choices, ["size", "predictor", "corrector", "snr"])
    named = ", ".join(f"{key} {value}" for key, value in folder.items() if key not in choices)
    if named and not facts.fourier:
        return settled._replace(source=f"by the folder's name: {named}; {settled.source}")
    return settled


def _network(facts: LayersFacts) -> ScoreBackbone:
    """The configuration of the network; weights do not say what was dropped in training."""
    common: dict[str, Any] = {
        "channels": facts.channels, "multipliers": facts.multipliers, "blocks": facts.blocks,
        "attention": facts.attention, "dropout": 0.0,
    }  # fmt: skip
    if facts.network == "ncsnpp":
        return NCSNpp(**common, progressive=facts.progressive, fourier=facts.fourier)
    return DDPMpp(**common) if facts.network == "ddpmpp" else SongUNet(**common)


def _folder(path: Path) -> dict[str, Any]:
    """What the official folders say: vp/cifar10_ddpmpp_continuous/checkpoint_15.pth."""
    parents = [part.lower() for part in path.absolute().parent.parts[-3:]]
    sde = next((part for part in parents if part in ("ve", "vp", "subvp")), None)
    return {} if sde is None else {"sde": sde, "continuous": any("continuous" in part for part in parents)}


# ---------------------------------------------------------------- what all share


def _published(paper: str, path: Path, same: Callable[[Any], bool]) -> str | None:
    return published.alike(paper, same, published.words(path))


def _shape(facts: ScoreFacts, name: str | None, choices: Mapping[str, Any]) -> tuple[int, int, int]:
    if "size" not in choices and name is None:
        _missing(facts, ["size"])
    side = choices["size"] if "size" in choices else published.recipe(str(name)).shape[1]
    return facts.image_channels, side, side


def _missing(facts: ScoreFacts, names: list[str]) -> None:
    listed = "; ".join(f"{name} ({CHOICES[name]})" for name in names)
    raise ForeignError(f"{facts}. Neither its weights nor a published network say: {listed}")


def _settled(recipe: Any, name: str | None, choices: Mapping[str, Any], words: list[str]) -> Settled:
    values, other = {**vars(recipe), "size": recipe.shape[1]}, [word for word in words if word not in choices]
    return Settled(recipe, published.sources(name, values, choices, other))
