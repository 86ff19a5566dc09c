"""What docs/models.md and docs/samplers.md say of the shipped models besides distances: `python benchmarks/shipped.py`.

Of 500 emoji, as many of each category: the Frechet distance, the share that the net named as what was asked for, and
how near the nearest training image is, beside the same of held-out emoji; those of 128x128 (whose originals the font
holds, see `sfumato.data.emoji`) are judged at 32x32, each pixel the mean of 16, beside reconstructions by their
autoencoder. Of 300 clothes: how many pixels are black (at most 2 of 255) and white (250 or more), beside real ones; and
the distance of the two models whose own sampler alone makes pictures, in 1,000 evaluations each. What is missing in
benchmarks/results/shipped.json is measured and kept there, row by row, or the rows that are named.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from sfumato.data import open_source, to_float, to_uint8
from sfumato.evaluate.distances import Statistics, frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.neighbours import nearest
from sfumato.models import load_model

RESULTS = Path(__file__).parent / "results" / "shipped.json"
EMOJI, CLOTHES = 500, 300
Row = dict[str, float]


def emoji(name: str, **how: Any) -> Row:
    """Of a model of emoji with categories."""
    net, model, held_out = in_domain("emoji32"), load_model(name), open_source("emoji32:test")
    images, labels = model.sample(EMOJI, seed=1, batch=100, **how), model.labels(None, EMOJI)
    assert labels is not None
    return {**judged(images, labels, statistics(net(held_out.images).pooled)), **near(images)}


def large_emoji(name: str) -> Row:
    """Of a model of latents of emoji128, at 32x32."""
    model = load_model(name)
    images, labels = model.sample(EMOJI, seed=1, batch=50), model.labels(None, EMOJI)
    assert labels is not None
    return {**judged(pooled(images), labels, large_truth()), **near(images, "emoji128")}


def through_autoencoder(name: str) -> Row:
    """Of held-out emoji that went through the autoencoder of a model of latents."""
    space, held_out = load_model(name).space, open_source("emoji128:test")
    assert held_out.labels is not None
    with torch.inference_mode():
        parts = [to_uint8(space.decode(space.encode(to_float(part)))) for part in held_out.images.split(50)]
    return judged(pooled(torch.cat(parts)), held_out.labels, large_truth())


def large_held_out() -> Row:
    """Of the held-out emoji themselves."""
    held_out = open_source("emoji128:test")
    assert held_out.labels is not None
    return judged(pooled(held_out.images), held_out.labels, large_truth())


def large_truth() -> Statistics:
    return statistics(in_domain("emoji32")(pooled(open_source("emoji128:test").images)).pooled)


def judged(images: Tensor, labels: Tensor, truth: Statistics) -> Row:
    """Distance and the share that is named rightly, of emoji at 32x32."""
    found = in_domain("emoji32")(images)
    assert found.logits is not None
    named = float((found.logits.argmax(1).cpu() == labels).float().mean())
    return {"fd": frechet_distance(statistics(found.pooled), truth), "named as asked for": named}


def clothes(name: str, count: int, **how: Any) -> Row:
    """Of a model of clothes."""
    net, model = in_domain("fashion"), load_model(name)
    images, real = model.sample(count, seed=1, batch=100, **how), open_source("fashion:test").images
    return {"fd": frechet_distance(*(statistics(net(each).pooled) for each in (images, real))), "pictures": count}


def pooled(images: Tensor) -> Tensor:
    """uint8 (N, 3, 128, 128) -> (N, 3, 32, 32)."""
    return avg_pool2d(images.float(), 4).round().byte()


def near(images: Tensor, data: str = "emoji32") -> dict[str, float]:
    """Root mean square distances in [-1, 1] to the nearest training image."""
    training = to_float(open_source(data).images).flatten(1)
    found = nearest(to_float(images).flatten(1), training)
    distance = found.distance[:, 0]
    return {"nearest, median": float(distance.median()), "nearest, least": float(distance.min()),
            "copies": float(found.copies.float().mean())}  # fmt: skip


def greys(images: Tensor) -> Row:
    """Shares of pixels."""
    return {"black": float((images <= 2).float().mean()), "white": float((images >= 250).float().mean())}


def sampled(**how: Any) -> Tensor:
    return load_model("ddpm/fashion").sample(CLOTHES, **how)


ROWS: dict[str, Callable[[], Row]] = {
    "emoji, held out": lambda: near(open_source("emoji32:test").images),
    "ddpm/emoji32": lambda: emoji("ddpm/emoji32"),
    "adm/emoji32": lambda: emoji("adm/emoji32"),
    "adm/emoji32, scale 2": lambda: emoji("adm/emoji32", scale=2.0),
    "ddpm/emoji128": lambda: large_emoji("ddpm/emoji128"),
    "ddpm/emoji128, autoencoder": lambda: through_autoencoder("ddpm/emoji128"),
    "emoji128, held out": large_held_out,
    "fashion, real": lambda: greys(open_source("fashion:test").images),
    "ddpm/fashion, by default": lambda: greys(sampled()),
    "ddpm/fashion, DDIM in 50": lambda: greys(sampled(sampler="ddim", steps=50)),
    "dpm/fashion": lambda: clothes("dpm/fashion", 1000),
    "ncsn/fashion": lambda: clothes("ncsn/fashion", 100),
}


def main(names: list[str]) -> None:
    torch.set_num_threads(1)
    kept: dict[str, Row] = json.loads(RESULTS.read_text())
    for name in names or [name for name in ROWS if name not in kept]:
        row = ROWS[name]()
        kept[name] = {what: round(value, 4) for what, value in row.items()}
        RESULTS.write_text(json.dumps({name: kept[name] for name in ROWS if name in kept}, indent=1) + "\n")
    for name, row in kept.items():
        print(f"{name:28}", "  ".join(f"{what} {value:.3f}" for what, value in row.items()))


if __name__ == "__main__":
    main(sys.argv[1:])
