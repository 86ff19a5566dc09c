"""`sfumato reproduce`: the papers' claims, listed or run, with what was measured and whether it holds at this scale."""

from __future__ import annotations

import json
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated

import tyro

from sfumato.cli.numbers import Range
from sfumato.cli.parsing import UsageError, parse
from sfumato.cli.results import writable


@dataclass(frozen=True)
class ReproduceArguments:
    """List the claims, or run some of them."""

    names: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[CLAIM ...]")] = ()
    """Claims such as ddim/consistency, a paper such as ddim, or `all`; none lists them."""
    seeds: Annotated[int, Range(1, 1000)] | None = None
    """How many seeds; by default each claim's own number."""
    fast: bool = False
    """Fewer samples and steps, with the same bounds, as the tests run them."""
    out: Path | None = None
    """Also write the figures as JSON."""


def reproduce_command(arguments: list[str]) -> int:
    parsed = parse(ReproduceArguments, arguments, "sfumato reproduce")
    from sfumato.claims import CLAIMS, judge
    from sfumato.data import pictures

    if not parsed.names:
        for claim in CLAIMS.values():
            at = "" if claim.holds else "  [does not hold at this scale]"
            print(f"{claim.name:28}{claim.statement}{at}")
        print("\nRun one with: sfumato reproduce ddim/consistency")
        return 0
    chosen = []
    for name in parsed.names:
        found = [c for c in CLAIMS.values() if name in ("all", c.name, c.name.split("/")[0])]
        if not found:
            near = get_close_matches(name, CLAIMS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise UsageError(f"unknown claim {name!r}{hint} (see: sfumato reproduce)")
        chosen += [claim for claim in found if claim not in chosen]
    if parsed.out:
        if parsed.out.is_dir():
            raise UsageError(f"--out {parsed.out} is a folder, not a file for the figures")
        writable(parsed.out.parent)
    records, surprises = [], 0
    for claim in chosen:
        verdict = judge(claim, seeds=parsed.seeds, fast=parsed.fast)
        print("\n".join(verdict.lines()), end="\n\n", flush=True)
        surprises += not verdict.as_expected
        records.append(
            {
                "claim": claim.name, "holds": verdict.holds, "expected": claim.holds, "fast": parsed.fast,
                "seconds": round(verdict.seconds, 1), "values": [dict(m.values) for m in verdict.measured],
                "bounds": {name: list(bound) for name, bound in claim.bounds.items()},
            }
        )  # fmt: skip
    if parsed.out:
        pictures.write_text(parsed.out, json.dumps(records, indent=1))
    return 1 if surprises else 0
