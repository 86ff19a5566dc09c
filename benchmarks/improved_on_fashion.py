"""What Improved DDPM changes, on fashion: the schedule and the loss, everything else equal, by one command.

`python benchmarks/improved_on_fashion.py` trains what is missing below runs/improved-on-fashion (one network, one
budget, two choices of betas and loss), measures bits/dim and sample quality at 10 to 1,000 steps, keeps every figure
in benchmarks/results/improved_on_fashion.json and prints the table of docs/likelihood_line.md; `--plot` only redraws.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.cli import main as sfumato
from sfumato.data import open_source, pictures
from sfumato.evaluate.distances import frechet_distance, kernel_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.likelihood import bound_of
from sfumato.model import ancestral, ddim_sampler, load

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "improved-on-fashion"
RESULTS = ROOT / "benchmarks" / "results" / "improved_on_fashion.json"
IMAGES, PICTURES, HELD_OUT = "150k", 500, 200
STEPS = (10, 25, 50, 100, 1000)
COMMON = ["--recipe.prediction", "eps", "--train.images", IMAGES, "--train.threads", "1"]
CHOICES = {
    "DDPM: linear, L_simple": [
        "--recipe.betas",
        "linear",
        "--recipe.objective",
        "simple",
        "--recipe.variance",
        "large",
    ],
    "Improved: cosine, L_hybrid": ["--recipe.betas", "cosine", "--recipe.objective", "hybrid"],
}


def folder(name: str) -> Path:
    return RUNS / name.lower().replace(": ", "-").replace(", ", "-").replace(" ", "-")


def train(name: str) -> None:
    out = folder(name)
    if (out / "report.html").exists():
        return
    print(f"== training {name}")
    arguments = ["train", "iddpm/fashion", *COMMON, *CHOICES[name], "--out", str(out)]
    if sfumato(["train", "--resume", str(out)] if (out / "config.json").exists() else arguments):
        raise SystemExit(f"training {name} did not finish")


def distances(samples: Tensor, reference: Tensor) -> dict[str, float]:
    """FD and KID on the in-domain net."""
    kid = kernel_distance(samples, reference, subsets=20, size=min(len(samples), len(reference)) // 2)
    return {"fd": frechet_distance(statistics(samples), statistics(reference)), "kid": kid.value}


def measure() -> dict[str, Any]:
    net, test = in_domain("fashion"), open_source("fashion:test")
    features = net(test.images).pooled
    half = features[:PICTURES]
    found: dict[str, Any] = {
        "net": net.distance, "pictures": PICTURES, "images": IMAGES, "held_out": HELD_OUT,
        "floor": distances(half, features[PICTURES:]),
    }  # fmt: skip
    for name in CHOICES:
        model = load(folder(name))
        rows: dict[str, Any] = {}
        for steps in STEPS:
            row: dict[str, Any] = {}
            report = bound_of(model, test, steps=steps, limit=HELD_OUT)
            row["bits"], row["bits_error"] = report.bits_per_dim, report.standard_error
            for kind, sampler in (("ancestral", ancestral), ("ddim", ddim_sampler())):
                if kind == "ddim" and steps == STEPS[-1]:
                    continue
                samples = model.sample(PICTURES, steps=steps, sampler=sampler, batch=125)
                row[kind] = distances(net(samples).pooled, features)
                if kind == "ancestral":
                    sheet = pictures.grid(samples[:32], columns=16)
                    pictures.save_png(folder(name) / f"ancestral-{steps}.png", sheet)
            rows[str(steps)] = row
            print(name, steps, json.dumps(row), flush=True)
        found[name] = rows
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


def table(found: dict[str, Any]) -> str:
    lines = [f"| steps | {' | '.join(f'{name}: bits/dim, FD, FD by DDIM' for name in CHOICES)} |", "|---|---|---|"]
    for steps in STEPS:
        cells = []
        for name in CHOICES:
            row = found[name][str(steps)]
            implicit = f"{row['ddim']['fd']:.2f}" if "ddim" in row else "-"
            cells.append(f"{row['bits']:.2f}, {row['ancestral']['fd']:.2f}, {implicit}")
        lines.append(f"| {steps} | {' | '.join(cells)} |")
    floor = found["floor"]["fd"]
    lines.append(
        f"\n{found['net']}, {found['pictures']} samples against 10,000 test images; real images score {floor:.2f}."
    )
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    for name, colour in zip(CHOICES, ("#4a6fa5", "#b4552d"), strict=True):
        rows = found[name]
        left.plot(STEPS, [rows[str(s)]["bits"] for s in STEPS], "o-", color=colour, label=name)
        right.plot(STEPS, [rows[str(s)]["ancestral"]["fd"] for s in STEPS], "o-", color=colour, label=name)
        few = [s for s in STEPS if "ddim" in rows[str(s)]]
        right.plot(few, [rows[str(s)]["ddim"]["fd"] for s in few], "o:", color=colour, markersize=3)
    right.axhline(found["floor"]["fd"], color="#23282f", linewidth=0.8, label="real images")
    left.set(xscale="log", yscale="log", xlabel="steps", ylabel="bits/dim", title="variational bound (test)")
    right.set(xscale="log", yscale="log", xlabel="steps", ylabel=found["net"], title="samples (dotted: DDIM)")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25, linewidth=0.6)
    left.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=130)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if "--plot" not in arguments:
        for name in CHOICES:
            train(name)
        if "--train" in arguments:
            return
        measure()
    found = json.loads(RESULTS.read_text())
    plot(found, ROOT / "docs" / "images" / "improved-on-fashion.png")
    print(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
