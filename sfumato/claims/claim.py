"""A claim of a paper as an experiment: what is said, what is measured, and between which numbers it has to lie.

No plotting here: lessons and docs draw what an experiment returns.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch


@dataclass(frozen=True)
class Measured:
    """What one seed of an experiment gave.

    Attributes:
        values: figures by name; those that the claim bounds decide.
        data: tensors for whoever draws the figure.
    """

    values: Mapping[str, float]
    data: Mapping[str, Any] = field(default_factory=dict)


Experiment = Callable[[int, bool], Measured]
"""(seed, fast) -> what came out. Fast is what the tests run: fewer samples or steps, the same bounds."""


@dataclass(frozen=True)
class Claim:
    """One claim.

    Attributes:
        name: PAPER/NAME.
        source: where the paper says it.
        statement: what it says, in a sentence.
        run: the experiment.
        bounds: low and high for the mean over seeds of each figure that decides.
        seeds: how many are run.
        seconds: about what one seed takes on one core.
        holds: whether it does at this scale; what does not is kept, and `note` says why.
        note: what a reader should know besides.
    """

    name: str
    source: str
    statement: str
    run: Experiment
    bounds: Mapping[str, tuple[float, float]]
    seeds: int = 3
    seconds: float = 1.0
    holds: bool = True
    note: str = ""


@dataclass(frozen=True)
class Verdict:
    """A claim with what was measured.

    Attributes:
        claim: the claim.
        measured: one for each seed.
        seconds: what all of it took.
    """

    claim: Claim
    measured: tuple[Measured, ...]
    seconds: float

    def mean(self, name: str) -> float:
        """Of a figure, over seeds."""
        return statistics.fmean(m.values[name] for m in self.measured)

    def spread(self, name: str) -> float:
        """Half the range of a figure over seeds."""
        values = [m.values[name] for m in self.measured]
        return (max(values) - min(values)) / 2

    @property
    def holds(self) -> bool:
        """Whether every bounded figure lies between its bounds."""
        return all(low <= self.mean(name) <= high for name, (low, high) in self.claim.bounds.items())

    @property
    def as_expected(self) -> bool:
        """Whether it came out as the claim records for this scale."""
        return self.holds == self.claim.holds

    def lines(self) -> list[str]:
        """The verdict in words."""
        text = [f"{self.claim.name}: {self.claim.statement}", f"  {self.claim.source}"]
        for name in self.measured[0].values:
            bound = self.claim.bounds.get(name)
            wanted = f"   [{_number(bound[0])}, {_number(bound[1])}]" if bound else ""
            text.append(f"  {name:42} {self.mean(name):10.4g} +- {self.spread(name):.2g}{wanted}")
        verdict = "holds" if self.holds else "does not hold"
        surprise = "" if self.as_expected else " (unexpectedly)"
        text.append(f"  {verdict} at this scale{surprise}; {len(self.measured)} seeds, {self.seconds:.1f} s")
        if self.claim.note:
            text.append(f"  {self.claim.note}")
        return text


def _number(value: float) -> str:
    return f"{value:g}" if abs(value) < float("inf") else "-"


def judge(claim: Claim, *, seeds: int | None = None, fast: bool = False) -> Verdict:
    """Run a claim over its seeds, on one thread, which suits small experiments best."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    began = time.perf_counter()
    try:
        measured = tuple(claim.run(seed, fast) for seed in range(seeds or claim.seeds))
    finally:
        torch.set_num_threads(threads)
    return Verdict(claim, measured, time.perf_counter() - began)
