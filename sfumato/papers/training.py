"""The training numbers of a run, as plain values that a checkpoint carries.

The unit of time is images seen; a budget in images or in minutes is always finite, and everything fits itself to it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, fields, replace
from decimal import Decimal
from typing import Annotated, Any, Literal

from sfumato.core.profiles import LONGEST
from sfumato.fields import Length, Range, check, shown
from sfumato.spec import unknown

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


Interval = Annotated[float, Range(1e-9, 1)]
"""A share of the run."""
Decay = Annotated[float, Range(0, 1, below=True)]
"""The rate of a moving average."""
SigmaRel = Annotated[float, Range(0.01, LONGEST)]
"""The relative length of a power-function average."""


TRACKERS = {"csv": "", "tensorboard": "tensorboard", "wandb": "wandb"}
"""Where metrics go besides the run folder's metrics.jsonl, and the package that each needs."""

USUAL_SNAPSHOTS, MOST_OF_SNAPSHOTS = 16, 2 << 30
"""Snapshots of averages where no number is asked for, and their bytes, in float16."""

GENTLE_STEPS = 500
"""Steps over which the learning rate rises where weights are good already."""

BUDGET = ("images", "minutes")
MAY_CHANGE = (
    *BUDGET, "log", "accumulate", "checkpoint_activations", "log_every", "validate_every", "preview_every",
    "checkpoint_every", "keep", "snapshots", "validation_images", "preview_images", "preview_steps", "fd_every",
    "fd_images", "compile", "capture", "channels_last", "shard", "device", "threads",
)  # fmt: skip
"""The training numbers that a run may go on with others of: its budget, how it is watched, and what suits a machine.
All others are the run itself."""


