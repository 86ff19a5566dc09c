"""The checkpoints of denoising-diffusion-pytorch as recipes: its `Trainer`'s model-N.pt, for each diffusion.

The tables of `GaussianDiffusion` lie beside the weights, so that the noise levels and what the network returns are read
from them; the size of the images, and the numbers of a diffusion without tables, are the caller's to say.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import product
from typing import Any

import torch
from torch import Tensor

from sfumato.conditioning import Conditioning, Labels, SelfConditioned, Unconditional
from sfumato.convert import lucidrains_continuous
from sfumato.convert.lucidrains import LucidFacts
from sfumato.convert.lucidrains_continuous import LEARNED
from sfumato.convert.state import ForeignError, State
from sfumato.core.betas import cosine_betas, scaled_linear_betas, sigmoid_signal_betas
from sfumato.papers.continuous import ContinuousDDPM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.mixed import MixedDDPM
from sfumato.spaces import Pixels

CHOICES = {
    "size": "height and width of the images, or the length of rows",
    "heads": "attention heads",
    "steps": "T, the number of noise levels",
    "betas": "the noise schedule: linear, cosine or sigmoid",
    "prediction": "what the network returns: eps, x0 or v",
    "attention_norm": "layer for versions up to 1.6, rms for 1.7",
}
"""What a caller may have to say of a file of lucidrains'."""
TABLES = (
    "betas", "alphas_cumprod", "alphas_cumprod_prev", "sqrt_alphas_cumprod", "sqrt_one_minus_alphas_cumprod",
    "log_one_minus_alphas_cumprod", "sqrt_recip_alphas_cumprod", "sqrt_recipm1_alphas_cumprod", "posterior_variance",
    "posterior_log_variance_clipped", "posterior_mean_coef1", "posterior_mean_coef2", "loss_weight", "p2_loss_weight",
)  # fmt: skip
"""The buffers of its GaussianDiffusion, in their order."""
BETAS = {"linear": "scaled-linear", "cosine": "cosine", "sigmoid": "sigmoid-signal"}
STARTS, ENDS = (-3.0, -2.0, -1.0, 0.0), (3.0, 2.0, 1.0)
TEMPERATURES = (1.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.1, 1.2, 1.3, 1.5, 2.0)
"""The sigmoid schedules that are looked for: those of Jabri et al. (2022) and Chen (2023), and between them."""


def split(state: State) -> tuple[State, State]:
    """(the network's weights by its own names, the tables beside it, or a learned noise schedule)."""
    beside = {name: value for name, value in state.items() if name in TABLES or name.startswith(LEARNED)}
    tables = {name: beside[name] for name in sorted(beside, key=(*TABLES, *beside).index)}
    rest = {name: value for name, value in state.items() if name not in tables}
    for prefix in ("model.", "net."):
        if rest and all(name.startswith(prefix) for name in rest):
            rest = {name.removeprefix(prefix): value for name, value in rest.items()}
    return rest, tables


def settle(facts: LucidFacts, tables: State, notes: Iterable[str], choices: Mapping[str, Any]) -> tuple[Any, str]:
    """(the recipe, where its choices come from). ForeignError names what is missing or has no recipe."""
    outputs, inputs = facts.outputs, facts.images
    if outputs not in (inputs, 2 * inputs, 2 * inputs + 2):
        raise ForeignError(f"{facts}. No recipe here reads so many outputs")
    elucidated = any("'net'" in note for note in notes)
    learned = any(name.startswith(LEARNED) for name in tables)
    continuous = learned or (facts.real_times and not elucidated and not tables)
    needed = {"size"} | (set() if tables or elucidated or continuous else {"steps", "betas", "prediction"})
    if outputs == 2 * inputs + 2:  # its weighted objective has no other to choose
        needed -= {"prediction"}
    elif tables and "loss_weight" not in tables:  # before 1.3
        needed |= {"prediction"}
    needed |= lucidrains_continuous.needed(tables, choices) if continuous else set()
    open_to = needed | (set() if facts.said else {"heads"}) | ({"betas"} if continuous and not tables else set())
    needed, open_to = (part | ({"attention_norm"} if facts.old else set()) for part in (needed, open_to))
    _check(facts, needed, open_to, choices)
    shape, network = _shape(facts, choices["size"]), _network(facts, choices)
    common: dict[str, Any] = {"shape": shape, "network": network, "conditioning": _conditioning(facts)}
    assumed = "" if facts.said or "heads" in choices else "assumed: 4 attention heads; "
    try:
        if elucidated:
            return EDM(
                **common, space=Pixels(), steps=32, churn=80.0
            ), f"{assumed}as ElucidatedDiffusion's defaults: sigma_data 0.5"
        if continuous:
            found, source = lucidrains_continuous.fields_of(tables, choices)
            return ContinuousDDPM(**common, **found), assumed + source
        if outputs == 2 * inputs + 2:
            return _mixed(common, tables, choices), f"{assumed}its weighted objective's default weights, 0.1"
        found, source = _levels(facts, tables, choices)
        if outputs == 2 * inputs:
            return _learned(common, found), assumed + source
        return DDPM(**common, variance="small", **found), assumed + source
    except ForeignError:
        raise
    except (TypeError, ValueError) as error:
        raise ForeignError(f"{facts}: {error}") from None


