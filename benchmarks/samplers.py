"""Every solver on the shipped models: the Frechet distance of 2,000 pictures against evaluations of the network.

`python benchmarks/samplers.py` measures what is missing in benchmarks/results/samplers.json, a row at a time and for at
most --minutes (15), and may be run again to go on; `--write` prints the tables into docs/samplers.md and draws
docs/images/samplers.png. All pictures of a model start from the same noise. A GPU does it all in two minutes: `--device
cuda --batch 2000`, a process a model, each with its own --results; `--merge FILES` gathers them.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sfumato import samplers
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Sampler
from sfumato.data import open_source
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.plots import panels
from sfumato.models import Model, load_model
from sfumato.samplers.dpm_solver import DPMSolverPP2M
from sfumato.samplers.grids import karras
from sfumato.samplers.optimised import fitted

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "samplers.json"
PAGE, PLOT = ROOT / "docs" / "samplers.md", ROOT / "docs" / "images" / "samplers.png"
PICTURES = 2000
LINE = ("ddpm/fashion", "iddpm/fashion", "adm/fashion", "ddpm/emoji32", "adm/emoji32")
SCORE = ("score_sde/fashion", "score_sde/fashion-subvp", "score_sde/fashion-ve", "ncsnv2/fashion", "ncsn/fashion")
LATER = ("edm/fashion", "flow/fashion")
MODELS = (*LINE, *SCORE, *LATER)
FEW = (5, 6, 8, 10, 12, 16, 20)
SOLVERS: dict[str, tuple[int, ...]] = {
    "dpmpp-2m?grid=karras": (*FEW, 32, 50),
    "ddim": (*FEW, 50, 100),
    "own": (100,),
    "unipc?order=2&grid=karras": (5, 6, 8, 10, 12, 16),
    "dpmpp-2m?grid=log-snr": (6, 8, 10, 12, 16),
    "dpmpp-2m?grid=optimised": (5, 6, 8, 10, 12, 20),
    "dpmpp-3m-published?grid=karras": (6, 8, 10, 12, 16),
    "dpmpp-3m?grid=karras": (8, 10, 12, 16, 20),
    "dpmpp-3m?grid=log-snr": (8, 10, 12, 16, 20),
    "unipc?grid=log-snr": (8, 10, 12, 16, 20),
    "ab?order=2&grid=karras": (8, 10, 16, 20),
    "heun?grid=karras": (3, 4, 5, 8, 10, 18),
    "dpmpp-2s?grid=karras": (3, 4, 5, 8),
    "ab": (8, 10, 16, 20),
    "ddim?grid=karras": (10, 20),
    "dpmpp-2m": (10, 20),
    "dpmpp-2m?grid=karras&rho=4": (8, 10),
    "dpmpp-2m?grid=karras&rho=10": (8, 10),
    "sde-dpmpp-2m?grid=karras": (10, 20, 50),
    "ancestral": (50, 100),
}
"""Sampler -> numbers of moves."""
DRAWN = ("ddim", "dpmpp-2m?grid=karras", "dpmpp-2m?grid=optimised", "unipc?order=2&grid=karras", "heun?grid=karras",
         "ab")  # fmt: skip
Rows = dict[str, dict[str, Any]]


def stored(path: Path) -> Rows:
    rows: Rows = json.loads(path.read_text()) if path.exists() else {}
    return rows


def chosen(model: Model, spec: str, steps: int) -> Sampler:
    """The sampler of a row: of the table, on a grid of another rho, or on one that is optimised for the model."""
    if "grid=optimised" in spec:
        process, shape = model.diffusion.gaussian, (64, *model.recipe.space.shape(model.recipe.shape))
        labels = model.labels(None, 64) if model.recipe.conditioning.classes else None
        with torch.inference_mode():
            x = model.diffusion.prior(shape, model.device).sample(ImageNoise(5, range(64)))
            return fitted(DPMSolverPP2M(), process, model.denoiser(labels), x, steps)
    if "rho" in spec:
        return DPMSolverPP2M(grid=partial(karras, rho=float(spec.rpartition("=")[2])))
    return model.sampler(spec)


def measure(minutes: float, wanted: argparse.Namespace) -> None:
    """What is missing, model by model, until the time is over."""
    end, rows = time.perf_counter() + 60 * minutes, stored(wanted.results)
    for name in wanted.only or MODELS:
        domain = name.partition("/")[2].partition("-")[0]
        file = wanted.models and wanted.models / f"{name.replace('/', '-')}.safetensors"
        net, model = in_domain(domain, wanted.device), load_model(str(file or name)).to(wanted.device)
        real = statistics(net(open_source(f"{domain}:test").images).pooled)
        for spec, counts in SOLVERS.items():
            for steps in counts:
                key = f"{name} {spec} {steps}"
                if key in rows or (spec == "own" and model.diffusion.variance is not None):
                    continue
                if time.perf_counter() > end:
                    return
                began = time.perf_counter()
                try:
                    sampler = chosen(model, spec, steps)
                    images = model.sample(PICTURES, steps=steps, sampler=sampler, seed=1, batch=wanted.batch)
                    asked = samplers.evaluations(sampler, model.diffusion.gaussian, steps)
                except ValueError as error:  # what its schedule has not
                    print(f"{key}: {error}", flush=True)
                    continue
                fd = frechet_distance(statistics(net(images).pooled), real)
                rows[key] = {"model": name, "sampler": spec, "steps": steps, "evaluations": asked, "fd": round(fd, 3),
                             "seconds": round(time.perf_counter() - began, 1), "net": net.distance}  # fmt: skip
                wanted.results.write_text(json.dumps(rows, indent=1))
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
    rows = stored(RESULTS)
    names = [name for name in MODELS if any(row["model"] == name for row in rows.values())]
    text = "\n\n".join(table(rows, name) for name in names)
    between = re.compile(r"(<!-- tables -->\n).*(<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    drawn = [name for name in names if name in ("ddpm/fashion", "adm/fashion", "score_sde/fashion", "ddpm/emoji32")]
    with panels(PLOT, "Frechet distance against evaluations of the network", len(drawn), 3.6) as axes:
        for ax, name in zip(axes, drawn, strict=True):
            for i, spec in enumerate(DRAWN):
                points = sorted((r["evaluations"], r["fd"]) for r in rows.values()
                                if (r["model"], r["sampler"]) == (name, spec))  # fmt: skip
                if points:
                    ax.plot(*zip(*points, strict=True), marker="o", markersize=3, color=f"C{i}", label=spec)
            ax.set(title=name, xlabel="evaluations", xscale="log", yscale="log")
        axes[0].set_ylabel("FD")
        axes[0].legend(fontsize=6)


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="*", default=[], choices=MODELS)
    parser.add_argument("--models", type=Path, help="a folder of checkpoints, instead of those that ship")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--batch", type=int, default=100)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--merge", nargs="*", type=Path, default=[], help="files of results to add to the stored ones")
    parser.add_argument("--write", action="store_true")
    return parser.parse_args()


if __name__ == "__main__":
    arguments = options()
    torch.set_num_threads(1)
    if arguments.merge:
        gathered = stored(RESULTS)
        for path in arguments.merge:
            gathered |= stored(path)
        RESULTS.write_text(json.dumps(dict(sorted(gathered.items())), indent=1))
    if arguments.write:
        write()
    elif not arguments.merge:
        measure(arguments.minutes, arguments)
