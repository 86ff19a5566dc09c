"""Every solver on four shipped models: the Frechet distance of 1,000 pictures against evaluations of the network.

`python benchmarks/samplers.py` measures what is missing in benchmarks/results/samplers.json, a row at a time and for at
most --minutes (15), and may be run again to go on; `--write` prints the tables into docs/samplers.md and draws
docs/images/samplers.png. All pictures of a model start from the same noise.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import torch

from sfumato import samplers
from sfumato.data import open_source
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.plots import panels
from sfumato.models import load_model

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "samplers.json"
PAGE, PLOT = ROOT / "docs" / "samplers.md", ROOT / "docs" / "images" / "samplers.png"
PICTURES, BATCH = 1000, 100
MODELS = ("ddpm/fashion", "adm/fashion", "iddpm/fashion", "score_sde/fashion", "ddpm/emoji32")
SOLVERS: dict[str, tuple[int, ...]] = {
    "ddim": (10, 20, 50),
    "ddim?grid=karras": (10, 20),
    "dpmpp-2m": (10, 20),
    "dpmpp-2m?grid=karras": (5, 6, 8, 10, 12, 15, 20),
    "dpmpp-2m?grid=log-snr": (6, 8, 10, 15),
    "dpmpp-3m?grid=karras": (8, 10, 15),
    "dpmpp-3m?grid=log-snr": (8, 10, 15),
    "dpmpp-3m-published?grid=karras": (8, 10, 15),
    "unipc?order=2&grid=karras": (6, 8, 10, 15),
    "unipc?grid=log-snr": (8, 10, 15),
    "ab?grid=karras": (8, 10, 15),
    "dpmpp-2s?grid=karras": (5, 8),
    "heun?grid=karras": (5, 8),
    "sde-dpmpp-2m?grid=karras": (10, 20, 50),
    "ancestral": (50,),
    "own": (100,),
}
"""Sampler -> numbers of moves."""
DRAWN = ("ddim", "dpmpp-2m?grid=karras", "unipc?order=2&grid=karras", "heun?grid=karras", "ab?grid=karras")
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def measure(minutes: float, only: list[str]) -> None:
    """What is missing, model by model, until the time is over."""
    end, rows = time.perf_counter() + 60 * minutes, stored()
    for name in only or MODELS:
        domain = name.partition("/")[2].partition("-")[0]
        net, model = in_domain(domain), load_model(name)
        real = statistics(net(open_source(f"{domain}:test").images).pooled)
        process = model.diffusion.gaussian
        for spec, counts in SOLVERS.items():
            for steps in counts:
                key = f"{name} {spec} {steps}"
                if key in rows or (spec == "own" and model.diffusion.variance is not None):
                    continue
                if time.perf_counter() > end:
                    return
                began = time.perf_counter()
                images = model.sample(PICTURES, steps=steps, sampler=spec, seed=1, batch=BATCH)
                asked = samplers.evaluations(model.sampler(spec), process, steps)
                fd = frechet_distance(statistics(net(images).pooled), real)
                rows[key] = {"model": name, "sampler": spec, "steps": steps, "evaluations": asked, "fd": round(fd, 3),
                             "seconds": round(time.perf_counter() - began, 1), "net": net.distance}  # fmt: skip
                RESULTS.write_text(json.dumps(rows, indent=1))
                print(f"{key:50} {asked:4} evaluations  FD {fd:.3f}", flush=True)


def table(rows: Rows, name: str) -> str:
    """A table of one model: a line a solver, a column a number of evaluations."""
    mine = [row for row in rows.values() if row["model"] == name]
    columns = sorted({row["evaluations"] for row in mine})
    lines = [f"**{name}** ({mine[0]['net']}, {PICTURES:,} pictures)", "",
             "| evaluations | " + " | ".join(map(str, columns)) + " |", "|---" * (len(columns) + 1) + "|"]  # fmt: skip
    for spec in SOLVERS:
        found = {row["evaluations"]: row["fd"] for row in mine if row["sampler"] == spec}
        if found:
            lines.append(f"| `{spec}` | " + " | ".join(f"{found[n]:.2f}" if n in found else "" for n in columns) + " |")
    return "\n".join(lines)


def write() -> None:
    """The tables in docs/samplers.md, between its markers, and the plot."""
    rows = stored()
    names = [name for name in MODELS if any(row["model"] == name for row in rows.values())]
    text = "\n\n".join(table(rows, name) for name in names)
    between = re.compile(r"(<!-- tables -->\n).*(<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    with panels(PLOT, "Frechet distance against evaluations of the network", len(names), 3.6) as axes:
        for ax, name in zip(axes, names, strict=True):
            for spec in DRAWN:
                points = sorted((r["evaluations"], r["fd"]) for r in rows.values()
                                if (r["model"], r["sampler"]) == (name, spec))  # fmt: skip
                if points:
                    ax.plot(*zip(*points, strict=True), marker="o", markersize=3, label=spec)
            ax.set(title=name, xlabel="evaluations", xscale="log", yscale="log")
        axes[0].set_ylabel("FD")
        axes[-1].legend(fontsize=7)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="*", default=[], choices=MODELS)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.write:
        write()
    else:
        measure(arguments.minutes, arguments.only)
