"""Draw the README's opening picture from the shipped model: `python scripts/make_pictures.py`.

Each row is the trajectory of one of the first 36 pictures, in 60 steps of DDIM, denser near the data.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sfumato.data import pictures
from sfumato.models import load_model

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SEED, ROWS, COLUMNS, STEPS = 3, (15, 2, 8, 7), 12, 60


def main() -> None:
    model = load_model("ddpm/emoji32")
    frames: list[Tensor] = []
    model.sample(36, steps=STEPS, seed=SEED, frames=frames)
    shown = [frames[round(STEPS * (i / (COLUMNS - 1)) ** 0.6)] for i in range(COLUMNS)]
    rows = torch.stack([frame[row] for row in ROWS for frame in shown])
    pictures.save_png(IMAGES / "emergence.png", pictures.grid(rows, columns=COLUMNS, scale=2))
    pictures.save_png(IMAGES / "emoji32.png", pictures.grid(frames[-1], columns=9, scale=3))


if __name__ == "__main__":
    main()
