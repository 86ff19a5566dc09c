"""What a training budget buys: Frechet distance against images seen, each budget a training of its own.

`python benchmarks/budget.py` trains what is missing of the presets below on fashion, one thread, below runs/budget, a
row at a time and the small budgets first, and judges 1,000 pictures of each by the default sampler. It stops after
--minutes (15), in the middle of a training, too, and goes on there the next time. The last point of each is the model
that ships. `--write` prints the table into docs/models.md and draws docs/images/budget.png.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import torch
from resumable import trained

from sfumato.data import open_source
from sfumato.evaluate.distances import Statistics, frechet_distance, statistics
from sfumato.evaluate.features import FeatureNet, in_domain
from sfumato.evaluate.plots import ACCENT, INK, SECOND, SOFT, panels
from sfumato.models import Model, load_model

ROOT = Path(__file__).parent.parent
RUNS, RESULTS = ROOT / "runs" / "budget", ROOT / "benchmarks" / "results" / "budget.json"
PAGE, PLOT = ROOT / "docs" / "models.md", ROOT / "docs" / "images" / "budget.png"
DATA, PICTURES = "fashion", 1000
COLOURS = {"ddpm/fashion": INK, "edm/fashion": SECOND, "adm/fashion": ACCENT}
"""The presets, the last of them with labels."""
BUDGETS = (10_000, 30_000, 90_000)
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def key(preset: str, images: int | str) -> str:
    return f"{preset} {images}"


def folder(preset: str, images: int) -> Path:
    return RUNS / f"{preset.replace('/', '-')}-{images}"


def judged(model: Model, net: FeatureNet, real: Statistics) -> float:
    """Frechet distance of samples, as `sfumato sample` makes them without a flag, to the test images."""
    return round(frechet_distance(statistics(net(model.sample(PICTURES, seed=1, batch=100)).pooled), real), 3)


def measure(minutes: float, only: list[str]) -> None:
    """What is missing of these presets, until the time is over."""
    end, net = time.monotonic() + 60 * minutes, in_domain(DATA)
    real = statistics(net(open_source(f"{DATA}:test").images).pooled)

    def keep(name: str, row: dict[str, Any]) -> None:
        RESULTS.write_text(json.dumps(stored() | {name: row}, indent=1) + "\n")
        print(f"{name:24} {row}", flush=True)

    if "floor" not in stored():
        keep("floor", {"fd": round(frechet_distance(
            statistics(net(open_source(DATA).images[:PICTURES]).pooled), real), 3)})  # fmt: skip
    for preset in only:
        if key(preset, "ships") not in stored():
            model = load_model(preset)
            keep(key(preset, "ships"), {"images": model.about["images"], "fd": judged(model, net, real)})
    for images in BUDGETS:
        for preset in only:
            if key(preset, images) in stored():
                continue
            run = trained(folder(preset, images), DATA, preset, images, end) if time.monotonic() < end else None
            if run is None:
                return
            last = run.metrics("train")[-1]
            keep(key(preset, images), {"images": last["images"], "fd": judged(load_model(run.path), net, real),
                                       "seconds": round(last["seconds"])})  # fmt: skip


def write() -> None:
    """The table in docs/models.md, between its markers, and the plot."""
    rows = stored()
    there = [images for images in BUDGETS if any(key(preset, images) in rows for preset in COLOURS)]
    lines = ["| FD after images seen | " + " | ".join(f"{n:,}" for n in there) + " | as it ships |"]
    lines.append("|---" * (len(there) + 2) + "|")
    for preset in COLOURS:
        found = [rows.get(key(preset, images)) for images in there]
        cells = [f"{row['fd']:.2f}" if row else "" for row in found]
        ships = rows[key(preset, "ships")]
        lines.append(f"| `{preset}` | {' | '.join(cells)} | {ships['fd']:.2f} ({ships['images']:,}) |")
    text = "\n".join([*lines, "", f"![Frechet distance against images seen](images/{PLOT.name})"])
    between = re.compile(r"(<!-- budget -->\n).*(<!-- end of budget -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    with panels(PLOT, "", 1, 5.5) as axes:
        for preset, colour in COLOURS.items():
            mine = [rows[key(preset, n)] for n in (*there, "ships") if key(preset, n) in rows]
            label = preset + (", labels" if preset.startswith("adm") else "")
            axes.plot([r["images"] for r in mine], [r["fd"] for r in mine], marker="o", color=colour, label=label)
        axes.axhline(rows["floor"]["fd"], color=SOFT, linestyle="--", label=f"{PICTURES:,} training images")
        axes.set(xlabel="images seen in training", ylabel="FD to 10,000 test images", xscale="log", yscale="log")
        axes.legend(fontsize=8, frameon=False)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--only", nargs="*", default=list(COLOURS), choices=COLOURS)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write() if arguments.write else measure(arguments.minutes, arguments.only)
