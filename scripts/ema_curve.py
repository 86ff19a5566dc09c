"""The Frechet distance of a run by the length of its average: `python scripts/ema_curve.py RUN [--lengths 0.05 0.1]`.

Pictures of each average are compared with the test split of the run's data; the curve is recorded in the run's metrics
and drawn in its report, and `--weights best` takes the length of the least distance from then on.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sfumato.cli.measuring import cache_folder, default_reference, net_for
from sfumato.cli.numbers import checked
from sfumato.cli.parsing import device_of, sampler_of
from sfumato.data import Images, open_source
from sfumato.evaluate.lengths import curve
from sfumato.models import load_model
from sfumato.models.generate import Request


@dataclass(frozen=True)
class EmaCurve:
    """Measure the Frechet distance by the length of the average of a run."""

    run: Annotated[Path, tyro.conf.Positional]
    """A run folder with snapshots."""
    lengths: tuple[float, ...] = (0.03, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25)
    """sigma_rel of each average."""
    n: int = 1000
    """Pictures of each; no more than there are real ones."""
    sampler: str = "auto"
    """A sampler with its options."""
    seed: int = 0
    """The same noise for every length."""
    batch: int = 64
    """Pictures at a time."""
    reference: str | None = None
    """The real images; by default the test split of the run's data."""
    net: str = "auto"
    """The feature net; auto takes that of the data, or else lite0."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""


def main(arguments: list[str] | None = None) -> int:
    """Run the script; returns the exit code, 2 with one line where something does not fit."""
    parsed = tyro.cli(EmaCurve, args=arguments)
    try:
        checked(parsed)
        device, model = device_of(parsed.device), load_model(parsed.run)
        spec = parsed.reference or default_reference(None, str(model.about.get("data", {}).get("spec", "")))
        real = open_source(spec)
        assert isinstance(real, Images)
        sampler = sampler_of(parsed.sampler)
        steps = model.diffusion.usual(model.sampler(sampler))
        request = Request(min(parsed.n, len(real)), steps, sampler, parsed.seed, batch=parsed.batch)
        net = net_for(parsed.net, spec, real.shape, device)
        print(f"{'sigma_rel':>10}  {net.distance}")
        found = curve(
            parsed.run, parsed.lengths, real, net, request, device=device, cache=cache_folder(None),
            progress=lambda length, value: print(f"{length:10g}  {value:.3f}", flush=True),
        )  # fmt: skip
    except (ValueError, OSError) as error:
        print(f"ema_curve: {error}", file=sys.stderr)
        return 2
    print(f"the least is at {found.best:g}: sfumato sample {parsed.run} --weights best; {parsed.run}/report.html")
    return 0


if __name__ == "__main__":
    sys.exit(main())
