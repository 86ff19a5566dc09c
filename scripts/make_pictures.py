"""Draw the README's opening picture from the shipped model: `python scripts/make_pictures.py`.

Each row is one image on its way from noise to data, at levels evenly spaced over 60 DDIM steps.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sfumato.data import pictures
from sfumato.model import load

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SEED, ROWS, COLUMNS, STEPS = 3, 4, 12, 60


def main() -> None:
    model = load("ddpm/emoji32")
    frames: list[Tensor] = []
    model.sample(36, steps=STEPS, seed=SEED, frames=frames)
    shown = [frames[round(i * STEPS / (COLUMNS - 1))] for i in range(COLUMNS)]
    rows = torch.stack([frame[row] for row in range(ROWS) for frame in shown])
    pictures.save_png(IMAGES / "emergence.png", pictures.grid(rows, columns=COLUMNS, scale=2))
    pictures.save_png(IMAGES / "emoji32.png", pictures.grid(frames[-1], columns=9, scale=3))


if __name__ == "__main__":
    main()
