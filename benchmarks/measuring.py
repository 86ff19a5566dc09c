"""The instruments measured: what real images score, how far damaged ones fall, and how fast features are taken.

`python benchmarks/measuring.py` holds known defects of Fashion-MNIST against its 10,000 test images with `evaluate`,
times the features of both kinds of nets, the 2015 Inception beside torch-fidelity's with the same weights in turn, and
prints the tables; `--table` prints what is stored. The peer is installed by name: `pip install torch-fidelity`.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import torch
from stand_in import without_torchvision
from torch import Tensor

from sfumato.data import Images, open_source
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain, inception2015
from sfumato.evaluate.inception import Inception
from sfumato.evaluate.run import evaluate
from sfumato.evaluate.samples import Samples

RESULTS = Path(__file__).parent / "results" / "measuring.json"
SHOWN = ("frechet", "spatial_frechet", "kernel", "precision", "recall", "density", "coverage")
ROUNDS, PICTURES = 5, 16


def defects(train: Images, test: Images) -> Iterator[tuple[str, Tensor]]:
    """Name -> uint8 images (N, 1, 28, 28)."""
    chance = torch.Generator().manual_seed(0)
    images, labels = test.images, test.labels
    assert labels is not None
    unseen = train.images[50_000:]
    for n in (10_000, 5000, 2000, 1000, 500):
        yield f"{n:,} training images that the net has not seen", unseen[torch.randperm(10_000, generator=chance)[:n]]
    for sigma in (8, 26):
        noisy = images + sigma * torch.randn(images.shape, generator=chance)
        yield f"test + noise, sigma {sigma}/255", _bytes(noisy)
    for sigma in (0.7, 1.5):
        yield f"test, blurred by {sigma:g} pixels", _bytes(blurred(images.float(), sigma))
    yield "test without one class (bags)", images[labels != 8]
    yield "test, classes 0 to 4 only", images[labels < 5]
    yield "100 training images, each 100 times", train.images[:100].repeat(100, 1, 1, 1)
    values = train.images.float()
    fitted = values.mean(0) + values.std(0) * torch.randn(images.shape, generator=chance)
    yield "a Gaussian fitted to each pixel", _bytes(fitted)
    flat = images.flatten(1)
    order = torch.rand(flat.shape, generator=chance).argsort(1)
    yield "test, pixels shuffled", flat.gather(1, order).view_as(images)
    yield "uniform noise", torch.randint(0, 256, images.shape, generator=chance, dtype=torch.uint8)


def _bytes(values: Tensor) -> Tensor:
    return values.round().clamp(0, 255).to(torch.uint8)


def blurred(images: Tensor, sigma: float) -> Tensor:
    """Each image (N, 1, H, W) convolved with a Gaussian, edges repeated."""
    reach = int(4 * sigma + 0.5)
    kernel = (-0.5 * (torch.arange(-reach, reach + 1) / sigma) ** 2).exp()
    kernel = kernel / kernel.sum()
    padded = torch.nn.functional.pad(images, (reach,) * 4, mode="replicate")
    rows = torch.nn.functional.conv2d(padded, kernel.view(1, 1, 1, -1))
    return torch.nn.functional.conv2d(rows, kernel.view(1, 1, -1, 1))


# ---------------------------------------------------------------- speed


def in_turn(*ways: Callable[[], Any]) -> list[float]:
    """The median seconds of each over several rounds, after one that is not counted."""
    taken: list[list[float]] = [[] for _ in ways]
    for round_ in range(ROUNDS + 1):
        for seconds, way in zip(taken, ways, strict=True):
            started = time.perf_counter()
            way()
            if round_:
                seconds.append(time.perf_counter() - started)
    return [median(seconds) for seconds in taken]


def beside_torch_fidelity() -> dict[str, float]:
    """The 2015 Inception of both with the same (random) weights: images/s, their ratio, how far features differ."""
    without_torchvision()
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    torch.manual_seed(0)
    images = torch.randint(0, 256, (PICTURES, 3, 32, 32), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "weights.pth"
        torch.save(Inception().state_dict(), path)
        ours = inception2015(path)
        theirs = FeatureExtractorInceptionV3("inception", ["2048"], str(path))
    with torch.inference_mode():
        a, b = ours(images).pooled, theirs(images)[0]
        here, there = in_turn(lambda: ours(images), lambda: theirs(images))
    return {
        "ours": PICTURES / here, "torch_fidelity": PICTURES / there, "ratio": there / here,
        "difference": float((a - b).norm() / b.norm()),
    }  # fmt: skip


def measured() -> dict[str, Any]:
    train, test, net = open_source("fashion"), open_source("fashion:test"), in_domain("fashion")
    started = time.perf_counter()
    features = net(test.images)
    found: dict[str, Any] = {"threads": torch.get_num_threads(), "net": net.distance, "rows": {}}
    found["fashion_features_per_second"] = len(test) / (time.perf_counter() - started)
    real = statistics(features.pooled)
    started = time.perf_counter()
    frechet_distance(statistics(features.pooled), real)
    found["frechet_seconds"] = time.perf_counter() - started
    found["inception"] = beside_torch_fidelity()
    for name, images in defects(train, test):
        metrics = evaluate(Samples(images, name), test, net).metrics
        found["rows"][name] = {key: metrics[key].value for key in SHOWN} | {"N": len(images)}
        print(name, {key: round(value, 3) for key, value in found["rows"][name].items()}, flush=True)
    return found


def table(found: dict[str, Any]) -> str:
    heads = ("N", found["net"], "sFD", "KD x1000", "precision", "recall", "density", "coverage")
    lines = [f"| against the 10,000 test images | {' | '.join(heads)} |", "|---" * 9 + "|"]
    for name, row in found["rows"].items():
        cells = (f"{row['N']:,}", f"{row['frechet']:.3g}", f"{row['spatial_frechet']:.3g}", f"{row['kernel']:.1f}")
        shares = (f"{row[key]:.2f}" for key in SHOWN[3:])
        lines.append(f"| {name} | {' | '.join((*cells, *shares))} |")
    net = found["inception"]
    lines += [
        "", f"On {found['threads']} threads: the features of 10,000 fashion images at "
        f"{found['fashion_features_per_second']:,.0f} images/s, their Frechet distance in "
        f"{found['frechet_seconds']:.2f} s; the 2015 Inception at {net['ours']:.2f} images/s, "
        f"{net['ratio']:.2f} times torch-fidelity's "
        f"{net['torch_fidelity']:.2f} (the same weights, features apart by {net['difference']:.1e}).",
    ]  # fmt: skip
    return "\n".join(lines)


if __name__ == "__main__":
    if "--table" not in sys.argv[1:]:
        RESULTS.write_text(json.dumps(measured(), indent=1) + "\n")
    print(table(json.loads(RESULTS.read_text())))
