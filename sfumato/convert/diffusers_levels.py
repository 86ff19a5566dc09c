"""The schedulers of diffusers as the noise levels of DDPM's recipe, and back.

A scheduler's own way of sampling is not read: what is, is the table of betas that the network was trained with, what
the network returns, and the variance and clipping of DDPM's step.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.convert.state import ForeignError
from sfumato.papers.ddpm import DDPM
from sfumato.papers.recipe import Trainable

BETAS = {"linear": "linear", "squaredcos_cap_v2": "cosine", "sigmoid": "sigmoid"}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SIMPLE: dict[str, Any] = {"thresholding": False, "clip_sample_range": 1.0, "use_flow_sigmas": False}
"""What a scheduler that DDPM's recipe can stand for says, where it says anything."""
VARIANCES = {None: "small", "fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large",
             "fixed_large_log": "large"}  # fmt: skip
"""DPMSolver and others say None: they add no noise. DDPM's own default there is the small one."""


def schedule_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration as fields of the DDPM recipe. ForeignError for what the recipe cannot express."""
    name = config.get("_class_name", "DDPMScheduler")
    if not isinstance(name, str) or not name.endswith("Scheduler"):
        raise ForeignError("its scheduler_config.json names no scheduler of diffusers (_class_name)")
    if "beta_schedule" not in config:
        raise ForeignError(f"the noise levels of {name} are no table of betas")
    kind, start, end = config["beta_schedule"], config.get("beta_start", 1e-4), config.get("beta_end", 0.02)
    if config.get("trained_betas") is not None:
        raise ForeignError("this scheduler carries betas of its own, which the DDPM recipe cannot")
    if kind in ("linear", "sigmoid") and (start, end) != (1e-4, 0.02):
        raise ForeignError(f"this scheduler's betas go from {start} to {end}; DDPM's from 0.0001 to 0.02")
    for option, wanted in SIMPLE.items():
        if config.get(option, wanted) != wanted:
            raise ForeignError(f"this scheduler's {option} is {config[option]!r}, which the DDPM recipe cannot express")
    betas = _word(BETAS, kind)
    prediction = _word(PREDICTIONS, config.get("prediction_type", "epsilon"))
    if betas is None or prediction is None:
        raise ForeignError(f"no recipe here has the beta schedule {kind!r} with {config.get('prediction_type')!r}")
    variance = _word(VARIANCES, config.get("variance_type", "fixed_small"))
    if variance is None:
        raise ForeignError(f"a variance of the kind {config['variance_type']!r} is not read from diffusers")
    return {
        "steps": config.get("num_train_timesteps", 1000), "betas": betas, "prediction": prediction,
        "variance": variance, "clip": config.get("clip_sample", True),
        "zero_terminal_snr": config.get("rescale_betas_zero_snr", False),
    }  # fmt: skip


def _word(table: Mapping[Any, str], theirs: Any) -> str | None:
    return table.get(theirs) if theirs is None or isinstance(theirs, str) else None


def scheduler_of(recipe: Trainable) -> dict[str, Any]:
    """The configuration of a DDPMScheduler. ForeignError for what it cannot express."""
    if type(recipe) is not DDPM:
        raise ForeignError(f"diffusers' DDPMScheduler is DDPM's, not {type(recipe).__name__}'s")
    betas = {ours: theirs for theirs, ours in BETAS.items()}.get(recipe.betas)
    prediction = {ours: theirs for theirs, ours in PREDICTIONS.items()}.get(recipe.prediction)
    variance = {"small": "fixed_small", "large": "fixed_large"}.get(recipe.variance)
    if None in (betas, prediction, variance):
        what = ", ".join((recipe.betas, recipe.prediction, recipe.variance))
        raise ForeignError(f"diffusers' scheduler cannot express this recipe ({what})")
    return {
        "_class_name": "DDPMScheduler", "num_train_timesteps": recipe.steps, "beta_start": 1e-4, "beta_end": 0.02,
        "beta_schedule": betas, "prediction_type": prediction, "variance_type": variance,
        "clip_sample": recipe.clip, "clip_sample_range": 1.0, "timestep_spacing": "leading", "steps_offset": 0,
        "rescale_betas_zero_snr": recipe.zero_terminal_snr,
    }  # fmt: skip
