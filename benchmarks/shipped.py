"""What docs/models.md and docs/samplers.md say of the shipped models besides distances: `python benchmarks/shipped.py`.

Of 500 emoji, as many of each category: the Frechet distance, the share that the net named as what was asked for, and
how near the nearest training image is, beside the same of held-out emoji; those of 128x128 (whose originals the font
holds, see `sfumato.data.emoji`) are judged at 32x32, each pixel the mean of 16, beside reconstructions by their
autoencoder. Of 300 clothes: how many pixels are black (at most 2 of 255) and white (250 or more), beside real ones.
Printed, and kept in benchmarks/results/shipped.json.
"""

from __future__ import annotations

import json
from pathlib import Path

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


def large_emoji(name: str) -> dict[str, dict[str, float]]:
    """Of a model of latents of emoji128, and of the held-out emoji that went through its autoencoder."""
    model, held_out = load_model(name), open_source("emoji128:test")
    space, images = model.space, model.sample(EMOJI, seed=1, batch=50)
    with torch.inference_mode():
        parts = [to_uint8(space.decode(space.encode(to_float(part)))) for part in held_out.images.split(50)]
    back = torch.cat(parts)
    truth = statistics(in_domain("emoji32")(pooled(held_out.images)).pooled)
    return {
        name: {**judged(images, model.labels(None, EMOJI), truth), **near(images, "emoji128")},
        f"{name}, autoencoder": judged(back, held_out.labels, truth),
        "emoji128, held out": judged(held_out.images, held_out.labels, truth),
    }


def judged(images: Tensor, labels: Tensor, truth: Statistics) -> dict[str, float]:
    """Distance and the share that is named rightly, at 32x32."""
    found = in_domain("emoji32")(pooled(images))
    assert found.logits is not None
    return {"fd": frechet_distance(statistics(found.pooled), truth),
            "named as asked for": float((found.logits.argmax(1).cpu() == labels).float().mean())}  # fmt: skip


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
        **large_emoji("ddpm/emoji128"),
        "fashion, real": greys(open_source("fashion:test").images),
        "ddpm/fashion, by default": greys(clothes.sample(CLOTHES)),
        "ddpm/fashion, DDIM in 50": greys(clothes.sample(CLOTHES, sampler="ddim", steps=50)),
    }
    for name, row in rows.items():
        print(f"{name:28}", "  ".join(f"{what} {value:.3f}" for what, value in row.items()))
    kept = {name: {what: round(value, 4) for what, value in row.items()} for name, row in rows.items()}
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n")


if __name__ == "__main__":
    main()