@dataclass(frozen=True)
class TrainConfig:
    """How a recipe is trained."""

    images: Annotated[int, Range(1, 10**15)] | None = None
    """The budget in images seen, for example 2M. With `minutes` as well, whichever is reached first ends the run."""
    minutes: Annotated[float, Range(0, 10_000_000, above=True)] | None = None
    """The budget in minutes of training, over all resumes (10 where neither budget is given)."""
    batch: Annotated[int, Range(1, 1 << 20)] = 64
    """Images a step, over all processes."""
    accumulate: Annotated[int, Range(1, 1 << 20)] = 1
    """Split each process's share of a batch into this many parts, to save memory."""
    checkpoint_activations: bool = False
    """Compute each block again in the backward pass instead of keeping its activations: saves memory, costs about a
    third more time. Networks of 2015 have no such blocks."""
    learning_rate: Annotated[float, Range(0, 1000, above=True)] = 1e-3
    """AdamW's step size at its peak."""
    warmup: Annotated[int, Range(0, 10**15)] = 6_400
    """Images over which the learning rate rises from 0; never more than a tenth of the run."""
    decay: Literal["cosine", "constant", "inverse-sqrt"] = "cosine"
    """How the learning rate goes on: to 0 over the budget, not at all, or with the inverse square root of the images
    seen (Karras et al. 2024)."""
    decay_after: Annotated[int, Range(1, 10**15)] | None = None
    """inverse-sqrt: the images after which it begins; by default a tenth of the run."""
    betas: tuple[Decay, Decay] = (0.9, 0.99)
    """AdamW's averaging rates."""
    weight_decay: Annotated[float, Range(0, 1000)] = 0.0
    """AdamW's weight decay."""
    clip: Annotated[float, Range(0, 10**9)] = 1.0
    """The largest gradient norm; 0 does not clip."""
    ema: Annotated[tuple[Decay, ...], Length(1, 16)] = (0.999,)
    """Rates of the moving averages of the weights; each is shortened where it would look back over more than a tenth of
    the run. The first is the one that is sampled by default."""
    profiles: Annotated[tuple[SigmaRel, ...], Length(0, 8)] = (0.05, 0.10)
    """Relative lengths (sigma_rel) of the power-function averages that are tracked from the start, so that any length
    can be chosen after training (`--weights 0.12`); none tracks nothing."""
    snapshots: Annotated[int, Range(1, 1024)] | None = None
    """Snapshots of these averages, evenly spread over the run: 16, which give lengths from 0.03 to 0.25, or as many as
    2 GB hold; then also 0."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """Arithmetic of the network; auto takes bf16 where the machine is fast at it."""
    flip: bool = False
    """Mirror half of the images left to right."""
    times: Literal["stratified", "random", "antithetic"] = "stratified"
    """How noise levels are drawn: evenly spread over consecutive images, independently, or in mirrored pairs."""
    uncertainty: bool = False
    """Weigh levels by learned uncertainty: each loss is divided by what is expected at its level, which is learned
    along (EDM2, Karras et al. 2024). The training loss that is logged is then loss / exp(u) + u, about 1 + u."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Decides the first weights, the order of the images, flips, levels, noise and dropout."""
    log: str = ""
    """Trackers to write metrics to besides metrics.jsonl, with commas between: csv, tensorboard, wandb."""
    log_every: Interval = 0.002
    """Share of the run between two lines of metrics."""
    validate_every: Interval = 0.05
    """Share of the run between two measurements of the loss by noise level."""
    preview_every: Interval = 0.1
    """Share of the run between two grids of preview pictures."""
    checkpoint_every: Annotated[float, Range(0, 10**9)] = 2.0
    """Minutes between two checkpoints; one is always written at the end."""
    keep: Annotated[int, Range(1, 1_000_000)] = 2
    """How many checkpoints stay."""
    validation_images: Annotated[int, Range(0, 10_000_000)] = 256
    """Images for the loss by noise level; 0 measures none."""
    preview_images: Annotated[int, Range(0, 1024)] = 16
    """Pictures in a preview; 0 makes none."""
    preview_steps: Annotated[int, Range(1, 1_000_000)] = 25
    """Sampling steps of a preview."""
    fd_every: Annotated[float, Range(0, 1)] = 0.0
    """Share of the run between two measurements of the Frechet distance of samples to held-out images; the best weights
    are kept as best.safetensors. 0 measures none."""
    fd_images: Annotated[int, Range(8, 10_000_000)] = 1_000
    """Samples of such a measurement; another number is another distance."""
    compile: bool = False
    """Compile the network with torch.compile: minutes at the start, faster steps afterwards."""
    capture: bool = False
    """Replay each step as one CUDA graph, for small networks on one GPU, whose steps are bound by their launches. Not
    with accumulate, checkpoint_activations or compile."""
    channels_last: bool | None = None
    """Keep images as (B, H, W, C) in memory; by default where the fused CPU kernel is at hand, which wants it."""
    shard: bool = False
    """Split weights, gradients, averages and moments among the processes (FSDP2), for networks too large for one."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where to train; auto takes a GPU where there is one."""
    threads: Annotated[int, Range(1, 1024)] | None = None
    """CPU threads of torch; by default torch decides. Small networks may be faster with one."""

    def __post_init__(self) -> None:
        check(self)
        if len(set(self.ema)) < len(self.ema):
            raise ValueError(f"ema is one or more different rates, not {self.ema}")
        if self.uncertainty and self.shard:
            raise ValueError("learned uncertainty is held whole by every process: leave out uncertainty or shard")
        if len(set(self.profiles)) < len(self.profiles):
            raise ValueError(f"profiles are different lengths, not {self.profiles}")
        for name in self.logs:
            if name not in TRACKERS:
                raise ValueError(unknown("tracker", name, TRACKERS))
        if self.accumulate > self.batch:
            raise ValueError(f"a batch of {self.batch} images cannot be split into {self.accumulate} parts")

    @property
    def logs(self) -> tuple[str, ...]:
        """The trackers of `log`."""
        return tuple(dict.fromkeys(filter(None, self.log.split(","))))

    def gentle(self) -> TrainConfig:
        """The same for weights that are good already: a low rate, which rises while Adam's moments are empty."""
        return replace(self, learning_rate=self.learning_rate / 5, warmup=GENTLE_STEPS * self.batch)

    def rewarmed(self, after: TrainConfig, named: Collection[str]) -> TrainConfig:
        """Gentle numbers `after` others were named: as many steps of warm-up by another batch, unless it was named."""
        if "warmup" in named or self.warmup != GENTLE_STEPS * self.batch:
            return after
        return replace(after, warmup=GENTLE_STEPS * after.batch)

    def snapshots_of(self, parameters: int) -> int:
        """How many snapshots of the averages a run keeps of a network of so many parameters."""
        if self.snapshots is not None or not self.profiles:
            return self.snapshots or 0
        return min(USUAL_SNAPSHOTS, MOST_OF_SNAPSHOTS // (2 * len(self.profiles) * parameters))

    def progress(self, images: int, seconds: float) -> float:
        """The share of the budget that is spent, from 0 to 1."""
        minutes = DEFAULT_MINUTES if self.images is None and self.minutes is None else self.minutes
        spent = max(images / (self.images or math.inf), seconds / (60 * (minutes or math.inf)))
        return min(spent, 1.0)

    def check_resumed(self, after: TrainConfig, images: int, seconds: float) -> None:
        """Refuse to go on with other training numbers where these may not change, or with a budget that is spent.

        Args:
            after: the numbers to go on with.
            images, seconds: how far the run has come.

        Raises: ValueError, which names the numbers.
        """
        differing = [field.name for field in fields(self) if getattr(self, field.name) != getattr(after, field.name)]
        if fixed := [name for name in differing if name not in MAY_CHANGE]:
            values = ", ".join(f"{name} ({shown(getattr(self, name))} in this run)" for name in fixed)
            raise ValueError(
                f"a run cannot go on with another {values}; begin a new one, or change only: {', '.join(MAY_CHANGE)}"
            )
        if set(differing) & set(BUDGET) and after.progress(images, seconds) >= 1:
            raise ValueError(
                f"the run has come to {images:,} images in {seconds / 60:.3g} minutes of training; a budget of "
                f"{after.budget()} is no more than that"
            )

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
        """What `to_json` wrote, also after a trip through JSON; ValueError names unknown options, or what is none."""
        if not isinstance(values, Mapping):
            raise ValueError(f"training options are names and values, not {shown(values)}")
        if unknown := sorted(set(values) - {field.name for field in fields(cls)}):
            raise ValueError(f"unknown training options: {', '.join(unknown)}")
        plain: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**plain)
