"""Time to quality: which recipe, weight, time density, batch, learning rate and average is best for a short training.

`python benchmarks/time_to_quality.py` trains and scores what is missing in benchmarks/results/time_to_quality.json, a
row at a time and for at most --minutes (15), and may be run again to go on: every variant on digits with three seeds,
at the same images seen; with `--budget fashion` those that are named by --only; with `--budget "eight minutes"` these
in eight minutes of one core each, with a sheet of their pictures below runs/time-to-quality (two at once, to compare
them on one machine at one time). `--write` prints docs/training.md's tables and draws the sheets side by side. A
variant differs from the first, the preset as it was before, by what its name says (two see more images, for the
processor time that smaller batches cost on digits); all are sampled alike, by DPM-Solver++(2M) in 10 steps and by
DDIM in 50.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import re
import statistics as st
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from sfumato.cli import main as sfumato
from sfumato.data import open_source, pictures
from sfumato.data.splits import test_split
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.models import load_model

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "time_to_quality.json", ROOT / "docs" / "training.md"
SHEETS, PICTURE = ROOT / "runs" / "time-to-quality", ROOT / "docs" / "images" / "before-and-after.png"
BUDGETS = {
    "digits": ("digits", "--train.images", "30_000"),
    "fashion": ("fashion", "--train.images", "30_000"),
    "eight minutes": ("fashion", "--train.minutes", "8"),
}
"""Name -> the data and the budget of a training."""
PICTURES = 1000
BEFORE = {"--train.batch": "64", "--recipe.weight": "v"}
"""Where a line says nothing else: the presets before what was found here became their default; the weight is ddpm's."""
NOW = "as it is now"
VARIANTS: dict[str, tuple[str, ...]] = {
    "as it was": ("ddpm",),
    NOW: ("ddpm",),
    "batch 32": ("ddpm", "--train.batch", "32"),
    "batch 16": ("ddpm", "--train.batch", "16"),
    "as it was, 1.2 times the images": ("ddpm", "--train.images", "36_000"),
    "as it was, 1.8 times the images": ("ddpm", "--train.images", "55_000"),
    "batch 32, learning rate 1e-3": ("ddpm", "--train.batch", "32", "--train.learning-rate", "1e-3"),
    "learning rate 4e-3": ("ddpm", "--train.learning-rate", "4e-3"),
    "learning rate 1e-3": ("ddpm", "--train.learning-rate", "1e-3"),
    "beta2 0.999": ("ddpm", "--train.betas", "0.9", "0.999"),
    "weight eps": ("ddpm", "--recipe.weight", "eps"),
    "weight min-snr": ("ddpm", "--recipe.weight", "min-snr"),
    "weight p2": ("ddpm", "--recipe.weight", "p2"),
    "uncertainty": ("ddpm", "--train.uncertainty"),
    "times random": ("ddpm", "--train.times", "random"),
    "noising optimal": ("ddpm", "--recipe.noising", "optimal"),
    "EDM": ("edm",),
    "EDM, batch 32": ("edm", "--train.batch", "32"),
    "flow": ("flow",),
    "flow, logit-normal": ("flow", "--recipe.times", "logit-normal"),
    "batch 32, learning rate 4e-3": ("ddpm", "--train.batch", "32", "--train.learning-rate", "4e-3"),
    "weight min-snr, batch 32": ("ddpm", "--recipe.weight", "min-snr", "--train.batch", "32"),
    "weight min-snr, batch 16": ("ddpm", "--recipe.weight", "min-snr", "--train.batch", "16"),
    "weight p2, batch 32": ("ddpm", "--recipe.weight", "p2", "--train.batch", "32"),
    "weight min-snr, learning rate 4e-3": ("ddpm", "--recipe.weight", "min-snr", "--train.learning-rate", "4e-3"),
    "ADM": ("adm",),
    "ADM, batch 32": ("adm", "--train.batch", "32"),
    "VP SDE": ("score_sde",),
    "VP SDE, batch 32": ("score_sde", "--train.batch", "32"),
}
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def scored(budget: str, variant: str, seed: int) -> dict[str, float]:
    """Train one variant and score it."""
    data, *until = BUDGETS[budget]
    paper, *options = VARIANTS[variant]
    for flag, value in BEFORE.items() if variant != NOW else ():
        if flag not in options and (paper == "ddpm" or flag.startswith("--train")):
            options += [flag, value]
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        until = [] if until[0] in options else until
        words = ["train", f"{paper}/{data}", "--train.threads", "1", "--train.seed", str(seed),
                 "--train.preview-images", "0", "--out", str(run), *until, *options]  # fmt: skip
        began = time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            if sfumato(words):
                raise SystemExit(f"the training of {variant} did not finish")
        spent, net = time.process_time() - began, in_domain(data)
        real = statistics(net(open_source(test_split(data) or data).images).pooled)
        model = load_model(str(run))
        row = {"seconds": round(spent, 1), "images": model.about["images"]}
        if budget == "eight minutes":
            pictures.save_png(sheet(variant), pictures.grid(model.sample(48, seed=0), columns=12, scale=2))
        for weights in ("0.999", "0.05", "0.10"):
            model = load_model(str(run), weights=weights)
            for name, sampler, steps in (("2m", "dpmpp-2m?grid=karras", 10), ("ddim", "ddim", 50)):
                if weights == "0.999" or name == "2m":
                    made = net(model.sample(PICTURES, steps=steps, sampler=sampler, seed=1, batch=250))
                    key = name if weights == "0.999" else f"{name}, length {weights}"
                    row[key] = round(frechet_distance(statistics(made.pooled), real), 3)
        return row


