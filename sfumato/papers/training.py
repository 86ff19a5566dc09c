"""The training numbers of a run, as plain values that a checkpoint carries.

The unit of time is images seen; a budget in images or in minutes is always finite, and everything fits itself to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from decimal import Decimal
from typing import Any, Literal

DEFAULT_MINUTES = 10.0
"""The budget of a run that names none."""

SUFFIXES = {"": 1, "k": 1_000, "m": 1_000_000, "b": 1_000_000_000}


def parse_count(text: str | int) -> int:
    """A whole number such as "2M", "500k", "1.5M", "64_000" or 64; ValueError for anything else."""
    match = re.fullmatch(r"(\d[\d_]*(?:\.\d+)?)([kmb]?)", str(text).strip(), re.IGNORECASE | re.ASCII)
    value = Decimal(match[1].replace("_", "")) * SUFFIXES[match[2].lower()] if match else Decimal("NaN")
    if not value.is_finite() or value != value.to_integral_value():
        raise ValueError(f"{text!r} is not a count; write for example 64000, 64k, 1.5M or 2_000_000")
    return int(value)


@dataclass(frozen=True)
class TrainConfig:
    """How a recipe is trained."""

    images: int | None = None
    """The budget in images seen, for example 2M. With `minutes` as well, whichever is reached first ends the run."""
    minutes: float | None = None
    """The budget in minutes of training, over all resumes (10 where neither budget is given)."""
    batch: int = 64
    """Images a step, over all processes."""
    accumulate: int = 1
    """Split each process's share of a batch into this many parts, to save memory."""
    checkpoint_activations: bool = False
    """Compute each block again in the backward pass instead of keeping its activations: saves memory, costs about a
    third more time. Networks of 2015 have no such blocks."""
    learning_rate: float = 1e-3
    """AdamW's step size at its peak."""
    warmup: int = 6_400
    """Images over which the learning rate rises from 0; never more than a tenth of the run."""
    decay: Literal["cosine", "constant"] = "cosine"
    """How the learning rate goes on: to 0 over the budget, or not at all."""
    betas: tuple[float, float] = (0.9, 0.99)
    """AdamW's averaging rates."""
    weight_decay: float = 0.0
    """AdamW's weight decay."""
    clip: float = 1.0
    """The largest gradient norm; 0 does not clip."""
    ema: tuple[float, ...] = (0.999,)
    """Rates of the moving averages of the weights; each is shortened where it would look back over more than a tenth of
    the run. The first is the one that is sampled by default."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Arithmetic of the network; auto takes bf16 where the machine is fast at it."""
    flip: bool = False
    """Mirror half of the images left to right."""
    times: Literal["stratified", "random", "antithetic"] = "stratified"
    """How noise levels are drawn: evenly spread over consecutive images, independently, or in mirrored pairs."""
    seed: int = 0
    """Decides the first weights, the order of the images, flips, levels, noise and dropout."""
    log_every: float = 0.002
    """Share of the run between two lines of metrics."""
    validate_every: float = 0.05
    """Share of the run between two measurements of the loss by noise level."""
    preview_every: float = 0.1
    """Share of the run between two grids of preview pictures."""
    checkpoint_every: float = 2.0
    """Minutes between two checkpoints; one is always written at the end."""
    keep: int = 2
    """How many checkpoints stay."""
    validation_images: int = 256
    """Images for the loss by noise level; 0 measures none."""
    preview_images: int = 16
    """Pictures in a preview; 0 makes none."""
    preview_steps: int = 25
    """Sampling steps of a preview."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps afterwards."""
    channels_last: bool | None = None
    """Keep images as (B, H, W, C) in memory; by default where the fused CPU kernel is at hand, which wants it."""
    shard: bool = False
    """Split weights, gradients, averages and moments among the processes (FSDP2), for networks too large for one."""
    threads: int | None = None
    """CPU threads of torch; by default torch decides. Small networks may be faster with one."""

    def __post_init__(self) -> None:
        positive = ("images", "minutes", "batch", "accumulate", "learning_rate", "log_every", "validate_every",
                    "preview_every", "keep", "preview_steps", "threads")  # fmt: skip
        not_negative = ("warmup", "weight_decay", "clip", "checkpoint_every", "validation_images", "preview_images",
                        "seed")  # fmt: skip
        for name in positive + not_negative:
            value, above = getattr(self, name), name in positive
            if value is not None and not (math.isfinite(value) and (value > 0 if above else value >= 0)):
                raise ValueError(f"{name} is {'above 0' if above else 'at least 0'}, not {value}")
        if not self.ema or any(not 0 <= rate < 1 for rate in self.ema) or len(set(self.ema)) < len(self.ema):
            raise ValueError(f"ema is one or more different rates from 0 to below 1, not {self.ema}")
        if len(self.betas) != 2 or any(not 0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas are two rates from 0 to below 1, not {self.betas}")
        for name, known in (("decay", ("cosine", "constant")), ("precision", ("auto", "float32", "bf16")),
                            ("times", ("stratified", "random", "antithetic"))):  # fmt: skip
            if getattr(self, name) not in known:
                raise ValueError(f"{name} is one of {', '.join(known)}, not {getattr(self, name)!r}")
        if self.accumulate > self.batch:
            raise ValueError(f"a batch of {self.batch} images cannot be split into {self.accumulate} parts")

    def progress(self, images: int, seconds: float) -> float:
        """The share of the budget that is spent, from 0 to 1."""
        minutes = DEFAULT_MINUTES if self.images is None and self.minutes is None else self.minutes
        spent = max(images / (self.images or math.inf), seconds / (60 * (minutes or math.inf)))
        return min(spent, 1.0)

    def budget(self) -> str:
        """The budget in words."""
        images = [f"{self.images:,} images"] if self.images else []
        minutes = [f"{self.minutes or DEFAULT_MINUTES:g} minutes"] if self.minutes or not images else []
        return " or ".join(images + minutes)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrainConfig:
        """What `to_json` wrote, also after a trip through JSON; ValueError names unknown options."""
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"unknown training options: {', '.join(unknown)}")
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)
