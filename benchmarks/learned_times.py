"""The variance of the training loss with learned times beside even ones: `python benchmarks/learned_times.py`.

Trains ddpm/digits for 200 steps of 64 images with `--recipe.times learned` below runs/learned-times (a minute), then
estimates the loss of its first average on held-out digits from 20,000 draws of levels, even and learned. `--write`
prints the stored result into docs/edm_flow.md.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch

from sfumato.cli import main as sfumato
from sfumato.core.randomness import ImageNoise
from sfumato.data import open_source, to_float
from sfumato.models import load_model

ROOT = Path(__file__).parent.parent
RUN, RESULTS = ROOT / "runs" / "learned-times", ROOT / "benchmarks" / "results" / "learned_times.json"
PAGE = ROOT / "docs" / "edm_flow.md"
DRAWS, BATCH = 20_000, 250


def measure() -> None:
    """Mean and standard deviation of the loss of one image, weighted, by both densities."""
    if not (RUN / "report.html").exists():
        sfumato(["train", "ddpm/digits", "--recipe.times", "learned", "--recipe.weight", "v", "--train.images", "12800",
                 "--train.threads", "1", "--train.preview-images", "0", "--out", str(RUN)])  # fmt: skip
    model, held = load_model(RUN), open_source("digits:test")
    learned = model.diffusion.times
    found: dict[str, dict[str, float]] = {}
    for name, times in (("even", model.recipe.build().times), ("learned", learned)):
        t, weight = times.draw((torch.arange(DRAWS, dtype=torch.float64) + 0.5) / DRAWS)
        losses = []
        with torch.inference_mode():
            for keys in torch.randperm(DRAWS, generator=torch.Generator().manual_seed(0)).split(BATCH):
                rows = keys % len(held.images)
                given = {} if held.labels is None or not model.recipe.conditioning.classes else {"y": held.labels[rows]}
                noise = ImageNoise(1, keys.tolist())
                loss = model.diffusion.loss(model.network, to_float(held.images[rows]), t[keys], noise, **given)
                losses.append(weight[keys] * loss)
        every = torch.cat(losses).double()
        found[name] = {"mean": round(float(every.mean()), 5), "std": round(float(every.std()), 5),
                       "largest weight": round(float(weight.max()), 3)}  # fmt: skip
        print(name, found[name], flush=True)
    RESULTS.write_text(json.dumps(found, indent=1))


def write() -> None:
    """The result as a sentence between the markers of the page."""
    found = json.loads(RESULTS.read_text())
    even, learned = found["even"], found["learned"]
    said = (
        f"`python benchmarks/learned_times.py`: `ddpm/digits` after 200 batches, loss of {DRAWS:,} draws on held-out "
        f"digits: even times\n{even['mean']:.4f} with deviation {even['std']:.4f}; learned times {learned['mean']:.4f} "
        f"with deviation {learned['std']:.4f}, a variance {(even['std'] / learned['std']) ** 2:.1f} times\n"
        f"less. The largest weight is {learned['largest weight']:.1f}. On toys whose loss has no noise but the level's "
        "it is more than 6 times less."
    )
    between = re.compile(r"(<!-- learned-times -->\n).*?(<!-- end -->)", re.DOTALL)
    PAGE.write_text(between.sub(lambda kept: f"{kept[1]}{said}\n{kept[2]}", PAGE.read_text()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    write() if "--write" in sys.argv else measure()
