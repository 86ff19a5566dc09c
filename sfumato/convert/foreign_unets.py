"""The official checkpoints of ddim, improved-diffusion and guided-diffusion as recipes.

What the weights do not say (heads, the order of q, k and v, the noise levels) is taken from the published configuration
of the same network, or from the caller; it is never guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from sfumato.conditioning import Conditioning, Labels, LowRes, Together, Unconditional
from sfumato.convert import ddim, openai, published
from sfumato.convert.facts import Facts
from sfumato.convert.keys import Key
from sfumato.convert.state import ForeignError
from sfumato.networks.classifier import Encoder
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.iddpm import ImprovedDDPM

NEW_ORDER = ("adm/imagenet64",)
"""The published models whose attention orders q, k and v before heads; all others split into heads first."""
SIDES = {(1, 2, 2, 2): 32, (1, 2, 3, 4): 64, (1, 2, 2, 2, 4): 64, (1, 1, 2, 3, 4): 128, (1, 1, 2, 2, 4, 4): 256,
         (0.5, 1, 1, 2, 2, 4, 4): 512}  # fmt: skip
"""The image size for which each set of multipliers is the official default."""
CHOICES = {
    "size": "height and width of the images",
    "heads": "attention heads",
    "head_channels": "channels of a head, instead of heads",
    "order": "of q, k and v in attention: legacy (heads first) or new",
    "steps": "T, the number of noise levels",
    "betas": "the noise schedule: linear or cosine",
    "rescale_times": "whether the network is conditioned on 1000 t / T",
    "low_res": "height and width of an upsampler's small images",
    "variance": "the variance of a step where it is not learned: small or large",
    "prediction": "what the network returns: eps, x0 or v",
}
"""What a caller may have to say, since the weights do not."""
COUNTS = ("size", "heads", "head_channels", "steps", "low_res")
"""The choices that are whole numbers from 1."""
LEVELS = {"steps", "betas", "prediction"}
OPEN = {
    "ddpm": LEVELS | {"variance"},
    "iddpm": LEVELS | {"variance", "heads", "order", "rescale_times", "low_res"},
    "adm": LEVELS | {"heads", "head_channels", "order", "low_res"},
    "adm_classifier": {"steps", "betas", "head_channels", "order"},
}
"""The choices that each paper's weights can leave open, besides the size."""


class Settled(NamedTuple):
    """A recipe, the order of q, k and v in attention, and where each choice comes from."""

    recipe: Any
    order: str
    source: str


def settle(facts: Facts, path: Path, choices: Mapping[str, Any]) -> Settled:
    """The recipe of a network. ForeignError names what is missing, does not exist, or fits no recipe."""
    _check(facts, choices)
    build = BUILDERS[_paper(facts)]
    name = published.alike(_paper(facts), lambda known: build(facts, known, {}) == _without_dropout(known),
                           path.stem.lower())  # fmt: skip
    missing = [choice for choice in _needed(facts) if choice not in choices and name is None]
    if "heads" in missing and "head_channels" in choices:
        missing.remove("heads")
    if missing:
        listed = "; ".join(f"{choice} ({CHOICES[choice]})" for choice in missing)
        raise ForeignError(f"{facts}. This is no published network, and its weights do not say: {listed}")
    order = choices.get("order", "new" if name in NEW_ORDER else "legacy")
    try:
        recipe = build(facts, published.recipe(name) if name else None, choices)
    except ValueError as error:
        raise ForeignError(str(error)) from None
    values = {**vars(recipe), **vars(recipe.network), "low_res": recipe.conditioning.picture,
              "size": recipe.shape[1], "order": order}  # fmt: skip
    told = _unsaid(facts) - {"heads" if values.get("head_channels") else "head_channels"}
    asked = {choice: choices[choice] for choice in CHOICES if choice in choices}
    others = [choice for choice in CHOICES if choice in told - set(choices)]
    return Settled(recipe, order, published.sources(name, values, asked, others))


def key_map(facts: Facts, network: Any, order: str) -> Iterable[Key]:
    """Which official tensor is which of ours."""
    if facts.family == "ddim":
        return ddim.keys(network, {"model": {"type": "simple"}})
    return openai.keys(network, legacy_order=order == "legacy")


def check_numbers(choices: Mapping[str, Any]) -> None:
    """ForeignError unless what is to be a whole number from 1 is one."""
    for choice in COUNTS:
        value = choices.get(choice, 1)
        if type(value) is not int or value < 1:
            raise ForeignError(f"{choice} ({CHOICES[choice]}) is a whole number from 1, not {value!r}")


