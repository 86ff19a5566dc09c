"""What bf16 costs in truth: relative error of trained networks against float32, and the quality of what they sample.

`python benchmarks/precision.py` noises 173 held-out images to several levels for each of some shipped models, asks
the network in float32 and as sampling takes it in bf16 (`precision.for_sampling`), and states the root mean square
error of the predicted noise relative to the noise itself. Then 500 pictures of ddpm/fashion and adm/fashion, three
seeds, from the same noise in both precisions, by the default sampler: their FD against the 10,000 test images. Each
number is stored in benchmarks/results/precision.json as soon as it is there; what is stored is not measured again, and
nothing new begins after --minutes (15). `--table` prints what is stored.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
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
PRECISIONS = ("float32", "bf16")
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


def fd(name: str, precision: str, seed: int) -> float:
    """FD of pictures in that precision; every precision begins at the same noise."""
    net = in_domain("fashion")
    samples = load_model(name).sample(COUNT, seed=seed, batch=125, precision=precision)
    real = statistics(net(open_source("fashion:test").images).pooled)
    return round(frechet_distance(statistics(net(samples).pooled), real), 4)


def rows() -> Iterator[tuple[str, Callable[[], Any]]]:
    """Every number's key, and what measures it."""
    for name in MODELS:
        yield f"error {name}", lambda name=name: [round(error, 6) for error in errors(name)]
    for seed in range(SEEDS):
        for name in JUDGED:
            for precision in PRECISIONS:
                yield f"fd {name} {precision} {seed}", lambda asked=(name, precision, seed): fd(*asked)


def stored() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return found


def measure(minutes: float) -> None:
    """What is missing, until the time is over."""
    found, end = stored(), time.monotonic() + 60 * minutes
    for key, measured in rows():
        if key in found:
            continue
        if time.monotonic() > end:
            return
        found[key] = measured()
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{key:40} {found[key]}", flush=True)


def table(found: dict[str, Any]) -> str:
    levels = ", ".join(f"{100 * share:g} %" for share in LEVELS)
    lines = [f"| model | relative error, {levels} of the way to noise | FD in float32 | FD in bf16 |", "|---" * 4 + "|"]
    for name in MODELS:
        by = ", ".join(f"{100 * value:.2f} %" for value in found.get(f"error {name}", ()))
        cells = []
        for precision in PRECISIONS:
            values = [found[key] for seed in range(SEEDS) if (key := f"fd {name} {precision} {seed}") in found]
            spread = f" ± {stdev(values):.3f}" if len(values) > 1 else ""
            cells.append(f"{mean(values):.3f}{spread}" if values else "-")
        lines.append(f"| {name} | {by} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=15.0)
    parser.add_argument("--table", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if not arguments.table:
        measure(arguments.minutes)
    print(table(stored()))
