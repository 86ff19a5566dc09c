"""What docs/models.md and docs/samplers.md say of the shipped models besides distances: `python benchmarks/shipped.py`.

Of 500 emoji, as many of each category: the Frechet distance, the share that the net named as what was asked for, and
how near the nearest training image is, beside the same of held-out emoji. Of 300 clothes: how many pixels are black (at
most 2 of 255) and white (250 or more), beside real ones. Printed, and kept in benchmarks/results/shipped.json.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from torch import Tensor

from sfumato.data import open_source, to_float
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.neighbours import nearest
from sfumato.models import load_model

RESULTS = Path(__file__).parent / "results" / "shipped.json"
EMOJI, CLOTHES = 500, 300


def emoji(name: str) -> dict[str, float]:
    """Of a model of emoji with categories."""
    net, model, held_out = in_domain("emoji32"), load_model(name), open_source("emoji32:test")
    images, labels = model.sample(EMOJI, seed=1, batch=100), model.labels(None, EMOJI)
    found = net(images)
    assert found.logits is not None
    return {
        "fd": frechet_distance(statistics(found.pooled), statistics(net(held_out.images).pooled)),
        "named as asked for": float((found.logits.argmax(1).cpu() == labels).float().mean()),
        **near(images),
    }


def near(images: Tensor) -> dict[str, float]:
    """Root mean square distances in [-1, 1] to the nearest training image."""
    training = to_float(open_source("emoji32").images).flatten(1)
    found = nearest(to_float(images).flatten(1), training)
    distance = found.distance[:, 0]
    return {"nearest, median": float(distance.median()), "nearest, least": float(distance.min()),
            "copies": float(found.copies.float().mean())}  # fmt: skip


def greys(images: Tensor) -> dict[str, float]:
    """Shares of pixels."""
    return {"black": float((images <= 2).float().mean()), "white": float((images >= 250).float().mean())}


def main() -> None:
    torch.set_num_threads(1)
    clothes = load_model("ddpm/fashion")
    rows = {
        "emoji, held out": near(open_source("emoji32:test").images),
        "ddpm/emoji32": emoji("ddpm/emoji32"),
        "adm/emoji32": emoji("adm/emoji32"),
        "fashion, real": greys(open_source("fashion:test").images),
        "ddpm/fashion, by default": greys(clothes.sample(CLOTHES)),
        "ddpm/fashion, DDIM in 50": greys(clothes.sample(CLOTHES, sampler="ddim", steps=50)),
    }
    for name, row in rows.items():
        print(f"{name:26}", "  ".join(f"{what} {value:.3f}" for what, value in row.items()))
    kept = {name: {what: round(value, 4) for what, value in row.items()} for name, row in rows.items()}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
