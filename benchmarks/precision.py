"""What bf16 costs in truth: relative error of trained networks against float32, and the quality of what they sample.

`python benchmarks/precision.py` noises 173 held-out images to several levels for each of some shipped models, asks
the network in float32 and as sampling takes it in bf16 (`precision.for_sampling`), and states the root mean square
error of the predicted noise relative to the noise itself. Then 500 pictures of ddpm/fashion and adm/fashion, three
seeds, from the same noise in both precisions: their FD against the 10,000 test images. Results go to
benchmarks/results/precision.json; `--table` prints what is stored.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import torch
from torch import Tensor

from sfumato.data import open_source, to_float
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.models import Model, load_model
from sfumato.runtime.precision import autocast, for_sampling

RESULTS = Path(__file__).parent / "results" / "precision.json"
LEVELS = (0.02, 0.1, 0.3, 0.6, 0.9)
"""Shares of the way from data to noise."""
MODELS = ("ddpm/fashion", "iddpm/fashion", "adm/fashion", "score_sde/fashion", "score_sde/fashion-ve", "ddpm/emoji32")
JUDGED = ("ddpm/fashion", "adm/fashion")
IMAGES, COUNT, SEEDS = 173, 500, 3


def errors(name: str) -> list[float]:
    """The relative error of the predicted noise at each level."""
    model = load_model(name)
    images = to_float(open_source(f"{name.partition('/')[2].partition('-')[0]}:test").images[:IMAGES])
    x0 = model.recipe.space.encode(images)
    eps = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    process = model.diffusion.gaussian
    found = []
    for share in LEVELS:
        t = torch.tensor(share * float(process.schedule.end))
        t = t.round() if process.schedule.end > 1 else t
        t = t.expand(len(x0))
        x = process.level(t, x0).noise(x0, eps)
        exact, rough = (predicted(model, precision, x, t) for precision in ("float32", "bf16"))
        found.append(float((rough - exact).pow(2).mean().sqrt() / exact.pow(2).mean().sqrt()))
    return found


def predicted(model: Model, precision: str, x: Tensor, t: Tensor) -> Tensor:
    """The noise that the model predicts in x, in that precision."""
    network = for_sampling(model.network, model.device, precision)
    denoise = model.denoiser(model.labels(None, len(x)), network=network)
    with torch.inference_mode(), autocast("cpu", precision):
        return denoise(x, t).eps.float()


def judged(name: str) -> dict[str, list[float]]:
    """FD of each seed in each precision, taken in turn."""
    net, model = in_domain("fashion"), load_model(name)
    real = statistics(net(open_source("fashion:test").images).pooled)
    found: dict[str, list[float]] = {"float32": [], "bf16": []}
    for seed in range(SEEDS):
        for precision, values in found.items():
            samples = model.sample(COUNT, steps=50, seed=seed, batch=125, precision=precision)
            values.append(frechet_distance(statistics(net(samples).pooled), real))
            print(f"{name}, seed {seed}, {precision}: {values[-1]:.3f}", flush=True)
    return found


def table(found: dict[str, Any]) -> str:
    levels = ", ".join(f"{100 * share:g} %" for share in found["levels"])
    lines = [
        f"| model | relative error, {levels} of the way to noise | FD in float32 | FD in bf16 |",
        "|---|---|---|---|",
    ]
    for name, values in found["errors"].items():
        by = ", ".join(f"{100 * value:.2f} %" for value in values)
        quality = found["judged"].get(name)
        sides = [f"{mean(quality[p]):.2f} +- {stdev(quality[p]):.2f}" if quality else "-" for p in ("float32", "bf16")]
        lines.append(f"| {name} | {by} | {sides[0]} | {sides[1]} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    if "--table" not in arguments:
        found = {"levels": LEVELS, "errors": {name: errors(name) for name in MODELS}, "judged": {}}
        print(table(found), flush=True)
        found["judged"] = {name: judged(name) for name in JUDGED}
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
