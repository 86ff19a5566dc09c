"""Posterior sampling on fashion: filled in, enlarged and sharpened by MMPS, beside the classical replacement.

Prints the table of docs/editing.md; --sheet FILE writes its pictures. Minutes on one CPU core.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from torch import Tensor

from sfumato.core.randomness import ImageNoise
from sfumato.data import open_source, pictures
from sfumato.data.loader import to_float, to_uint8
from sfumato.inverse import Blur, Mask, MeanPool, Operator
from sfumato.models import load_model
from sfumato.models.restoration import Restored, restore

KNOWN = torch.ones(28, 28, dtype=torch.bool)
KNOWN[8:20, 8:20] = False
TASKS: dict[str, tuple[Operator, float, tuple[str, ...]]] = {
    "hole of 12x12": (Mask(KNOWN), 0.0, ("mmps", "replacement")),
    "half the side": (MeanPool(2), 0.0, ("mmps", "replacement")),
    "blur of 1 pixel, noise 0.02": (Blur(1.0), 0.02, ("mmps", "diffpir")),
}
SAMPLERS = {"replacement": "ancestral", "mmps": "ddim?eta=1", "diffpir": "ddim?eta=1"}


def psnr(made: Tensor, true: Tensor) -> float:
    """In dB, the mean over pictures; both in [0, 1]."""
    return float((-10 * (made - true).square().flatten(1).mean(1).clamp(min=1e-10).log10()).mean())


def drawn(images: Tensor, name: str, method: str, draws: int) -> tuple[Tensor, Restored]:
    """What was seen as pictures, and what was made of it."""
    operator, noise, _ = TASKS[name]
    seen = operator(to_float(images))
    seen = seen + noise * ImageNoise(1, range(len(seen)))(seen)
    model = load_model("ddpm/fashion")
    made = restore(model, seen, operator, method=method, sampler=SAMPLERS[method], steps=50, draws=draws, noise=noise)
    return to_uint8(seen if noise else operator.pinv(seen)), made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=24)
    parser.add_argument("--draws", type=int, default=4)
    parser.add_argument("--sheet", type=Path)
    chosen = parser.parse_args()
    images = open_source("fashion:test").images
    if chosen.sheet:
        some = images[torch.arange(12) * 37 + 5]
        rows = [some]
        for name, (_, _, methods) in TASKS.items():
            for i, method in enumerate(methods):
                seen, made = drawn(some, name, method, 1)
                rows += [seen, made.draws[:, 0]] if i == 0 else [made.draws[:, 0]]
        pictures.save_png(chosen.sheet, pictures.grid(torch.cat(rows), columns=12))
        return
    some = images[torch.arange(chosen.n) * len(images) // chosen.n]
    true = some.float() / 255
    print("| seen | method | PSNR of a draw | of the mean | error on what was seen | spread / error |")
    print("|---" * 6 + "|")
    for name, (_, _, methods) in TASKS.items():
        for method in methods:
            made = drawn(some, name, method, chosen.draws)[1]
            draws, k = made.draws.float() / 255, chosen.draws
            error = (draws.mean(1) - true).square().mean()
            ratio = float((draws.var(1).mean() * (1 + 1 / k) / error).sqrt())
            print(f"| {name} | `{method}` | {psnr(draws[:, 0], true):.1f} | {psnr(draws.mean(1), true):.1f} | "
                  f"{made.error.mean():.4f} | {ratio:.2f} |", flush=True)  # fmt: skip


if __name__ == "__main__":
    main()
