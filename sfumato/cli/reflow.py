"""`sfumato reflow`: pairs of noise and what a model makes of it, to train a straighter flow on (Liu et al. 2023)."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sfumato.cli.numbers import Count, Moves, Scale, Seed
from sfumato.cli.parsing import device_of, loaded, parse

if TYPE_CHECKING:
    from sfumato.data.reflow import Pairs


@dataclass(frozen=True)
class ReflowArguments:
    """Make pairs of noise and picture along a model's probability flow; interrupted, the same command goes on."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint or a shipped model, such as flow/fashion."""
    out: Path
    """The folder to write; it appears when it is whole. Training reads it as --data reflow:OUT."""
    pairs: Count = 10_000
    """How many. A pair takes the room of a picture in bytes and in float16."""
    steps: Moves = 25
    """Moves of the sampler from noise to picture."""
    sampler: str = "heun"
    """A sampler that draws no noise on its way, with its options."""
    scale: Scale = 1.0
    """Classifier-free guidance of the model; 1 is none."""
    seed: Seed = 0
    """Pair i depends on (seed, i) alone."""
    batch: Count = 64
    """Pairs at a time; bounds the memory."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """bf16 where the machine is fast at it."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""


def reflow_command(arguments: list[str]) -> int:
    parsed = parse(ReflowArguments, arguments, "sfumato reflow")
    from tqdm import tqdm

    from sfumato.data import reflow as stored
    from sfumato.models import reflow
    from sfumato.models.generate import Request, plan
    from sfumato.runtime.weights import fingerprint

    model = loaded(parsed.target, parsed.weights, device_of(parsed.device))
    reflow.check(model)
    request = Request(
        parsed.pairs, parsed.steps, parsed.sampler, parsed.seed, parsed.scale, batch=parsed.batch,
        precision=parsed.precision,
    )  # fmt: skip
    plan(model, request)
    labels = model.labels(None, parsed.pairs)
    about: dict[str, Any] = {
        "model": parsed.target, "weights": fingerprint(model.network.state_dict()), "pairs": parsed.pairs,
        "sampler": parsed.sampler, "steps": parsed.steps, "scale": parsed.scale, "seed": parsed.seed,
    }  # fmt: skip
    space = model.recipe.space
    about |= {} if space.levels else {"values": list(space.values)}

    def made(first: int) -> Iterator[Pairs]:
        for start in range(first, parsed.pairs, parsed.batch):
            yield reflow.pairs(model, range(start, min(start + parsed.batch, parsed.pairs)), request, labels)

    names = model.classes or tuple(map(str, range(model.recipe.conditioning.classes)))
    with tqdm(desc="pairs", total=parsed.pairs, unit="pair", disable=None, leave=False) as bar:
        images = stored.write(parsed.out, about, parsed.pairs, names if labels is not None else (), made,
                              lambda done: bar.update(done - bar.n))  # fmt: skip
    print(images.card)
    print(f"sfumato train PRESET --data {shlex.quote(images.spec)} --from {shlex.quote(parsed.target)}")
    return 0
