"""DDPM, EDM and flow matching at the same images seen: Frechet distance against evaluations, by each one's samplers.

`python benchmarks/edm_flow.py` trains what is missing below runs/edm-flow (digits by three seeds, fashion by one) and
measures 500 pictures of each sampler, a row at a time, into benchmarks/results/edm_flow.json. After --minutes (15) it
stops, in the middle of a training, too, and goes on there the next time. `--write` prints the tables into
docs/edm_flow.md and draws docs/images/edm-flow.png.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple

import torch

from sfumato import samplers
from sfumato.cli import main as sfumato
from sfumato.data import open_source
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.plots import ACCENT, INK, SECOND, panels
from sfumato.models import load_model

ROOT = Path(__file__).parent.parent
RUNS, RESULTS = ROOT / "runs" / "edm-flow", ROOT / "benchmarks" / "results" / "edm_flow.json"
PAGE, PLOT = ROOT / "docs" / "edm_flow.md", ROOT / "docs" / "images" / "edm-flow.png"
PICTURES = 500
PAPERS = ("ddpm", "edm", "flow")
SEEDS = {"digits": (0, 1, 2), "fashion": (0,)}
SOLVERS: dict[str, tuple[int, ...]] = {
    "dpmpp-2m?grid=karras": (5, 10, 20),
    "ddim": (5, 10, 20, 50, 100),
    "heun": (3, 5, 10, 25),
    "sit": (50,),
}
"""Sampler -> numbers of moves; a Heun move has two evaluations, but for the last of it."""
MARKS: tuple[tuple[Any, str], ...] = (("-", "o"), ("--", "s"), (":", "^"), ("-.", "D"))
"""Dashes and marker of each sampler in the plot."""
COLOURS = dict(zip(PAPERS, (INK, ACCENT, SECOND), strict=True))
Rows = dict[str, dict[str, Any]]


class Run(NamedTuple):
    """One training: a paper's small preset, its data set, the seed and the images seen."""

    paper: str
    data: str
    seed: int
    images: int

    @property
    def folder(self) -> Path:
        return RUNS / f"{self.data}-{self.paper}-{self.images}-{self.seed}"


def runs(images: dict[str, int]) -> Iterator[Run]:
    for data, seeds in SEEDS.items():
        for seed in seeds:
            yield from (Run(paper, data, seed, images[data]) for paper in PAPERS)


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def measure(minutes: float, images: dict[str, int]) -> None:
    """What is missing, run by run, until the time is over."""
    end, rows = time.perf_counter() + 60 * minutes, stored()
    for run in runs(images):
        keys = {(spec, n): f"{run.folder.name} {spec} {n}" for spec, counts in SOLVERS.items() for n in counts}
        if all(key in rows for key in keys.values()):
            continue
        if time.perf_counter() > end:
            return
        if not train(run, end):
            return
        model, net = load_model(run.folder), in_domain(run.data)
        real = statistics(net(open_source(f"{run.data}:test").images).pooled)
        for (spec, n), key in keys.items():
            if key in rows:
                continue
            if time.perf_counter() > end:
                return
            pictures = model.sample(PICTURES, steps=n, sampler=spec, seed=1, batch=100)
            fd = frechet_distance(statistics(net(pictures).pooled), real)
            asked = samplers.evaluations(model.sampler(spec), model.diffusion.gaussian, n)
            rows[key] = {**run._asdict(), "sampler": spec, "steps": n, "evaluations": asked, "fd": round(fd, 3),
                         "net": net.distance}  # fmt: skip
            RESULTS.write_text(json.dumps(rows, indent=1))
            print(f"{key:60} {asked:4} evaluations  FD {fd:.3f}", flush=True)


