"""Few steps: the Frechet distance of models of one to eight steps beside their teachers', at the same evaluations.

`python benchmarks/few_steps.py` trains each kind from its shipped teacher on fashion, all on as many images (--images,
40k), below runs/few-steps, measures what is missing in benchmarks/results/few_steps.json, and may be run again to go
on; it begins nothing new after --minutes, and `--only` names what to do. Each kind's pictures are drawn as soon as it
is measured, into docs/images/few-steps-KIND.png, a row for 1, 2, 4 and 8 steps; `--write` prints the table into
docs/few_steps.md and draws docs/images/few-steps-fd.png.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

from sfumato.cli import main as sfumato
from sfumato.data import open_source, pictures
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.plots import ACCENT, INK, SECOND, SOFT, panels
from sfumato.models import Model, load_model
from sfumato.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "few-steps"
RESULTS = ROOT / "benchmarks" / "results" / "few_steps.json"
PAGE, IMAGES = ROOT / "docs" / "few_steps.md", ROOT / "docs" / "images"
PICTURES, STEPS = 2000, (1, 2, 4, 8)
HALVINGS = 5
"""Of progressive distillation, 32 steps to 1."""


class Kind(NamedTuple):
    """A kind of model of few steps: the shipped model that it is trained from, and the command, but for its folder."""

    teacher: str
    command: tuple[str, ...]


def trained(preset: str, teacher: str, *more: str) -> Kind:
    return Kind(teacher, ("train", preset, "--from", teacher, "--train.learning-rate", "5e-4", *more))


FLOW = ("--recipe.time-scale", "1000")
KINDS = {
    "consistency": trained("consistency/fashion", "edm/fashion"),
    "distillation": Kind("ddpm/fashion", ("distill", "ddpm/fashion", "--from-steps", "32", "--to", "1")),
    "shortcut": trained("shortcut/fashion", "flow/fashion", *FLOW),
    "mean-flow": trained("mean_flow/fashion", "flow/fashion", *FLOW),
}
TEACHERS: dict[str, dict[str, tuple[int, ...]]] = {
    "dpmpp-2m?grid=karras": {"edm": (2, 4, 5, 8, 10), "ddpm": (2, 4, 5, 8, 10), "flow": (2, 4, 5, 8, 10)},
    "unipc?order=2&grid=karras": {"edm": (4, 5, 8), "ddpm": (4, 5, 8), "flow": (4, 5, 8)},
    "ddim?grid=karras": {"edm": (1, 2, 4, 5, 8)},
    "ddim": {"ddpm": (1, 2, 4, 5, 8), "flow": (1, 2, 4, 5, 8)},
}
"""Sampler -> teacher -> evaluations."""
COLOURS = {"consistency": ACCENT, "distillation": INK, "shortcut": SECOND, "mean-flow": "#5b8c5a"}
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def train(name: str, images: int) -> float:
    """Train a kind where it is not, or go on with it: the seconds that it took. SystemExit where it did not finish."""
    kind, out = KINDS[name], RUNS / name
    distilled = kind.command[0] == "distill"
    each = images // HALVINGS if distilled else images
    runs = [out / f"steps-{2**k}" for k in range(HALVINGS)] if distilled else [out]
    if not all((run / "report.html").exists() for run in runs):
        begun = (out / ("distill.json" if distilled else "config.json")).exists()
        new = [*kind.command, "--train.images", str(each), "--train.threads", "1", "--out", str(out)]
        if sfumato([kind.command[0], "--resume", str(out)] if begun else new):
            raise SystemExit(f"the training of {name} did not finish")
    return sum(float(RunFolder.open(run).metrics("train")[-1]["seconds"]) for run in runs)


def model(name: str, steps: int) -> Model:
    """The model for so many steps; progressive distillation has one for each number."""
    out = RUNS / name
    return load_model(str(out / f"steps-{steps}" if KINDS[name].command[0] == "distill" else out))


def wanted(only: list[str]) -> Iterator[tuple[str, str, str | None, int]]:
    """Key, kind or teacher, sampler, steps of every row, the trained kinds first."""
    for name in only or KINDS:
        yield from ((f"{name} {steps}", name, None, steps) for steps in STEPS)
    for spec, teachers in TEACHERS.items():
        for name, counts in teachers.items():
            yield from ((f"{name}, {spec} {steps}", f"{name}/fashion", spec, steps) for steps in counts)


def measure(images: int, minutes: float, only: list[str], seed: int = 1) -> None:
    """What is missing, until the time is over; of another seed than the first under a key that says so."""
    rows, net, end = stored(), in_domain("fashion"), time.monotonic() + 60 * minutes
    real = statistics(net(open_source("fashion:test").images).pooled)
    for row, name, sampler, steps in wanted(only):
        key = row if seed == 1 else f"{row}, seed {seed}"
        if key in rows:
            continue
        if time.monotonic() > end:
            return
        if sampler is None:
            rows[f"{name} trained"] = {"images": images, "seconds": round(train(name, images))}
        asked = load_model(name) if sampler else model(name, steps)
        made = asked.sample(PICTURES, steps=steps, sampler=sampler, seed=seed, batch=100)
        rows[key] = {"fd": round(frechet_distance(statistics(net(made).pooled), real), 3)}
        RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"{key:36} FD {rows[key]['fd']:.2f}", flush=True)
        if sampler is None and steps == STEPS[-1]:
            shown = [model(name, n).sample(16, steps=n, seed=1) for n in STEPS]
            pictures.save_png(IMAGES / f"few-steps-{name}.png", pictures.grid(torch.cat(shown), columns=16, scale=2))


def fd_of(rows: Rows) -> dict[str, dict[int, float]]:
    """Kind, or teacher and sampler -> steps -> distance."""
    named = [*KINDS, *(f"{name}, {spec}" for spec, teachers in TEACHERS.items() for name in teachers)]
    counts = sorted({*STEPS, *(n for teachers in TEACHERS.values() for of in teachers.values() for n in of)})
    return {way: {n: rows[f"{way} {n}"]["fd"] for n in counts if f"{way} {n}" in rows} for way in named}


def write() -> None:
    """The table between its markers, and the plot."""
    rows = stored()
    found = {way: values for way, values in fd_of(rows).items() if values}
    counts = sorted({n for values in found.values() for n in values})
    head = ["evaluations", *map(str, counts)]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for way, values in found.items():
        cells = [f"{values[n]:.2f}" if n in values else "" for n in counts]
        called = f"**{way}**, from {KINDS[way].teacher}" if way in KINDS else f"{way.replace(', ', ', `')}`"
        lines.append(f"| {called} | " + " | ".join(cells) + " |")
    text = "\n".join(lines)
    between = re.compile(r"(<!-- few steps -->\n).*(<!-- end of few steps -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda part: f"{part[1]}\n{text}\n\n{part[2]}", PAGE.read_text()))
    with panels(IMAGES / "few-steps-fd.png", "Frechet distance at each number of evaluations", 1, 6.5) as axes:
        for way, values in found.items():
            colour, style, width = (COLOURS[way], "o-", 1.4) if way in KINDS else (SOFT, "--", 0.8)
            axes.loglog(list(values), list(values.values()), style, color=colour, linewidth=width)
            axes.annotate(f" {way.partition('?')[0]}", (max(values), values[max(values)]), fontsize=6.5, color=colour)
        axes.set(xlabel="evaluations of the network", ylabel="FD")
        axes.set_xticks(counts, labels=[str(n) for n in counts])
        axes.set_yticks((0.5, 1, 2, 5, 10, 20), labels=("0.5", "1", "2", "5", "10", "20"))
        axes.minorticks_off()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", type=int, default=40_000)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="*", default=[], choices=KINDS)
    parser.add_argument("--seed", type=int, default=1, help="of the noise that is sampled from")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write() if arguments.write else measure(arguments.images, arguments.minutes, arguments.only, arguments.seed)
