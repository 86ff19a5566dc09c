"""Guidance scale: distance to real images and accuracy of the asked class, of four guidances on `adm/fashion`.

`python benchmarks/guidance_scale.py` trains the guide of autoguidance (the same recipe, stopped early, below
runs/guidance-scale), measures what is missing in benchmarks/results/guidance_scale.json, a row at a time and for at
most --minutes (15), and may be run again to go on; `--write` prints the table into docs/likelihood_line.md and draws
docs/images/guidance-scale.png. All rows start from the same noise and ask for the same classes.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import torch

from sfumato.cli import main as sfumato
from sfumato.data import open_source
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.neighbours import density_coverage
from sfumato.evaluate.plots import INK, panels
from sfumato.models import load_model

ROOT = Path(__file__).parent.parent
RUN = ROOT / "runs" / "guidance-scale" / "early"
RESULTS = ROOT / "benchmarks" / "results" / "guidance_scale.json"
PAGE, PLOT = ROOT / "docs" / "likelihood_line.md", ROOT / "docs" / "images" / "guidance-scale.png"
MODEL, PICTURES, REAL, EARLY = "adm/fashion", 1000, 5000, "20k"
SCALES = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
KINDS = {
    "classifier-free": "classifier-free?scale={scale}",
    "interval": "interval?scale={scale}&low=0.2&high=2",
    "autoguidance": "autoguidance?scale={scale}",
    "apg": "apg?scale={scale}",
}
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def guide() -> None:
    """Train the guide, where it is missing."""
    if not (RUN / "report.html").exists():
        new = ["train", MODEL, "--train.images", EARLY, "--train.threads", "1", "--out", str(RUN)]
        if sfumato(["train", "--resume", str(RUN)] if (RUN / "config.json").exists() else new):
            raise SystemExit("the training of the guide did not finish")


def measure(minutes: float) -> None:
    """What is missing, row by row, until the time is over."""
    guide()
    end, rows, net = time.perf_counter() + 60 * minutes, stored(), in_domain("fashion")
    test = open_source("fashion:test")
    assert test.labels is not None
    real, held_out = net(test.images[:REAL]), net(test.images[REAL : REAL + PICTURES])
    reference, y = statistics(real.pooled), torch.arange(PICTURES) % 10

    def row(features: Any, asked: torch.Tensor) -> dict[str, float]:
        return {
            "fd": round(frechet_distance(statistics(features.pooled), reference), 3),
            "accuracy": float((features.logits.argmax(1) == asked).double().mean()),
            "coverage": round(density_coverage(real.pooled, features.pooled).coverage, 3),
        }

    rows["real"] = row(held_out, test.labels[REAL : REAL + PICTURES])
    model, early = load_model(MODEL), load_model(str(RUN))
    for scale in SCALES:
        for kind, spec in KINDS.items():
            key = "none" if scale == 1 else f"{kind} {scale:g}"
            if key in rows:
                continue
            if time.perf_counter() > end:
                return
            guiding = {} if scale == 1 else {"guidance": spec.format(scale=scale)}
            worse = early if kind == "autoguidance" and guiding else None
            images = model.sample(PICTURES, classes=y, seed=1, batch=100, guide_model=worse, **guiding)
            rows[key] = row(net(images), y)
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(f"{key:24} {rows[key]}", flush=True)


def series(rows: Rows, kind: str) -> list[tuple[float, dict[str, Any]]]:
    """The rows of one guidance, by scale; without guidance first."""
    found = [(scale, rows.get("none" if scale == 1 else f"{kind} {scale:g}")) for scale in SCALES]
    return [(scale, row) for scale, row in found if row]


def write() -> None:
    """The table between its markers, and the plot."""
    rows = stored()
    scales = [scale for scale in SCALES if any(scale in dict(series(rows, kind)) for kind in KINDS)]
    lines = ["| FD, accuracy at a scale of | " + " | ".join(f"{scale:g}" for scale in scales) + " |"]
    lines += ["|---" * (len(scales) + 1) + "|"]
    for kind in KINDS:
        cells = {scale: f"{row['fd']:.2f}, {row['accuracy']:.1%}" for scale, row in series(rows, kind)}
        lines.append(f"| `{kind}` | " + " | ".join(cells.get(scale, "") for scale in scales) + " |")
    real = rows["real"]
    lines += ["", f"{PICTURES:,} real images: FD {real['fd']:.2f}, accuracy {real['accuracy']:.1%}."]
    between = re.compile(r"(<!-- guidance scale -->\n).*(<!-- end of guidance scale -->)", re.DOTALL)
    text = "\n".join(lines)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    with panels(PLOT, f"{MODEL}: {PICTURES:,} pictures, 10 steps of DPM-Solver++(2M)", 3, 4.2) as axes:
        for axis, measure, name in zip(axes, ("fd", "accuracy", "coverage"),
                                       ("FD", "accuracy of the asked class", "coverage"), strict=True):  # fmt: skip
            for i, kind in enumerate(KINDS):
                points = [(scale, row[measure]) for scale, row in series(rows, kind)]
                axis.plot(*zip(*points, strict=True), "o-", markersize=4, color=f"C{i}", label=kind)
            axis.axhline(real[measure], color=INK, linestyle=":", linewidth=1, label="real images")
            axis.set(xlabel="guidance scale", ylabel=name)
        axes[0].legend(frameon=False, fontsize=8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write() if arguments.write else measure(arguments.minutes)