def train(run: Run, end: float) -> bool:
    """Train it, or go on with it, until the time is over, when it is interrupted: whether it is done."""
    out = run.folder
    if (out / "report.html").exists():
        return True
    print(f"== training {out.name}", flush=True)
    new = [f"{run.paper}/{run.data}", "--train.images", str(run.images), "--train.seed", str(run.seed),
           "--train.threads", "1", "--train.preview-images", "0", "--out", str(out)]  # fmt: skip
    signal.signal(signal.SIGALRM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    signal.setitimer(signal.ITIMER_REAL, max(end - time.perf_counter(), 1.0))
    code = sfumato(["train", *(["--resume", str(out)] if (out / "config.json").exists() else new)])
    signal.setitimer(signal.ITIMER_REAL, 0)
    if code not in (0, 128 + signal.SIGINT):
        raise SystemExit(f"training {out.name} failed")
    return code == 0


def table(rows: list[dict[str, Any]]) -> str:
    """A line for each paper and sampler, a column for each number of evaluations; their range where there are seeds."""
    columns = sorted({row["evaluations"] for row in rows})
    first = rows[0]
    seeds = len({row["seed"] for row in rows})
    head = f"**{first['data']}**, {first['images']:,} images seen, {seeds} seed{'s' * (seeds > 1)} ({first['net']})"
    lines = [head, "", "| evaluations | " + " | ".join(map(str, columns)) + " |", "|---" * (len(columns) + 1) + "|"]
    for paper in PAPERS:
        for spec in SOLVERS:
            cells = [sorted(r["fd"] for r in rows if (r["paper"], r["sampler"], r["evaluations"]) == (paper, spec, n))
                     for n in columns]  # fmt: skip
            if any(cells):
                shown = [f"{c[0]:.2f}" if len(c) == 1 else f"{c[0]:.2f} to {c[-1]:.2f}" if c else "" for c in cells]
                lines.append(f"| {paper}, `{spec}` | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def missing(rows: list[dict[str, Any]], data: str, images: int) -> str:
    """A sentence on what of a set is not measured, or measured in part; nothing where all is."""
    each, parts = sum(map(len, SOLVERS.values())), []
    for paper in PAPERS:
        mine = [r["seed"] for r in rows if (r["paper"], r["data"], r["images"]) == (paper, data, images)]
        counts = {seed: mine.count(seed) for seed in SEEDS[data]}
        none = [str(seed) for seed, count in counts.items() if not count]
        if none:
            parts.append(f"{paper} seed{'s' * (len(none) > 1)} {', '.join(none)}")
        parts += [f"{each - n} of {each} rows of {paper} seed {seed}" for seed, n in counts.items() if 0 < n < each]
    return f"Not measured at {images:,} images of {data}: {'; '.join(parts)}." if parts else ""


def write() -> None:
    """The tables in docs/edm_flow.md, between its markers, and the plot."""
    rows = list(stored().values())
    if not rows:
        raise SystemExit(f"{RESULTS} has no rows yet: run this without --write first")
    groups = {(data, images): [r for r in rows if (r["data"], r["images"]) == (data, images)]
              for data, images in sorted({(r["data"], r["images"]) for r in rows})}  # fmt: skip
    said = [part for key, mine in groups.items() for part in (table(mine), missing(rows, *key)) if part]
    said += [f"Not measured: {data}." for data in SEEDS if data not in {row["data"] for row in rows}]
    text = "\n\n".join([*said, f"![Frechet distance against evaluations of the network](images/{PLOT.name})"])
    between = re.compile(r"(<!-- edm-flow -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    with panels(PLOT, "Frechet distance at each cost", len(groups), 5.0) as axes:
        for ax, (key, mine) in zip([axes] if len(groups) == 1 else axes, groups.items(), strict=True):
            draw(ax, mine, *key)


def draw(ax: Any, rows: list[dict[str, Any]], data: str, images: int) -> None:
    """A line for each paper, its colour, and each sampler, its dashes; where there are seeds, through their means."""
    from matplotlib.lines import Line2D
    from matplotlib.ticker import LogFormatter, NullFormatter

    papers = [paper for paper in PAPERS if any(row["paper"] == paper for row in rows)]
    for paper in papers:
        for spec, (dashes, marker) in zip(SOLVERS, MARKS, strict=True):
            mine = [row for row in rows if (row["paper"], row["sampler"]) == (paper, spec)]
            counts = sorted({row["evaluations"] for row in mine})
            means = [mean(row["fd"] for row in mine if row["evaluations"] == n) for n in counts]
            ax.plot(counts, means, dashes, marker=marker, markersize=4, linewidth=1.2, color=COLOURS[paper])
    ax.set(xlabel="evaluations of the network", ylabel="FD", xscale="log", yscale="log")
    ax.set_title(f"{data}, {images:,} images seen", fontsize=9)
    ax.set_xticks((5, 10, 20, 50, 100), labels=("5", "10", "20", "50", "100"))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.yaxis.set_major_formatter(LogFormatter())
    ax.yaxis.set_minor_formatter(LogFormatter())
    keys = [Line2D([], [], color=COLOURS[paper], label=paper) for paper in papers]
    keys += [Line2D([], [], color="grey", linestyle=dashes, marker=marker, markersize=4, label=spec)
             for spec, (dashes, marker) in zip(SOLVERS, MARKS, strict=True)]  # fmt: skip
    ax.legend(handles=keys, fontsize=7, frameon=False)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--digits", type=int, default=20_000, help="images seen on digits")
    parser.add_argument("--fashion", type=int, default=20_000, help="images seen on fashion")
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = options()
    torch.set_num_threads(1)
    if arguments.write:
        write()
    else:
        measure(arguments.minutes, {"digits": arguments.digits, "fashion": arguments.fashion})
