"""Pack a run's averaged weights for the package, and say how close its samples are to memorised training images.

`python scripts/ship_model.py RUN NAME [WEIGHTS]` writes sfumato/checkpoints/NAME.safetensors (float16; of WEIGHTS where
they are named, as `--weights` takes them) and, into docs/images, a sheet of samples above their
nearest training images; it prints the distances beside those of held-out images.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from torch import Tensor

from sfumato.data import open_source, pictures, to_float
from sfumato.models import load_model
from sfumato.runtime import checkpoint, weights
from sfumato.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
COUNT = 173


def nearest(images: Tensor, training: Tensor) -> tuple[Tensor, Tensor]:
    """Root-mean-square distances in [-1, 1] to the two nearest training images, and the nearest's index."""
    a, b = (to_float(x).flatten(1) for x in (images, training))
    two = (torch.cdist(a, b) / a.shape[1] ** 0.5).topk(2, largest=False)
    return two.values, two.indices[:, 0]


def main(run: Path, name: str, which: str | None = None) -> None:
    saved = checkpoint.read(RunFolder.open(run).latest_checkpoint() or Path())
    target = ROOT / "sfumato" / "checkpoints" / f"{name}.safetensors"
    target.parent.mkdir(exist_ok=True)
    weights.save_weights(target, saved, which, half=True)
    print(f"{target.relative_to(ROOT)}: {target.stat().st_size / 1e6:.2f} MB, {saved.progress}")

    model, data = load_model(target), saved.data["spec"]
    training, held_out = open_source(data), open_source(f"{data}:test")
    samples = model.sample(min(COUNT, len(held_out)), steps=50, seed=0)
    sample_distances, index = nearest(samples, training.images)
    real_distances, _ = nearest(held_out.images, training.images)
    for what, d in (("samples", sample_distances), ("held-out images", real_distances)):
        copies = float((d[:, 0] < d[:, 1] / 3).float().mean())
        print(f"{what}: {len(d)}, nearest training image at RMS {float(d[:, 0].median()):.3f} (median), "
              f"{float(d[:, 0].min()):.3f} (least); much nearer than the second ({copies:.1%})")  # fmt: skip
    closest = sample_distances[:, 0].argsort()[:12]
    pairs = torch.stack([samples[closest], training.images[index[closest]]]).flatten(0, 1)
    pictures.save_png(ROOT / "docs" / "images" / f"{name}-nearest.png", pictures.grid(pairs, columns=12, scale=2))


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:4])
