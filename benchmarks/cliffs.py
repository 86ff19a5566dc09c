"""Is there a cliff? `python benchmarks/cliffs.py`: what a pixel costs from batch 1 to 64 and from 32x32 to 128x128.

One forward pass of the U-Net of `ddpm/emoji32` (2.7 million parameters), as `Model.sample` takes it on this machine,
with its attention and without: processor nanoseconds a pixel, the least of several passes, with the sizes taken in
turn. Results go to benchmarks/results/cliffs.json; `--table` prints what is stored.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sfumato.networks.unet import HoUNet
from sfumato.papers.presets import PRESETS
from sfumato.runtime.precision import autocast, best_precision, for_sampling

RESULTS = Path(__file__).parent / "results" / "cliffs.json"
BATCHES, SIDES, TURNS = (1, 4, 16, 64), (32, 64, 128), 5


def network(side: int, attention: bool) -> nn.Module:
    recipe = PRESETS["ddpm/emoji32"].recipe
    assert isinstance(recipe.network, HoUNet)
    torch.manual_seed(0)
    backbone = replace(recipe.network, attention=(4,) if attention else ())
    return backbone.build((3, side, side), 3).eval()


def one_pass(net: nn.Module, batch: int, side: int, precision: str) -> float:
    """Processor nanoseconds a pixel."""
    x, t = torch.randn(batch, 3, side, side), torch.full((batch,), 500.0)
    started = time.process_time()
    with torch.inference_mode(), autocast("cpu", precision):
        net(x, t)
    return (time.process_time() - started) * 1e9 / (batch * side * side)


def measured() -> dict[str, Any]:
    precision, why = best_precision("cpu")
    least: dict[str, dict[str, float]] = {}
    for attention in (True, False):
        nets = {side: for_sampling(network(side, attention), torch.device("cpu"), precision) for side in SIDES}
        rows = least.setdefault("attention" if attention else "no attention", {})
        for turn, side, batch in product(range(TURNS), SIDES, BATCHES):
            spent = one_pass(nets[side], batch, side, precision)
            if turn:
                rows[f"{side} {batch}"] = min(spent, rows.get(f"{side} {batch}", spent))
    return {"precision": f"{precision} ({why})", "threads": torch.get_num_threads(), "least": least}


def table(found: dict[str, Any]) -> str:
    lines = ["| ns a pixel | " + " | ".join(f"batch {b}" for b in BATCHES) + " |", "|---|" + "---|" * len(BATCHES)]
    for kind, rows in found["least"].items():
        for side in SIDES:
            cells = " | ".join(f"{rows[f'{side} {batch}']:.0f}" for batch in BATCHES)
            lines.append(f"| {side}x{side}, {kind} | {cells} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    if "--table" not in arguments:
        RESULTS.write_text(json.dumps(measured(), indent=1) + "\n")
    print(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
