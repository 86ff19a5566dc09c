"""`sfumato inspect` and `sfumato presets`: look before you leap."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from sfumato.cli.parsing import UsageError, parse


@dataclass(frozen=True)
class InspectArguments:
    """Look before you leap: what a preset, run, checkpoint or data set is, holds and costs here."""

    what: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")] = None
    """A preset (ddpm/fashion), a run folder, a checkpoint, or a data spec (fashion:test, folder:PATH)."""
    ncsnv2: Annotated[str | None, tyro.conf.arg(metavar="DATA")] = None
    """Instead: the noise levels and step size that NCSNv2's techniques find for these data."""
    batch: int = 64
    """Images a training step, for the measured throughput."""
    measure: bool = True
    """Time a few training steps and forward passes."""


def inspect_command(arguments: list[str]) -> int:
    parsed = parse(InspectArguments, arguments, "sfumato inspect")
    if (parsed.what is None) == (parsed.ncsnv2 is None):
        raise UsageError("say what to inspect, or --ncsnv2 DATA; for example: sfumato inspect ddpm/fashion")
    from sfumato import inspection

    if parsed.ncsnv2 is not None:
        for line in inspection.techniques(parsed.ncsnv2):
            print(line)
        return 0
    assert parsed.what is not None
    for line in inspection.describe(parsed.what, batch=parsed.batch, measure=parsed.measure):
        print(line)
    return 0


def presets_command(arguments: list[str]) -> int:
    from sfumato.model import shipped
    from sfumato.presets import PRESETS

    if arguments:
        raise UsageError("presets takes no options")
    ready = shipped()
    for name, chosen in PRESETS.items():
        print(f"{name:32}{chosen.about}{'  [ships: sfumato sample ' + name + ']' if name in ready else ''}")
    return 0