def _check(facts: LucidFacts, needed: set[str], open_to: set[str], choices: Mapping[str, Any]) -> None:
    for choice in choices:
        if choice not in open_to:
            raise ForeignError(f"{choice} cannot be chosen for this file. {facts}")
    for choice in ("size", "heads", "steps"):
        if type(choices.get(choice, 1)) is not int or choices.get(choice, 1) < 1:
            raise ForeignError(f"{choice} ({CHOICES[choice]}) is a whole number from 1, not {choices[choice]!r}")
    if missing := [choice for choice in CHOICES if choice in needed - set(choices)]:
        listed = "; ".join(f"{choice} ({CHOICES[choice]})" for choice in missing)
        raise ForeignError(f"{facts}. The file does not say: {listed}")
    if choices.get("betas", "linear") not in BETAS:
        raise ForeignError(f"betas is one of {', '.join(BETAS)}, not {choices['betas']!r}")


def _shape(facts: LucidFacts, size: int) -> tuple[int, int, int]:
    return (facts.images, 1 if facts.network.dimensions == 1 else size, size)


def _network(facts: LucidFacts, choices: Mapping[str, Any]) -> Any:
    made: Any = facts.network
    if facts.old:
        made = replace(made, attention_norm=choices["attention_norm"])
    if "heads" in choices:
        width = made.heads * made.head_channels
        if width % choices["heads"]:
            raise ForeignError(f"{choices['heads']} heads do not divide attention of {width} channels")
        made = replace(made, heads=choices["heads"], head_channels=width // choices["heads"])
    return made


def _conditioning(facts: LucidFacts) -> Conditioning:
    if facts.feeds_back:
        return SelfConditioned()
    return Labels(facts.classes, facts.dropped) if facts.classes else Unconditional()


# ---------------------------------------------------------------- the tables


def _levels(facts: LucidFacts, tables: State, choices: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The fields of DDPM's recipe that say the noise levels, and where they come from."""
    if not tables:
        found = {"steps": choices["steps"], "betas": BETAS[choices["betas"]], "prediction": choices["prediction"],
                 "weight": "eps"}  # fmt: skip
        return found, "noise levels as asked"
    if "betas" not in tables:
        raise ForeignError(f"{facts}. Its table of betas is missing")
    found = schedule(tables["betas"].double().flatten())
    if "loss_weight" not in tables:
        said = choices["prediction"]
        return {
            **found,
            "prediction": said,
            "weight": said,
        }, f"noise levels from its tables; as asked: prediction {said}"
    prediction, weight, gamma = objective(tables["betas"].double().flatten(), tables["loss_weight"].double().flatten())
    if facts.outputs == 2 * facts.images:  # whatever its objective says, its learned variance goes with the noise
        prediction, weight, gamma = "eps", "eps", None
    less = "" if gamma in (None, 5.0) else f"; trained with min-SNR's gamma {gamma:g}, and trained further with 5"
    return {**found, "prediction": prediction, "weight": weight}, f"noise levels and prediction from its tables{less}"


def schedule(betas: Tensor) -> dict[str, Any]:
    """A table of betas (T,), as single precision kept it, by the fields that make it. ForeignError for another one."""
    T = len(betas)

    def same(made: Tensor) -> bool:
        return torch.allclose(made, betas, rtol=1e-4, atol=2e-7)

    named = {"cosine": cosine_betas} | ({"scaled-linear": scaled_linear_betas} if T >= 20 else {})
    for name, made in named.items():
        if same(made(T)):
            return {"steps": T, "betas": name}
    for tau, start, end in product(TEMPERATURES, STARTS, ENDS):
        if end > start and same(sigmoid_signal_betas(T, start, end, tau)):
            return {"steps": T, "betas": "sigmoid-signal", "sigmoid": (start, end, tau)}
    raise ForeignError(f"its table of {T} betas is of no schedule that is known here: linear, cosine, sigmoid")


def objective(betas: Tensor, weights: Tensor) -> tuple[str, str, float | None]:
    """(what the network returns, the loss weight, min-SNR's gamma), from the weight of each level, (T,) both.

    The weights are those of the error in what is returned, min(SNR, gamma) in x0 for each, and SNR, which is an even
    weight in eps, without min-SNR.
    """
    alpha_bar = torch.cumprod(1 - betas, 0)
    snr = alpha_bar / (1 - alpha_bar)
    in_x0 = {"eps": weights * snr, "x0": weights, "v": weights * (snr + 1)}  # each is min(SNR, gamma) for the right one
    for prediction, weight in in_x0.items():
        gamma = float(weight.max())
        if torch.allclose(weight, snr.clamp(max=gamma), rtol=2e-3, atol=1e-6):
            bounded = gamma < 0.99 * float(snr.max())
            return (prediction, "min-snr", round(gamma, 3)) if bounded else (prediction, "eps", None)
    raise ForeignError("its table of loss weights is of no objective that is known here: pred_noise, pred_x0, pred_v")


def _learned(common: Mapping[str, Any], found: Mapping[str, Any]) -> ImprovedDDPM:
    """LearnedGaussianDiffusion: Improved DDPM's variance, on the levels' own numbers."""
    if found.get("sigmoid", (-3.0, 3.0, 1.0)) != (-3.0, 3.0, 1.0):
        raise ForeignError(f"a learned variance with the sigmoid schedule {found['sigmoid']} has no recipe here")
    betas = "linear" if found["betas"] == "scaled-linear" else found["betas"]
    return ImprovedDDPM(**common, steps=found["steps"], betas=betas, prediction="eps", rescale_times=False)


def _mixed(common: Mapping[str, Any], tables: State, choices: Mapping[str, Any]) -> MixedDDPM:
    """WeightedObjectiveGaussianDiffusion: noise, clean data and the weights of both."""
    if "betas" in tables:
        return MixedDDPM(**common, **schedule(tables["betas"].double().flatten()))
    return MixedDDPM(**common, steps=choices["steps"], betas=BETAS[choices["betas"]])
