"""The diffusions of denoising-diffusion-pytorch in continuous time, as fields of `ContinuousDDPM`.

Its `ContinuousTimeGaussianDiffusion` (noise prediction; linear, cosine or a learned schedule) and
`VParamContinuousTimeGaussianDiffusion` (v, cosine) keep no tables, so the objective and the schedule are the caller's
to say; a learned schedule is a monotone network beside the weights (Kingma et al. 2021, appendix H).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sfumato.convert.state import ForeignError, State
from sfumato.core.log_snr import Tabulated
from sfumato.papers.continuous import ContinuousDDPM

LEARNED = "log_snr."
"""How the names of a learned schedule begin."""
LAYERS = ("net.1.net", "net.2.fn.0.net", "net.2.fn.2.net")
ENDS = (-math.log(math.expm1(1e-4)), -math.log(math.expm1(10.0001)))
"""log SNR at times 0 and 1, of the linear schedule."""
KNOTS = 257
"""Times at which a learned schedule is tabulated."""
SCHEDULES = ("linear", "cosine")


def needed(schedule: State, choices: Mapping[str, Any]) -> set[str]:
    """What the caller has to say of such a file, given what was said."""
    return {"prediction"} if schedule or choices.get("prediction") == "v" else {"prediction", "betas"}


def fields_of(schedule: State, choices: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
    """The fields of ContinuousDDPM that say the noise levels and the objective, and where they come from.

    Raises: ForeignError: words that its continuous diffusions do not know; a schedule that lacks layers.
    """
    prediction, betas = choices["prediction"], choices.get("betas", "cosine")
    if prediction not in ("eps", "v"):
        raise ForeignError(f"in continuous time prediction is eps or v, not {prediction!r}")
    if betas not in SCHEDULES or (prediction == "v" and betas != "cosine"):
        raise ForeignError("in continuous time betas is linear or cosine, and cosine for prediction v")
    found: dict[str, Any] = {"prediction": prediction, "weight": prediction, "condition": "log-snr"}
    if not schedule:
        return {**found, "schedule": betas}, f"continuous time; as asked: {betas}, prediction {prediction}"
    values = learned(schedule, torch.linspace(0, 1, KNOTS, dtype=torch.float64))
    times = (torch.arange(KNOTS - 1, dtype=torch.float64) + 0.5) / (KNOTS - 1)
    table = tuple(values.tolist())
    try:
        error = float((Tabulated(table).curve(times) - learned(schedule, times)).abs().max())
    except ValueError as wrong:
        raise ForeignError(f"its learned noise schedule is none: {wrong}") from None
    return (
        {**found, "schedule": "table", "log_snr": table},
        f"continuous time; its learned schedule as a table of {KNOTS}, exact to {error:.1g} in log SNR, fixed here; "
        f"as asked: prediction {prediction}",
    )


def learned(schedule: State, t: Tensor) -> Tensor:
    """The log SNR of its learned schedule at times t (n,) of [0, 1], in float64. ForeignError where it lacks layers.

    A dense layer of one number, and on top of it one hidden layer of sigmoids; all weights count by their magnitude.
    """
    try:
        layers = [
            [schedule[f"{LEARNED}{name}.{part}"].double().abs() for part in ("weight", "bias")] for name in LAYERS
        ]
    except KeyError as lacking:
        raise ForeignError(f"its learned noise schedule lacks {lacking.args[0]}") from None

    def net(x: Tensor) -> Tensor:
        (w, b), (w_in, b_in), (w_out, b_out) = layers
        first = x[:, None] @ w.T + b
        return (first + torch.sigmoid(first @ w_in.T + b_in) @ w_out.T + b_out)[:, 0]

    low, high, values = (net(x) for x in (torch.zeros_like(t[:1]), torch.ones_like(t[:1]), t))
    return ENDS[0] + (ENDS[1] - ENDS[0]) * (values - low) / (high - low)


def writable(recipe: ContinuousDDPM) -> None:
    """Raise ForeignError unless one of its continuous diffusions stands for the recipe."""
    kind = (recipe.prediction, recipe.weight, recipe.schedule)
    known = (("eps", "eps", "linear"), ("eps", "eps", "cosine"), ("eps", "min-snr", "linear"),
             ("eps", "min-snr", "cosine"), ("v", "v", "cosine"))  # fmt: skip
    if kind not in known or recipe.condition != "log-snr":
        raise ForeignError(
            "its diffusions in continuous time have eps with a linear or cosine schedule, or v with a cosine, and "
            "networks that are given the log SNR"
        )
