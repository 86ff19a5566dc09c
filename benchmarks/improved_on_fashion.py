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
from sfumato.evaluate.plots import ACCENT, INK, SECOND, panels
from sfumato.likelihood import bound_of
from sfumato.models import load_model

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "improved-on-fashion"
RESULTS = ROOT / "benchmarks" / "results" / "improved_on_fashion.json"
IMAGES = "150k"
STEPS = {10: (500, 200), 25: (500, 200), 50: (500, 200), 100: (500, 200), 1000: (100, 50)}
"""Steps -> pictures, and held-out images for the bound; fewer where each costs a thousand evaluations."""
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


def measure(only: str = "") -> None:
    """Every figure that is not yet in the results; `only` picks the choices whose name holds it."""
    net, test = in_domain("fashion"), open_source("fashion:test")
    real = net(test.images).pooled
    for name in (n for n in CHOICES if only in n):
        model = load_model(folder(name))
        for steps, (count, held_out) in STEPS.items():
            if str(steps) in stored().get(name, {}):
                continue
            report = bound_of(model, test, steps=steps, limit=held_out)
            row: dict[str, Any] = {
                "pictures": count, "held_out": held_out, "bits": report.total,
                "bits_error": report.standard_error, "floor": distances(real[:count], real[5000:]),
            }  # fmt: skip
            for kind in ("ancestral", "ddim"):
                if kind == "ddim" and steps > 100:
                    continue
                samples = model.sample(count, steps=steps, sampler=kind, batch=125)
                row[kind] = distances(net(samples).pooled, real[5000:])
                pictures.save_png(folder(name) / f"{kind}-{steps}.png", pictures.grid(samples[:32], columns=16))
            print(name, steps, json.dumps(row), flush=True)
            found = stored()
            found.setdefault(name, {})[str(steps)] = row
            found["net"] = net.distance
            RESULTS.parent.mkdir(exist_ok=True)
            RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def stored() -> dict[str, Any]:
    """What was measured before."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def table(found: dict[str, Any]) -> str:
    head = "".join(f" {name}: bits/dim | FD | FD by DDIM |" for name in CHOICES)
    lines = [f"| steps | pictures |{head} FD of real images |", "|---" * (3 * len(CHOICES) + 3) + "|"]
    for steps in measured(found):
        rows = [found[name][str(steps)] for name in CHOICES]
        cells = [
            f"{row['bits']:.2f} +- {row['bits_error']:.2f} | {row['ancestral']['fd']:.2f} | "
            + (f"{row['ddim']['fd']:.2f}" if "ddim" in row else "-")
            for row in rows
        ]
        lines.append(f"| {steps} | {rows[0]['pictures']} | {' | '.join(cells)} | {rows[0]['floor']['fd']:.2f} |")
    lines.append(f"\n{found['net']}, against 5,000 test images.")
    return "\n".join(lines)


def measured(found: dict[str, Any]) -> list[int]:
    """The numbers of steps that every choice has been measured at."""
    return [steps for steps in STEPS if all(str(steps) in found.get(name, {}) for name in CHOICES)]


def plot(found: dict[str, Any], path: Path) -> None:
    every = measured(found)
    with panels(path) as (left, right):
        for name, colour in zip(CHOICES, (SECOND, ACCENT), strict=True):
            rows = [found[name][str(steps)] for steps in every]
            left.plot(every, [row["bits"] for row in rows], "o-", color=colour, label=name)
            right.plot(every, [row["ancestral"]["fd"] for row in rows], "o-", color=colour, label=name)
            few = [(steps, row["ddim"]["fd"]) for steps, row in zip(every, rows, strict=True) if "ddim" in row]
            right.plot(*zip(*few, strict=True), "o:", color=colour, markersize=3)
        floors = [found[next(iter(CHOICES))][str(steps)]["floor"]["fd"] for steps in every]
        right.plot(every, floors, color=INK, linewidth=0.8, label="real images")
        left.set(xscale="log", xlabel="steps", ylabel="bits/dim", title="variational bound (test)")
        right.set(xscale="log", yscale="log", xlabel="steps", ylabel=found["net"], title="samples (dotted: DDIM)")
        for axes in (left, right):
            axes.set_xticks(every, [str(steps) for steps in every])
            axes.minorticks_off()
        left.legend(frameon=False, fontsize=8)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if "--plot" not in arguments:
        for name in CHOICES:
            train(name)
        if "--train" in arguments:
            return
        only = next((a.removeprefix("--only=") for a in arguments if a.startswith("--only=")), "")
        measure(only)
        if only:
            return
    found = stored()
    plot(found, ROOT / "docs" / "images" / "improved-on-fashion.png")
    print(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
