"""The backbones beside the U-Net, at like operations and the same images seen: distance to real images, and speed.

`python benchmarks/backbones.py [--minutes 20]` trains what is missing below runs/backbones for so long at most, keeps a
row a run in benchmarks/results/backbones.json, and prints the table of docs/backbones.md; `--table` prints what is
stored.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from sfumato.cli import main as sfumato
from sfumato.cost.network import forward_flops, parameters, throughput
from sfumato.data import open_source
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.models import load_model
from sfumato.papers.presets import PRESETS

ROOT = Path(__file__).parent.parent
RUNS, RESULTS = ROOT / "runs" / "backbones", ROOT / "benchmarks" / "results" / "backbones.json"
BUDGETS = {"digits": ("30k", (0, 1, 2)), "fashion": ("40k", (0,))}
"""Images seen, and seeds."""
WAYS = ("ddpm", "dit", "uvit", "flow", "jit", "edm", "mp")
"""Tables of presets: the U-Net of `ddpm`, `flow` and `edm`, each before the backbones that take its recipe."""
PICTURES, STEPS = 1000, 20
ALIKE = {"ddpm": ("--recipe.weight", "v")}
"""So that only the backbone differs: `dit` and `uvit` weigh so. All of clothes have batches of 64."""


def stored() -> dict[str, Any]:
    """Rows by preset and seed."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def row(preset: str, seed: int, images: str) -> dict[str, Any]:
    """Train, sample and measure."""
    out, data = RUNS / f"{preset.replace('/', '-')}-{seed}", preset.partition("/")[2]
    options = ["--train.seed", str(seed), "--train.images", images, "--train.threads", "1", "--out", str(out)]
    options += [*ALIKE.get(preset.partition("/")[0], ()), *(("--train.batch", "64") if data == "fashion" else ())]
    if (out / "config.json").exists():
        options = ["--resume", str(out)]
    if not (out / "report.html").exists() and sfumato(["train", *options] if options[0] == "--resume" else
                                                      ["train", preset, *options]):  # fmt: skip
        raise SystemExit(f"training {preset} did not finish")
    model, net = load_model(out), in_domain(data)
    real = open_source(f"{data}:test" if data == "fashion" else data)
    samples = model.sample(PICTURES, steps=STEPS, batch=250)
    distance = frechet_distance(statistics(net(samples).pooled), statistics(net(real.images).pooled))
    recipe = PRESETS[preset].recipe
    training, forward = throughput(recipe, recipe.model(), 64, "float32", 1.0)
    return {
        "fd": distance, "net": net.distance, "images": images, "training": training, "forward": forward,
        "flops": forward_flops(recipe), "parameters": parameters(model.network),
    }  # fmt: skip


def measure(minutes: float) -> None:
    """Every row that is missing, until the minutes are over."""
    started = time.perf_counter()
    for data, (images, seeds) in BUDGETS.items():
        for seed in seeds:
            for way in WAYS:
                key = f"{way}/{data} {seed}"
                if key in stored() or time.perf_counter() - started > 60 * minutes:
                    continue
                found = row(f"{way}/{data}", seed, images)
                RESULTS.write_text(json.dumps(stored() | {key: found}, indent=1) + "\n")
                print(key, json.dumps(found), flush=True)


def table(found: dict[str, Any]) -> str:
    """Means over seeds, with half the range."""
    lines = ["| preset | parameters | MFLOP | images seen | seeds | FD | training, images/s | forward, GFLOP/s |",
             "|---|---|---|---|---|---|---|---|"]  # fmt: skip
    for data in BUDGETS:
        for way in WAYS:
            rows = [value for key, value in found.items() if key.startswith(f"{way}/{data} ")]
            if not rows:
                continue
            first, distances = rows[0], [r["fd"] for r in rows]
            spread = f" +- {(max(distances) - min(distances)) / 2:.2f}" if len(rows) > 1 else ""
            lines.append(
                f"| `{way}/{data}` | {first['parameters'] / 1e6:.2f}M | {first['flops'] / 1e6:.0f} | "
                f"{first['images']} | "
                f"{len(rows)} | {mean(distances):.2f}{spread} | {mean(r['training'] for r in rows):.0f} | "
                f"{mean(r['forward'] * r['flops'] for r in rows) / 1e9:.1f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    torch.set_num_threads(1)
    arguments = sys.argv[1:]
    if "--table" not in arguments:
        measure(float(arguments[arguments.index("--minutes") + 1]) if "--minutes" in arguments else 1e9)
    print(table(stored()))
