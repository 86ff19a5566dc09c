"""`sfumato inspect` and `sfumato presets`: look before you leap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from sfumato.cli.numbers import Count
from sfumato.cli.parsing import UsageError, parse


@dataclass(frozen=True)
class InspectArguments:
    """Look before you leap: what a preset, run, checkpoint or data set is, holds and costs here."""

    what: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")] = None
    """A preset (ddpm/fashion), a run folder, a checkpoint, or a data spec (fashion:test, folder:PATH)."""
    ncsnv2: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """Instead: the noise levels and step size that NCSNv2's techniques find for these data."""
    size: str | None = None
    """Of a preset: its network as tiny, small, base, or paper, that of the published preset."""
    batch: Count | None = None
    """Images a training step (over all processes), and pictures at a time in sampling; by default 64, or the batch of a
    preset for short runs."""
    accumulate: Count = 1
    """For the predicted memory: parts of each process's share of a batch."""
    checkpoint_activations: bool = False
    """For the predicted memory: blocks are computed again in the backward pass."""
    processes: Count = 1
    """For the predicted memory: how many share the batch."""
    shard: bool = False
    """For the predicted memory: they share weights, gradients, averages and moments as well."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """For the predicted memory; auto is what a run takes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """For the predicted memory: a machine that need not be here."""
    measure: bool = True
    """Time a few training steps and forward passes."""


def inspect_command(arguments: list[str]) -> int:
    parsed = parse(InspectArguments, arguments, "sfumato inspect")
    if (parsed.what is None) == (parsed.ncsnv2 is None):
        raise UsageError("say what to inspect, or --ncsnv2 DATA; for example: sfumato inspect ddpm/fashion")
    from sfumato.cost import inspection
    from sfumato.papers.presets import SMALL

    if parsed.ncsnv2 is not None:
        for line in inspection.techniques(parsed.ncsnv2):
            print(line)
        return 0
    assert parsed.what is not None
    usual = SMALL[parsed.what].train.batch if parsed.what in SMALL else inspection.Plan.batch
    plan = inspection.Plan(
        parsed.batch or usual, parsed.precision, parsed.accumulate, parsed.checkpoint_activations, parsed.processes,
        parsed.shard, parsed.device,
    )  # fmt: skip
    for line in inspection.describe(parsed.what, plan=plan, measure=parsed.measure, size=parsed.size):
        print(line)
    return 0


def presets_command(arguments: list[str]) -> int:
    from sfumato.models import shipped
    from sfumato.papers.presets import PRESETS, about, use

    if arguments:
        raise UsageError("presets takes no options")
    ready, width = shipped(), max(map(len, PRESETS)) + 2
    for name in (*PRESETS, *sorted(ready.keys() - PRESETS.keys())):
        print(f"{name:{width}}{about(name)}{f'  [ships: {use(name)}]' if name in ready else ''}")
    return 0
