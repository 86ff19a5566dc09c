"""Reflow on digits: how straight the paths become, and what one and two Euler steps miss (Liu et al. 2023).

`python benchmarks/reflow.py` trains flow/digits, makes pairs, trains on them from there (below runs/reflow, a few
minutes), and measures both flows from the same fresh noise. `--write` prints the table into docs/edm_flow.md.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from sfumato.cli import main as sfumato
from sfumato.core.randomness import ImageNoise
from sfumato.core.reflow import straightness
from sfumato.core.sampling import finish
from sfumato.data import open_source, to_uint8
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.models import Model, load_model
from sfumato.samplers import DDIM, Heun

ROOT = Path(__file__).parent.parent
RUNS, RESULTS = ROOT / "runs" / "reflow", ROOT / "benchmarks" / "results" / "reflow.json"
PAGE = ROOT / "docs" / "edm_flow.md"
IMAGES, PAIRS, COUNT = 12_800, 2_000, 400
SILENT = ("--train.threads", "1", "--train.preview-images", "0", "--train.images", str(IMAGES))


def make() -> None:
    """What is missing of the first flow, its pairs and the second flow."""
    first, pairs, second = (str(RUNS / name) for name in ("first", "pairs", "second"))
    if not (RUNS / "first" / "report.html").exists():
        sfumato(["train", "flow/digits", *SILENT, "--out", first])
    if not (RUNS / "pairs").exists():
        sfumato(["reflow", first, "--pairs", str(PAIRS), "--steps", "12", "--out", pairs])
    if not (RUNS / "second" / "report.html").exists():
        sfumato(["train", "flow/digits", *SILENT, "--data", f"reflow:{pairs}", "--from", first, "--out", second])


def measured(model: Model) -> dict[str, float]:
    """Straightness, the error of few Euler steps beside 25 of Heun, and the Frechet distance of those pictures."""
    process, x = model.diffusion.gaussian, ImageNoise(9, range(COUNT))(torch.empty(COUNT, *model.recipe.shape))
    denoise = model.denoiser(model.labels(None, COUNT))
    net = in_domain("digits")
    real = statistics(net(open_source("digits:test").images).pooled)

    def distance(end: Tensor) -> float:
        return round(frechet_distance(statistics(net(to_uint8(end)).pooled), real), 3)

    with torch.inference_mode():
        ends = {n: finish(x, DDIM().plan(process, denoise, n)) for n in (1, 2, 4)}
        true = finish(x, Heun().plan(process, denoise, 25))
    found = {"straightness": round(float(straightness(x, DDIM().plan(process, denoise, 25)).mean()), 4)}
    for n, end in ends.items():
        found[f"error {n}"] = round(float((end - true).square().mean()), 4)
        found[f"FD {n}"] = distance(end)
    return {**found, "FD heun 25": distance(true)}


def write() -> None:
    """The table between the markers of the page."""
    rows = json.loads(RESULTS.read_text())
    first, second = rows["first"], rows["second"]
    named = {"straightness": "straightness S"}
    named |= {f"error {n}": f"mean squared error, Euler steps: {n}" for n in (1, 2, 4)}
    named |= {f"FD {n}": f"FD, Euler steps: {n}" for n in (1, 2, 4)} | {"FD heun 25": "FD, 25 steps of Heun"}
    lines = ["| `flow/digits` | first flow | after reflow |", "|---|---|---|"]
    lines += [f"| {name} | {first[key]:.3g} | {second[key]:.3g} |" for key, name in named.items()]
    between = re.compile(r"(<!-- reflow -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda kept: f"{kept[1]}{chr(10).join(lines)}\n\n{kept[2]}", PAGE.read_text()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    if "--write" in sys.argv:
        write()
    else:
        make()
        found = {name: measured(load_model(RUNS / name)) for name in ("first", "second")}
        RESULTS.write_text(json.dumps(found, indent=1))
        print(json.dumps(found, indent=1))
