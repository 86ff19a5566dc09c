"""How near our networks come to what this processor can do: `python benchmarks/shares.py`, one thread, in one process.

The ceiling is the most that a 3x3 convolution of 64 to 256 channels reaches in the precision that `Model.sample` takes,
in GFLOP/s of processor time. Beside it: forward passes as sampling takes them and steps of `train`, both of Ho et al.'s
network (35.7 million parameters, CIFAR-10) and of the small one, as shares of the ceiling (a step counts as three
forward passes), the least time of several turns; and where the time goes, by kind of operation. Results go to
benchmarks/results/shares.json; `--table` prints what is stored.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import conv2d
from torch.profiler import ProfilerActivity, profile

from sfumato.cost.network import forward_flops, forward_pass
from sfumato.data import open_source
from sfumato.networks import fused
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import autocast, best_precision, for_sampling
from sfumato.train.loop import train

RESULTS = Path(__file__).parent / "results" / "shares.json"
NETS = {
    "CIFAR-10 DDPM": (DDPM(network=HoUNet(dropout=0.0)), "emoji32"),
    "small, 28x28": (
        DDPM((1, 28, 28), HoUNet(channels=32, multipliers=(1, 2, 3), attention=(4,), dropout=0.0)),
        "fashion",
    ),
}
"""A recipe, and images of its shape to train on."""
BATCHES, TURNS = (1, 16), 12
CEILING = ((16, 64, 32), (16, 128, 32), (16, 256, 16))
"""Batch, channels and side of the convolutions that the ceiling is the most of."""
KINDS = {
    "convolutions": ("conv",), "norms, scale and SiLU": ("sfumato", "group_norm", "silu", "sigmoid"),
    "attention and matrices": ("mm", "scaled_dot", "attention", "softmax", "linear"),
    "casts and copies": ("copy", "_to_", "contiguous", "clone", "cat", "fill", "zero", "empty"),
    "AdamW, clipping, averages": ("adam", "foreach", "_amp", "lerp", "vector_norm"),
}  # fmt: skip
"""Kinds of operations, by words in their names, the first that fits; the rest is `other`."""


def least(thing: Callable[[], object], turns: int = TURNS) -> float:
    """Seconds of processor time, the least of several turns after one that is not counted."""
    thing()
    found = []
    for _ in range(turns):
        started = time.process_time()
        thing()
        found.append(time.process_time() - started)
    return min(found)


def ceiling(precision: str) -> float:
    """GFLOP/s of the best convolution."""
    number, best = torch.bfloat16 if precision == "bf16" else torch.float32, 0.0
    for batch, channels, side in CEILING:
        x = torch.randn(batch, channels, side, side, dtype=number).to(memory_format=torch.channels_last)
        weight = torch.randn(channels, channels, 3, 3, dtype=number).to(memory_format=torch.channels_last)
        with torch.inference_mode():
            seconds = least(lambda x=x, weight=weight: conv2d(x, weight, padding=1))
        best = max(best, 2 * 9 * channels * weight.shape[0] * batch * side * side / seconds / 1e9)
    return best


def forward(recipe: DDPM, batch: int, precision: str) -> Callable[[], object]:
    """A forward pass of so many images, as `Model.sample` takes it."""
    torch.manual_seed(0)
    network = for_sampling(recipe.model().eval(), torch.device("cpu"), precision)
    once = forward_pass(recipe, recipe.build(), network, torch.randn(batch, *recipe.shape))

    def run() -> None:
        with torch.inference_mode(), autocast("cpu", precision):
            once()

    return run


def training(recipe: DDPM, data: str, batch: int, steps: int) -> Callable[[], object]:
    """So many steps of `train`, in a folder that is thrown away."""
    settings = TrainConfig(images=steps * batch, batch=batch, preview_images=0, validation_images=0)
    images = open_source(data)

    def run() -> None:
        with tempfile.TemporaryDirectory() as out:
            train(recipe, images, settings, Path(out) / "run", config={"recipe": {}}, quiet=True)

    return run


def spent(thing: Callable[[], object]) -> dict[str, float]:
    """Shares of the processor time of a call, by kind of operation."""
    thing()
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        thing()
    found: Counter[str] = Counter()
    for event in profiler.key_averages():
        name = event.key.lower()
        kind = next((kind for kind, words in KINDS.items() if any(word in name for word in words)), "other")
        found[kind] += event.self_cpu_time_total
    return {kind: round(found[kind] / found.total(), 3) for kind in (*KINDS, "other")}


def measured() -> dict[str, Any]:
    torch.set_num_threads(1)
    precision, why = best_precision("cpu")
    peak = ceiling(precision)
    found: dict[str, Any] = {
        "precision": f"{precision} ({why})", "torch": torch.__version__, "kernel": fused.loaded() or fused.load(),
        "ceiling": round(peak, 1), "reached": {}, "spent": {},
    }  # fmt: skip
    for name, (recipe, data) in NETS.items():
        flops = forward_flops(recipe) / 1e9
        for batch in BATCHES:
            once = forward(recipe, batch, precision)
            found["reached"][f"{name}, forward, batch {batch}"] = round(flops * batch / least(once), 1)
            found["spent"][f"{name}, forward, batch {batch}"] = spent(once)
        short, long = (least(training(recipe, data, 16, steps), 3) for steps in (2, 6))
        found["reached"][f"{name}, training, batch 16"] = round(3 * flops * 16 * 4 / (long - short), 1)
        found["spent"][f"{name}, training, batch 16"] = spent(training(recipe, data, 16, 10))
    return found


def table(found: dict[str, Any]) -> str:
    kinds = (*KINDS, "other")
    lines = [
        f"ceiling {found['ceiling']} GFLOP/s, {found['precision']}, torch {found['torch']}, one thread", "",
        "| | GFLOP/s | of the ceiling | " + " | ".join(kinds) + " |", "|---" * (3 + len(kinds)) + "|",
    ]  # fmt: skip
    for what, reached in found["reached"].items():
        shares = " | ".join(f"{found['spent'][what][kind]:.0%}" for kind in kinds)
        lines.append(f"| {what} | {reached:.0f} | {reached / found['ceiling']:.0%} | {shares} |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    if "--table" not in arguments:
        RESULTS.write_text(json.dumps(measured(), indent=1) + "\n")
    print(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main(sys.argv[1:])