def _check(facts: Facts, choices: Mapping[str, Any]) -> None:
    """ForeignError for a network that no recipe has, a choice that it does not leave open, or that it cannot take."""
    check_numbers(choices)
    for choice in choices:
        if choice not in _unsaid(facts):
            raise ForeignError(f"{choice} cannot be chosen for this file. {facts}")
    if {"heads", "head_channels"} <= set(choices):
        raise ForeignError("heads follow from head_channels: give one of the two")
    if choices.get("order", "new") not in ("legacy", "new"):
        raise ForeignError(f"order is one of legacy, new, not {choices['order']!r}")
    multiple = 2 ** (len(facts.multipliers) - 1)
    if choices.get("size", 0) % multiple:
        raise ForeignError(f"size is a multiple of {multiple} for {len(facts.multipliers)} levels")
    if _paper(facts) == "adm" and not (facts.variance and facts.scale_shift):
        raise ForeignError("ADM's networks learn a variance and scale by the embedding; this one does not")
    if facts.family == "classifier" and not (facts.scale_shift and facts.residual):
        raise ForeignError(
            "ADM's classifiers scale by the embedding and resample in residual blocks; this one does not"
        )


def _unsaid(facts: Facts) -> set[str]:
    """The choices that weights like these leave open."""
    said = ({"variance"} if facts.variance else set()) | (set() if facts.low_res else {"low_res"})
    return (OPEN[_paper(facts)] | {"size"}) - said


def _paper(facts: Facts) -> str:
    if facts.family == "openai":
        return "adm" if facts.residual else "iddpm"
    return {"ddim": "ddpm", "classifier": "adm_classifier"}[facts.family]


def _needed(facts: Facts) -> list[str]:
    needed = [] if tuple(facts.multipliers) in SIDES else ["size"]
    if facts.family != "ddim":
        needed += ["head_channels" if facts.family == "classifier" else "heads", "order"]  # the middle always attends
        needed += ["steps", "betas"]
    if facts.family == "openai" and not facts.residual:
        needed.append("rescale_times")
    return needed + (["low_res"] if facts.low_res else [])


# ---------------------------------------------------------------- facts and choices -> a recipe

Said = Mapping[str, Any]


def _without_dropout(recipe: Any) -> Any:
    """The recipe as its weights show it, for they do not say what was dropped in training."""
    conditioning = recipe.conditioning
    shown = _conditioning(conditioning.classes, conditioning.picture)
    return replace(recipe, network=replace(recipe.network, dropout=0.0), conditioning=shown)


def _conditioning(classes: int, picture: int) -> Conditioning:
    parts = [*([Labels(classes)] if classes else []), *([LowRes(picture)] if picture else [])]
    return Together(tuple(parts)) if len(parts) > 1 else parts[0] if parts else Unconditional()


def _common(facts: Facts, known: Any, said: Said, network: Any, **more: Any) -> dict[str, Any]:
    """The fields of a recipe that all papers share; `more` is the network's."""
    shape, small = (known.shape, known.conditioning.picture) if known else ((0, SIDES.get(facts.multipliers, 0)), 0)
    side = said.get("size", shape[1])
    given = {name: said[name] for name in ("heads",) if name in said}
    if "head_channels" in said or (given and "head_channels" in vars(network)):
        given["head_channels"] = said.get("head_channels", 0)
    built = replace(
        known.network if known else network, channels=facts.channels, multipliers=facts.multipliers,
        blocks=facts.blocks, attention=facts.attention, dropout=0.0, **more, **given,
    )  # fmt: skip
    picture = said.get("low_res", small) if facts.low_res else 0
    return {
        "shape": (facts.image_channels, side, side), "network": built,
        "conditioning": _conditioning(facts.classes, picture),
        **{name: said[name] for name in ("steps", "betas", "prediction") if name in said},
    }  # fmt: skip


def _ddpm(facts: Facts, known: DDPM | None, said: Said) -> DDPM:
    fields = _common(facts, known, said, HoUNet())
    variance: Any = "learned" if facts.variance else said.get("variance", known.variance if known else "large")
    return replace(known or DDPM(), **fields, variance=variance, weight="bound" if facts.variance else "eps")


def _iddpm(facts: Facts, known: ImprovedDDPM | None, said: Said) -> ImprovedDDPM:
    fields = _common(facts, known, said, ImprovedUNet(), scale_shift=facts.scale_shift)
    fields |= {name: said[name] for name in ("rescale_times",) if name in said}
    if not facts.variance:
        fields |= {"variance": said.get("variance", "large"), "objective": "simple"}
    return replace(known or ImprovedDDPM(), **fields)


def _adm(facts: Facts, known: ADM | None, said: Said) -> ADM:
    return replace(known or ADM(), **_common(facts, known, said, ADMUNet()))


def _classifier(facts: Facts, known: NoisyClassifier | None, said: Said) -> NoisyClassifier:
    return replace(known or NoisyClassifier(), **_common(facts, known, said, Encoder(), pool=facts.pool))


BUILDERS: dict[str, Callable[..., Any]] = {"ddpm": _ddpm, "iddpm": _iddpm, "adm": _adm, "adm_classifier": _classifier}
