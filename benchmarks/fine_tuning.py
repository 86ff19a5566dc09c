"""Fine-tuning: a shipped model's weights for few pictures of another kind, against training the same from scratch.

`python benchmarks/fine_tuning.py` trains what is missing below runs/fine-tuning, a row at a time, and stops after
--minutes (9), in the middle of a training, too, to go on there the next time. The pictures are the first 1,000 of
fashion (28x28, grey, 10 classes); the weights are `ddpm/emoji32`'s, which has seen 32x32 colour emoji alone. Network,
batch and numbers of both are the same; the learning rate is the default of each (a fifth of the preset's with --from,
and the preset's), which falls to 0 over the images of each row. The Frechet distance is that of 1,000 samples to the
10,000 test pictures, which neither has seen; a copy is three times as near to one training picture as to the next.
`--write` prints the table into docs/own_pictures.md and draws docs/images/fine-tuned.png and fine-tuning.png.
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

from sfumato.data import open_source, pictures
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.neighbours import nearest
from sfumato.evaluate.plots import ACCENT, SECOND, SOFT, panels
from sfumato.models import load_model
from sfumato.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
RUNS, RESULTS = ROOT / "runs" / "fine-tuning", ROOT / "benchmarks" / "results" / "fine_tuning.json"
PAGE, IMAGES = ROOT / "docs" / "own_pictures.md", ROOT / "docs" / "images"
PRESET, DATA, PICTURES, BATCH = "ddpm/emoji32", "fashion?limit=1000", 1000, 16
STARTS = {"from ddpm/emoji32": PRESET, "from scratch": None}
COUNTS = (5_000, 2_000, 10_000, 20_000)
"""Images seen, in the order in which they are measured."""
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def folder(start: str, images: int) -> Path:
    return RUNS / f"{start.replace('/', '-').replace(' ', '-')}-{images}"


def trained_from(start: str, images: int, end: float) -> bool:
    """Train, or go on, until the time is over: whether it is done."""
    source: dict[str, Any] = {"recipe": {"weight": "v"}, "batch": BATCH}  # as the model that ships was trained
    if STARTS[start] is not None:
        source["start"] = STARTS[start]
    return trained(folder(start, images), DATA, PRESET, images, end, **source) is not None


def measure(minutes: float, counts: list[int]) -> None:
    """What is missing, until the time is over."""
    end, rows, net = time.monotonic() + 60 * minutes, stored(), in_domain("fashion")
    training = open_source(DATA).images
    real = statistics(net(open_source("fashion:test").images).pooled)
    if "floor" not in rows:
        held_out = open_source("fashion").images[50_000 : 50_000 + PICTURES]
        rows["floor"] = scored(held_out, training, real, net)
    for images in counts:
        for start in STARTS:
            key = f"{start} {images}"
            if key in rows:
                continue
            if time.monotonic() > end or not trained_from(start, images, end):
                return
            made = load_model(folder(start, images)).sample(PICTURES, steps=10, sampler="dpmpp-2m?grid=karras", seed=1)
            seconds = RunFolder.open(folder(start, images)).metrics("train")[-1]["seconds"]
            rows[key] = {**scored(made, training, real, net), "seconds": round(seconds)}
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(f"{key:28} {rows[key]}", flush=True)


def scored(made: torch.Tensor, training: torch.Tensor, real: Any, net: Any) -> dict[str, float]:
    """Frechet distance to the test pictures, and the share of copies of training pictures, by pixels."""
    found = nearest(made.flatten(1) / 127.5 - 1, training.flatten(1) / 127.5 - 1)
    return {
        "fd": round(frechet_distance(statistics(net(made).pooled), real), 3),
        "copies": round(float(found.copies.double().mean()), 4),
        "nearest": round(float(found.distance[:, 0].median()), 4),
    }


def write() -> None:
    """The table between its markers, samples of each row and, of two numbers of images or more, the plot."""
    rows = stored()
    there = sorted(n for n in COUNTS if any(f"{start} {n}" in rows for start in STARTS))
    lines = ["| images seen | " + " | ".join(f"FD {start} | copies" for start in STARTS) + " |"]
    lines.append("|---" * (1 + 2 * len(STARTS)) + "|")
    for n in there:
        mine = [rows.get(f"{start} {n}") for start in STARTS]
        cells = [f"{row['fd']:.2f} | {row['copies']:.1%}" if row else " | " for row in mine]
        lines.append(f"| {n:,} | " + " | ".join(cells) + " |")
    floor = rows["floor"]
    lines += ["", f"Floor: 1,000 pictures that neither has seen: FD {floor['fd']:.2f}, {floor['copies']:.1%} copies."]
    lines += ["", "![Samples of each row: from the shipped model, then from scratch](images/fine-tuned.png)"]
    if len(there) > 1:
        lines += ["", "![FD against images seen, from the shipped model and from scratch](images/fine-tuning.png)"]
        plot(rows, there)
    between = re.compile(r"(<!-- fine-tuning -->\n).*(<!-- end of fine-tuning -->)", re.DOTALL)
    text = "\n".join(lines)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))
    shown = [load_model(folder(start, n)).sample(16, steps=10, sampler="dpmpp-2m?grid=karras", seed=1)
             for n in there for start in STARTS if f"{start} {n}" in rows and folder(start, n).exists()]  # fmt: skip
    if shown:
        pictures.save_png(IMAGES / "fine-tuned.png", pictures.grid(torch.cat(shown), columns=16, scale=2))


def plot(rows: Rows, there: list[int]) -> None:
    """FD against images seen, from each start, beside that of unseen pictures."""
    with panels(IMAGES / "fine-tuning.png", "", 1, 5.5) as axes:
        for start, colour in zip(STARTS, (ACCENT, SECOND), strict=True):
            seen = [n for n in there if f"{start} {n}" in rows]
            axes.plot(seen, [rows[f"{start} {n}"]["fd"] for n in seen], marker="o", color=colour, label=start)
        axes.axhline(rows["floor"]["fd"], color=SOFT, linestyle="--", label="unseen pictures")
        axes.set(xlabel="images seen in training", ylabel="FD to 10,000 test pictures", xscale="log", yscale="log")
        axes.set_xticks(there, [f"{n:,}" for n in there])
        axes.minorticks_off()
        axes.legend(fontsize=8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=9.0)
    parser.add_argument("--counts", type=int, nargs="*", default=list(COUNTS))
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    write() if arguments.write else measure(arguments.minutes, arguments.counts)
