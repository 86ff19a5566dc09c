"""Posterior sampling on fashion: filled in, enlarged and sharpened, by every method that can.

`python benchmarks/posterior_on_fashion.py` measures what is missing in benchmarks/results/posterior.json, a row at a
time and for at most --minutes (15), and may be run again to go on; `--write` prints the table into docs/editing.md;
`--sheet FILE` writes its pictures.
"""

from __future__ import annotations

import argparse
import json
import re
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.randomness import ImageNoise
from sfumato.data import open_source, pictures
from sfumato.data.loader import to_float, to_uint8
from sfumato.inverse import Blur, Mask, MeanPool, Operator
from sfumato.models import load_model
from sfumato.models.restoration import Restored, restore

ROOT = Path(__file__).parent.parent
RESULTS, PAGE = ROOT / "benchmarks" / "results" / "posterior.json", ROOT / "docs" / "editing.md"
PICTURES, DRAWS, STEPS = 100, 4, 50
KNOWN = torch.ones(28, 28, dtype=torch.bool)
KNOWN[8:20, 8:20] = False
TASKS: dict[str, tuple[Operator, float]] = {
    "hole of 12x12": (Mask(KNOWN), 0.0),
    "half the side": (MeanPool(2), 0.0),
    "blur of 1 pixel, noise 0.02": (Blur(1.0), 0.02),
}
METHODS = ("mmps", "replacement", "pigdm", "diffpir", "dps", "dps?scale=0.3", "repaint?rounds=2")
SHOWN = {"hole of 12x12": ("mmps", "replacement"), "half the side": ("mmps", "replacement"),
         "blur of 1 pixel, noise 0.02": ("mmps", "diffpir")}  # fmt: skip
SAMPLERS = {"mmps": "ddim?eta=1", "diffpir": "ddim?eta=1", "pigdm": "ddim?eta=1"}
Rows = dict[str, dict[str, Any]]


def stored() -> Rows:
    rows: Rows = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return rows


def psnr(made: Tensor, true: Tensor) -> float:
    """In dB, the mean over pictures; both in [0, 1]."""
    return float((-10 * (made - true).square().flatten(1).mean(1).clamp(min=1e-10).log10()).mean())


def drawn(images: Tensor, name: str, method: str, draws: int) -> tuple[Tensor, Restored]:
    """What was seen as pictures, and what was made of it."""
    operator, noise = TASKS[name]
    seen = operator(to_float(images))
    seen = seen + noise * ImageNoise(1, range(len(seen)))(seen)
    sampler = SAMPLERS.get(method.partition("?")[0], "ancestral")
    model = load_model("ddpm/fashion")
    made = restore(model, seen, operator, method=method, sampler=sampler, steps=STEPS, draws=draws, noise=noise)
    return to_uint8(seen if noise else operator.pinv(seen)), made


def measured(images: Tensor, name: str, method: str) -> dict[str, float]:
    """How near the truth one draw is and the mean of all, and whether the draws differ by as much as they err."""
    began, true = time.perf_counter(), images.float() / 255
    made = drawn(images, name, method, DRAWS)[1]
    draws = made.draws.float() / 255
    error = (draws.mean(1) - true).square().mean()
    return {
        "psnr": round(psnr(draws[:, 0], true), 2), "psnr of the mean": round(psnr(draws.mean(1), true), 2),
        "error": round(float(made.error.mean()), 5),
        "calibration": round(float((draws.var(1).mean() * (1 + 1 / DRAWS) / error).sqrt()), 3),
        "seconds": round(time.perf_counter() - began, 1),
    }  # fmt: skip


def measure(minutes: float) -> None:
    """What is missing, row by row, until the time is over."""
    end, rows = time.perf_counter() + 60 * minutes, stored()
    images = open_source("fashion:test").images
    images = images[torch.arange(PICTURES) * len(images) // PICTURES]
    for method in METHODS:
        for name in TASKS:
            key = f"{name} {method}"
            if key in rows:
                continue
            if time.perf_counter() > end:
                return
            try:
                rows[key] = measured(images, name, method)
            except ValueError as error:  # an operator that is none for this method
                print(f"{key}: {error}", flush=True)
                continue
            RESULTS.write_text(json.dumps(rows, indent=1) + "\n")
            print(f"{key:44} {rows[key]}", flush=True)


def write() -> None:
    """The table in docs/editing.md, between its markers."""
    rows = stored()
    lines = ["| seen | method | PSNR of a draw | of the mean | error on what was seen | spread / error |",
             "|---" * 6 + "|"]  # fmt: skip
    for name in TASKS:
        for method in METHODS:
            if row := rows.get(f"{name} {method}"):
                lines.append(f"| {name} | `{method}` | {row['psnr']:.1f} | {row['psnr of the mean']:.1f} | "
                             f"{row['error']:.4f} | {row['calibration']:.2f} |")  # fmt: skip
    text = "\n".join(lines)
    between = re.compile(r"(<!-- posterior -->\n).*(<!-- end of posterior -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", PAGE.read_text()))


def sheet(path: Path) -> None:
    """Twelve garments: what was seen of them, and one draw of each method."""
    images = open_source("fashion:test").images[torch.arange(12) * 37 + 5]
    rows = [images]
    for name, methods in SHOWN.items():
        for i, method in enumerate(methods):
            seen, made = drawn(images, name, method, 1)
            rows += [seen, made.draws[:, 0]] if i == 0 else [made.draws[:, 0]]
    pictures.save_png(path, pictures.grid(torch.cat(rows), columns=12))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--sheet", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.sheet:
        sheet(arguments.sheet)
    elif arguments.write:
        write()
    else:
        measure(arguments.minutes)
