"""Other people's checkpoints as models: official PyTorch files and diffusers' folders, ready to sample.

What a file's names and shapes cannot tell (heads, the order of q, k and v, the noise levels) is taken from the
published configuration of the same network where there is one, and asked for otherwise; `about` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import torch

from sfumato import foreign_scores
from sfumato.convert import ddim, diffusers, openai, scores
from sfumato.convert.files import Facts, ForeignError, read_state, recognise
from sfumato.convert.keys import Key
from sfumato.convert.keys import load as fill
from sfumato.model import Model
from sfumato.papers import PAPERS
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.score_sde import ScoreSDE
from sfumato.presets import PRESETS

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
    "rescale_times": "whether the network is told 1000 t / T",
    "low_res": "height and width of an upsampler's small images",
    "variance": "the spread of a step where it is not learned: small or large",
    "prediction": "what the network returns: eps, x0 or v",
}
"""What a caller may have to say, since the weights do not."""
COUNTS = ("size", "heads", "head_channels", "steps", "low_res")
"""The choices that are whole numbers from 1."""


def open_foreign(path: str | Path, choices: Mapping[str, Any] | None = None) -> Model:
    """A model from an official file.

    Args:
        path: a .pt, .pth or .ckpt of ermongroup/ddim, improved-diffusion or guided-diffusion, or of ncsn, ncsnv2 or
            score_sde_pytorch.
        choices: see `CHOICES` and `foreign_scores.CHOICES`; they override what a published configuration says.

    Raises:
        OSError: no such file.
        ForeignError: a damaged, unsafe or unknown file; a choice that is missing or does not exist; and, with the first
            five differences, weights that do not fit the network.
    """
    choices = dict(choices or {})
    if unknown := sorted(set(choices) - set(CHOICES) - set(foreign_scores.CHOICES)):
        known = {**CHOICES, **foreign_scores.CHOICES}
        raise ForeignError(f"unknown choice {unknown[0]!r}; known: {', '.join(known)}")
    state, notes = read_state(path)
    facts: Facts | scores.ScoreFacts
    order = "legacy"
    if scores.knows(state):
        facts = scores.recognise(state)
        recipe, source = foreign_scores.settle(facts, Path(path), choices)
        state = foreign_scores.weights(state)
    else:
        facts = recognise({name: tuple(value.shape) for name, value in state.items()})
        recipe, order, source = settle(facts, Path(path).stem, choices)
    with torch.device("meta"):
        network = recipe.model()
    network.to_empty(device="cpu")
    try:
        fill(network, list(key_map(facts, network, order)), state)
    except ValueError as error:
        raise ForeignError(f"{path}: {error}") from None
    about = {"path": str(path), "found": [str(facts), *notes, source], "weights": _kind(Path(path), notes),
             "order": order, "data": {}}  # fmt: skip
    return Model(recipe, network.eval().requires_grad_(False), (), about)


def key_map(facts: Facts | scores.ScoreFacts, network: Any, order: str) -> Iterable[Key]:
    """Which official tensor is which of ours."""
    if isinstance(facts, scores.RefineNetFacts | scores.LayersFacts):
        return foreign_scores.key_map(facts, network)
    if facts.family == "ddim":
        return ddim.keys(network, {"model": {"type": "simple"}})
    return openai.keys(network, legacy_order=order == "legacy")


def _kind(path: Path, notes: list[str]) -> str:
    averaged = "ema" in path.stem.lower() or any("moving average" in note for note in notes)
    return "EMA" if averaged else "as published"


# ---------------------------------------------------------------- facts and choices -> a recipe


def settle(facts: Facts, stem: str, choices: Mapping[str, Any]) -> tuple[Any, str, str]:
    """(recipe, attention order, where each choice comes from). ForeignError names what is missing or does not exist."""
    _check_choices(facts, choices)
    name = published(facts, stem)
    missing = [choice for choice in _needed(facts) if choice not in choices and name is None]
    if "heads" in missing and "head_channels" in choices:
        missing.remove("heads")
    if missing:
        listed = "; ".join(f"{choice} ({CHOICES[choice]})" for choice in missing)
        raise ForeignError(f"{facts}. This is no published network, and its weights do not say: {listed}")
    order = choices.get("order", "new" if name in NEW_ORDER else "legacy")
    recipe = BUILDERS[_paper(facts)](facts, PRESETS[name].recipe if name else None, choices)
    check_words(recipe)
    values = {**asdict(recipe), "size": recipe.shape[1], "order": order}
    told = _unsaid(facts) - {"heads" if values.get("head_channels") else "head_channels"}
    asked = [f"{choice} {values[choice]}" for choice in CHOICES if choice in told & set(choices)]
    other = [f"{choice} {values[choice]}" for choice in CHOICES if choice in told - set(choices)]
    sources = {"as asked": asked, f"as published for {name}" if name else "assumed": other}
    return recipe, order, "; ".join(f"{source}: {', '.join(words)}" for source, words in sources.items() if words)


def _unsaid(facts: Facts) -> set[str]:
    """The choices that weights like these leave open."""
    unsaid = set(get_type_hints(PAPERS[_paper(facts)])) & set(CHOICES) | {"size"}
    unsaid -= ({"variance"} if facts.variance else set()) | (set() if facts.low_res else {"low_res"})
    return unsaid | (set() if facts.family == "ddim" else {"order"})


def _check_choices(facts: Facts, choices: Mapping[str, Any]) -> None:
    """ForeignError for a choice that this network does not leave open, or that it cannot take."""
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


def check_numbers(choices: Mapping[str, Any]) -> None:
    """ForeignError unless what is to be a whole number from 1 is one."""
    for choice in COUNTS:
        value = choices.get(choice, 1)
        if not isinstance(value, int) or value < 1:
            raise ForeignError(f"{choice} ({CHOICES[choice]}) is a whole number from 1, not {value!r}")


def check_words(recipe: Any) -> None:
    """ForeignError unless each word in the recipe is one that it knows."""
    for name, hint in get_type_hints(type(recipe)).items():
        value, known = getattr(recipe, name), get_args(hint)
        if get_origin(hint) is Literal and value not in known:
            raise ForeignError(f"{name} is one of {', '.join(known)}, not {value!r}")


def published(facts: Facts, stem: str) -> str | None:
    """The published configuration with this network; among equals, the one whose words the file name has."""
    names = [n for n, chosen in PRESETS.items() if n.split("/")[0] == _paper(facts) and _same(facts, chosen.recipe)]
    return max(names, key=lambda n: sum(word in stem.lower() for word in n.split("/")[1].split("-")), default=None)


def _paper(facts: Facts) -> str:
    if facts.family == "openai":
        return "adm" if facts.residual else "iddpm"
    return {"ddim": "ddpm", "classifier": "adm_classifier"}[facts.family]


def _same(facts: Facts, recipe: Any) -> bool:
    pairs = [(facts.image_channels, recipe.shape[0]), (set(facts.attention), set(recipe.attention))]
    pairs += [(getattr(facts, n), getattr(recipe, n)) for n in ("channels", "multipliers", "blocks", "classes")]
    if facts.family == "classifier":
        pairs.append((facts.pool, recipe.pool))
    else:
        learns = getattr(recipe, "variance", "learned_range") in ("learned", "learned_range")
        pairs += [(facts.variance, learns), (facts.low_res, bool(getattr(recipe, "low_res", 0)))]
    if isinstance(recipe, ImprovedDDPM):
        pairs.append((facts.scale_shift, recipe.scale_shift))
    return all(a == b for a, b in pairs)


def _needed(facts: Facts) -> list[str]:
    needed = [] if tuple(facts.multipliers) in SIDES else ["size"]
    if facts.family != "ddim":
        needed += ["head_channels" if facts.family == "classifier" else "heads", "order"]  # the middle always attends
        needed += ["steps", "betas"]
    if facts.family == "openai" and not facts.residual:
        needed.append("rescale_times")
    return needed + (["low_res"] if facts.low_res else [])


def _common(facts: Facts, known: Any, said: Mapping[str, Any]) -> dict[str, Any]:
    side = said.get("size") or (known.shape[1] if known else SIDES[tuple(facts.multipliers)])
    fields: dict[str, Any] = {
        "shape": (facts.image_channels, side, side), "channels": facts.channels, "multipliers": facts.multipliers,
        "blocks": facts.blocks, "attention": facts.attention, "dropout": 0.0,
    }  # fmt: skip
    return fields | {name: said[name] for name in ("steps", "betas", "prediction") if name in said}


def _ddpm(facts: Facts, known: DDPM | None, said: Mapping[str, Any]) -> DDPM:
    fields = _common(facts, known, said)
    variance: Any = "learned" if facts.variance else said.get("variance", known.variance if known else "large")
    return replace(known or DDPM(), **fields, variance=variance, weight="bound" if facts.variance else "eps")


def _iddpm(facts: Facts, known: ImprovedDDPM | None, said: Mapping[str, Any]) -> ImprovedDDPM:
    fields = _common(facts, known, said) | {"classes": facts.classes, "scale_shift": facts.scale_shift}
    fields |= {name: said[name] for name in ("heads", "rescale_times", "low_res") if name in said}
    if not facts.variance:
        fields |= {"variance": said.get("variance", "large"), "objective": "simple"}
    return replace(known or ImprovedDDPM(), **fields)


def _adm(facts: Facts, known: ADM | None, said: Mapping[str, Any]) -> ADM:
    if not facts.variance or not facts.scale_shift:
        raise ForeignError("ADM's networks learn a variance and scale by the embedding; this one does not")
    fields = _common(facts, known, said) | {"classes": facts.classes, "label_dropout": 0.0}
    fields |= {name: said[name] for name in ("low_res",) if name in said} | _heads(said)
    return replace(known or ADM(), **fields)


def _classifier(facts: Facts, known: NoisyClassifier | None, said: Mapping[str, Any]) -> NoisyClassifier:
    if not facts.scale_shift or not facts.residual:
        raise ForeignError(
            "ADM's classifiers scale by the embedding and resample in residual blocks; this one does not"
        )
    fields = _common(facts, known, said) | {"classes": facts.classes, "pool": facts.pool}
    return replace(known or NoisyClassifier(), **fields, **_heads(said))


def _heads(said: Mapping[str, Any]) -> dict[str, Any]:
    if "head_channels" in said:
        return {"head_channels": said["head_channels"]}
    return {"head_channels": 0, "heads": said["heads"]} if "heads" in said else {}


BUILDERS: dict[str, Callable[..., Any]] = {"ddpm": _ddpm, "iddpm": _iddpm, "adm": _adm, "adm_classifier": _classifier}


# ---------------------------------------------------------------- diffusers


def open_diffusers(folder: str | Path, choices: Mapping[str, Any] | None = None) -> Model:
    """A model from a folder of `UNet2DModel.save_pretrained` or `DDPMPipeline.save_pretrained`.

    Args:
        choices: steps, betas, prediction, variance, where there is no scheduler's configuration, or to override it.

    Raises:
        OSError: files missing.
        ForeignError: damaged, of an architecture that is not DDPM's, or weights that do not fit it.
    """
    choices = dict(choices or {})
    if unknown := sorted(set(choices) - {"steps", "betas", "prediction", "variance"}):
        raise ForeignError(f"unknown choice {unknown[0]!r} for a diffusers folder; it says the rest itself")
    fields, state, source = diffusers.read(Path(folder))
    check_numbers(choices)
    recipe = DDPM(**{**fields, **choices})
    check_words(recipe)
    with torch.device("meta"):
        network = recipe.model()
    network.to_empty(device="cpu")
    try:
        fill(network, list(diffusers.keys(network)), state)  # type: ignore[arg-type]
    except ValueError as error:
        raise ForeignError(f"{folder}: {error}") from None
    about = {"path": str(folder), "found": ["UNet2DModel of diffusers", source], "weights": "as published", "data": {}}
    return Model(recipe, network.eval().requires_grad_(False), (), about)


def save_diffusers(model: Model, folder: str | Path) -> None:
    """Write a folder that `diffusers.DDPMPipeline.from_pretrained` samples from.

    Raises: ForeignError for another recipe than DDPM, or one that their scheduler or pipeline cannot express.
    """
    recipe = model.recipe
    if not isinstance(recipe, DDPM):
        raise ForeignError(f"diffusers' UNet2DModel holds DDPM's network, not that of {type(recipe).__name__}")
    network: Any = model.network
    diffusers.write(Path(folder), asdict(recipe), network)


# ---------------------------------------------------------------- and back


def official_state(model: Model, order: str | None = None) -> dict[str, torch.Tensor]:
    """Our network's weights under the official names: ermongroup/ddim's, or OpenAI's for their networks.

    Args:
        order: of q, k and v in OpenAI's attention, "legacy" or "new"; as it was read, or legacy, where None.

    Raises: ForeignError for a network that the official code cannot hold.
    """
    recipe, network = model.recipe, model.network
    order = order or model.about.get("order", "legacy")
    if isinstance(recipe, DDPM):
        if recipe.classes:
            raise ForeignError("the official DDPM network has no labels, so it cannot hold a conditional model")
        keys: Iterable[Key] = ddim.keys(network, {"model": {"type": "simple"}})  # type: ignore[arg-type]
    elif isinstance(recipe, ImprovedDDPM | ADM | NoisyClassifier):
        keys = openai.keys(network, legacy_order=order == "legacy")  # type: ignore[arg-type]
    elif isinstance(recipe, NCSN | NCSNv2 | ScoreSDE):
        keys = foreign_scores.official_keys(network, recipe)
    else:
        raise ForeignError(f"{type(recipe).__name__} has no official PyTorch layout here")
    tensors: dict[str, torch.Tensor] = {name: p.detach() for name, p in network.state_dict().items()}
    return {key.official: key.read(tensors[key.ours]).clone().contiguous().float().cpu() for key in keys}
