"""Inverse problems: pictures out of what was seen of them, y = A x + noise, by any diffusion model.

`operators` are what can be seen of a picture, `POSTERIORS` the methods; `run` draws with any denoiser and sampler.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato import samplers, spec
from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Sampler, finish
from sfumato.core.schedules import Steps
from sfumato.inverse.derivatives import DPS, MMPS, PiGDM
from sfumato.inverse.operators import Channels, Function, Grey, Linear, Mask, Operator
from sfumato.inverse.posterior import Measurement, Posterior
from sfumato.inverse.replacing import ILVR, DiffPIR, RePaint, Replacement, SDEdit
from sfumato.inverse.seen import Boxes, Edges
from sfumato.inverse.separable import Bicubic, Blur, MeanPool

OPERATORS: dict[str, type[Operator]] = {
    "mean-pool": MeanPool,
    "bicubic": Bicubic,
    "blur": Blur,
    "grey": Grey,
    "channels": Channels,
}
"""The operators that a spec can name; a mask needs a picture, and a function Python."""

CONDITIONS: dict[str, type[Operator]] = {**OPERATORS, "mask": Boxes, "edges": Edges}
"""What a model can be trained to undo (`conditioning.picture`): random holes and edges, too."""

POSTERIORS: dict[str, type[Posterior]] = {
    "mmps": MMPS,
    "pigdm": PiGDM,
    "dps": DPS,
    "diffpir": DiffPIR,
    "replacement": Replacement,
    "repaint": RePaint,
    "ilvr": ILVR,
    "sdedit": SDEdit,
}
"""Every method of posterior sampling by the name that the command line knows it by."""


def by_name(text: str) -> Posterior:
    """The method of a spec such as "repaint?rounds=5". ValueError names what is unknown."""
    return spec.construct(POSTERIORS, text, "method")


def operator(text: str) -> Operator:
    """The operator of a spec such as "blur?std=1.5". ValueError names what is unknown."""
    return spec.construct(OPERATORS, text, "operator")


def listed() -> str:
    """A line for each method: its name and what it is."""
    return spec.listed(POSTERIORS)


def run(
    method: Posterior | str,
    process: GaussianDiffusion,
    denoise: Denoise,
    measurement: Measurement,
    x: Tensor,
    *,
    sampler: Sampler | str = "ddim",
    steps: Steps = None,
    noise: Noise = torch.randn_like,
) -> Tensor:
    """Draw from the posterior with any denoiser and any sampler: the last state, like x.

    Args:
        method: a value, or a spec string such as "mmps?iterations=3".
        denoise: (x, t) -> Prediction, not clipped.
        measurement: what was seen of each picture of the batch.
        x: (B, ...) noise at the first time.
        sampler, steps: see `samplers.run`.

    Raises: ValueError for unknown names, and an operator that the method cannot use.
    """
    chosen = by_name(method) if isinstance(method, str) else method
    way = samplers.by_name(sampler) if isinstance(sampler, str) else sampler
    return finish(x, chosen.plan(process, denoise, measurement, way, steps), noise)


__all__ = [
    "CONDITIONS", "DPS", "ILVR", "MMPS", "OPERATORS", "POSTERIORS", "Bicubic", "Blur", "Boxes", "Channels", "DiffPIR",
    "Edges", "Function", "Grey", "Linear", "Mask", "MeanPool", "Measurement", "Operator", "PiGDM", "Posterior",
    "RePaint", "Replacement", "SDEdit", "by_name", "listed", "operator", "run",
]  # fmt: skip
