"""Few steps: the Frechet distance of models of one or two steps beside their teacher's, at the same evaluations.

`python benchmarks/few_steps.py` tunes `consistency/fashion` from `edm/fashion` below runs/few-steps (--images),
measures what is missing in benchmarks/results/few_steps.json, and may be run again to go on; `--run RUN` takes a run
that is there; `--write` prints the table into docs/few_steps.md and draws docs/images/few-steps.png, a row each.
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

import torch

from sfumato.cli import main as sfumato
from sfumato.data import open_source, pictures
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.models import Model, load_model
from sfumato.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
RUN = ROOT / "runs" / "few-steps"
RESULTS = ROOT / "benchmarks" / "results" / "few_steps.json"
PAGE, SHEET = ROOT / "docs" / "few_steps.md", ROOT / "docs" / "images" / "few-steps.png"
TEACHER, PICTURES = "edm/fashion", 2000
WAYS: dict[str, tuple[str | None, tuple[int, ...]]] = {
    "consistency": (None, (1, 2, 4, 8)),
    "teacher, dpmpp-2m": ("dpmpp-2m?grid=karras", (2, 4, 5, 8, 10)),
    "teacher, unipc": ("unipc?order=2&grid=karras", (4, 5, 8)),
    "teacher, ddim": ("ddim?grid=karras", (1, 2, 4, 5, 8)),
}
DRAWN = (*(("consistency", n) for n in (1, 2)), *(("teacher, dpmpp-2m", n) for n in (2, 5, 10)))
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def model(way: str, run: Path) -> Model:
    return load_model(TEACHER if way.startswith("teacher") else str(run))


def measure(run: Path, images: str) -> None:
    if not (run / "report.html").exists():
        new = ["train", "consistency/fashion", "--from", TEACHER, "--train.images", images, "--train.threads", "1",
               "--train.learning-rate", "5e-4", "--out", str(run)]  # fmt: skip
        if sfumato(["train", "--resume", str(run)] if (run / "config.json").exists() else new):
            raise SystemExit("the training did not finish")
    rows, net = stored(), in_domain("fashion")
    last = RunFolder.open(run).metrics("train")[-1]
    rows["trained"] = {"images": last["images"], "seconds": last["seconds"]}
    real = statistics(net(open_source("fashion:test").images).pooled)
    for way, (sampler, counts) in WAYS.items():
        for steps in counts:
            key = f"{way} {steps}"
            if key in rows:
                continue
            made = model(way, run).sample(PICTURES, steps=steps, sampler=sampler, seed=1, batch=100)
            rows[key] = {"fd": round(frechet_distance(statistics(net(made).pooled), real), 3)}
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(f"{key:28} FD {rows[key]['fd']:.2f}", flush=True)


def write(run: Path) -> None:
    """The table between its markers, and the pictures."""
    rows = stored()
    counts = sorted({int(key.rpartition(" ")[2]) for key in rows if key != "trained"})
    lines = ["| evaluations | " + " | ".join(map(str, counts)) + " |", "|---" * (len(counts) + 1) + "|"]
    for way in WAYS:
        cells = [f"{rows[f'{way} {n}']['fd']:.2f}" if f"{way} {n}" in rows else "" for n in counts]
        lines.append(f"| {way} | " + " | ".join(cells) + " |")
    text = "\n".join(lines)
    between = re.compile(r"(<!-- few steps -->\n).*(<!-- end of few steps -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    shown = [model(way, run).sample(16, steps=steps, sampler=WAYS[way][0], seed=1) for way, steps in DRAWN]
    pictures.save_png(SHEET, pictures.grid(torch.cat(shown), columns=16, scale=2))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--images", default="40k")
    parser.add_argument("--run", type=Path, default=RUN)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write(arguments.run) if arguments.write else measure(arguments.run, arguments.images)