def sheet(variant: str) -> Path:
    """Where the pictures of eight minutes are."""
    SHEETS.mkdir(parents=True, exist_ok=True)
    return SHEETS / f"{variant.replace(' ', '-')}.png"


def measure(budget: str, seeds: int, minutes: float, only: list[str]) -> None:
    """What is missing, until the time is over; one seed of all before the next."""
    end = time.monotonic() + 60 * minutes
    for seed in range(seeds):
        for variant in only or VARIANTS:
            key = f"{budget}, {variant}, {seed}"
            if key in stored():
                continue
            if time.monotonic() > end:
                return
            row = scored(budget, variant, seed)
            RESULTS.write_text(json.dumps(stored() | {key: row}, indent=1) + "\n")
            print(f"{key:44} {row}", flush=True)


def table(rows: Rows, budget: str) -> str:
    """A line a variant: the mean over seeds, and their deviation."""
    data, flag, much = BUDGETS[budget]
    said = f"{data}, {int(much):,} {flag.rpartition('.')[2]}"
    lines = [f"| {said} | seeds | FD by 2M, 10 | average of length .05 | .10 | "
             "FD by DDIM, 50 | CPU seconds | images seen |", "|---" * 8 + "|"]  # fmt: skip
    for variant in VARIANTS:
        mine = [row for key, row in rows.items() if key.startswith(f"{budget}, {variant}, ") and key.count(",")
                == variant.count(",") + 2]  # fmt: skip
        if not mine:
            continue
        cells = [f"| {variant} | {len(mine)}"]
        for key in ("2m", "2m, length 0.05", "2m, length 0.10", "ddim"):
            values = [row[key] for row in mine]
            spread = f" ± {st.stdev(values):.2f}" if len(values) > 1 else ""
            cells.append(f"{st.mean(values):.2f}{spread}")
        seen = f"{st.mean(row['images'] for row in mine):,.0f}" if all("images" in row for row in mine) else ""
        lines.append(" | ".join([*cells, f"{st.mean(row['seconds'] for row in mine):.0f} | {seen} |"]))
    return "\n".join(lines)


def write() -> None:
    """The tables in docs/training.md, between their markers."""
    rows = stored()
    text = "\n\n".join(table(rows, budget) for budget in BUDGETS if any(key.startswith(budget) for key in rows))
    between = re.compile(r"(<!-- time to quality -->\n).*(<!-- end of time to quality -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    if there := [sheet(variant) for variant in VARIANTS if sheet(variant).exists()]:
        drawn = [torch.from_numpy(np.array(Image.open(path))) for path in there]
        gap = torch.full((8, drawn[0].shape[1]), 255, dtype=torch.uint8)
        pictures.save_png(PICTURE, torch.cat([part for one in drawn for part in (one, gap)][:-1])[None])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--budget", default="digits", choices=BUDGETS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="*", default=[], choices=VARIANTS)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write() if arguments.write else measure(arguments.budget, arguments.seeds, arguments.minutes, arguments.only)
