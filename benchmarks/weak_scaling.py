"""Weak scaling on one machine: `python benchmarks/weak_scaling.py` trains a small net in one process and in two that
exchange gradients (gloo), one thread and the same number of images a step in each, in turn, and prints images/s.

Two cores of one machine share caches, memory and whatever else runs, so two processes that know nothing of each other
run in turn as well: what they lose is the machine's, what two that train together lose besides is the exchange. The
load of other programs is recorded. `--quick` is a rehearsal, `--table` only prints what is stored.
"""

from __future__ import annotations

import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

RESULTS = Path(__file__).parent / "results" / "weak_scaling.json"
BATCH = 32
"""Images a step in each process."""
WAYS = {"one process": 1, "two, apart": 1, "two, together": 2}
"""How many processes exchange gradients."""


def worker(folder: str, data: str, processes: int, steps: int) -> None:
    """Train with the 28x28 images of a file, as process RANK of so many, and leave the run in the folder."""
    import torch

    from sfumato.data import open_source
    from sfumato.papers.presets import PRESETS
    from sfumato.papers.training import TrainConfig
    from sfumato.train.loop import train

    torch.set_num_threads(1)
    recipe: Any = PRESETS["ddpm/fashion"].recipe
    settings = TrainConfig(
        images=steps * BATCH * processes, batch=BATCH * processes, preview_images=0, validation_images=0, threads=1,
        log_every=0.02, checkpoint_every=1e6,
    )  # fmt: skip
    images = open_source(f"npz:{data}")
    train(recipe, images, settings, folder, config={"recipe": {}}, quiet=True)


def start(folder: Path, data: Path, processes: int, steps: int) -> list[subprocess.Popen[bytes]]:
    """The processes of one run, which has the folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    base = {**os.environ, "OMP_NUM_THREADS": "1"}
    meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(processes)}
    command = [sys.executable, __file__, "--worker", str(folder), str(data), str(processes), str(steps)]
    started = []
    for rank in range(processes):
        ranks = {"RANK": str(rank), "LOCAL_RANK": str(rank), "LOCAL_WORLD_SIZE": str(processes)}
        environment = {**base, **meeting, **ranks} if processes > 1 else base
        started.append(subprocess.Popen(command, env=environment))
    return started


def rate(folder: Path) -> float:
    """Images/s of a run, its first fifth left out."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [line for line in lines if line["kind"] == "train"]
    first, last = lines[len(lines) // 5], lines[-1]
    return float((last["images"] - first["images"]) / (last["seconds"] - first["seconds"]))


def cpu_name() -> str:
    """The processor's name."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.machine()


def cpu_seconds() -> tuple[float, float]:
    """(seconds that all cores were busy since the machine started, seconds of ended child processes of this one)."""
    try:
        fields = [int(v) for v in Path("/proc/stat").read_text().splitlines()[0].split()[1:]]
    except OSError:
        return float("nan"), 0.0
    busy = (sum(fields[:8]) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")
    ours = os.times()
    return busy, ours.children_user + ours.children_system + ours.user + ours.system


def measured(way: str, steps: int, data: Path) -> tuple[float, float]:
    """(images/s of all processes together, cores that other programs kept busy meanwhile)."""
    with tempfile.TemporaryDirectory() as folder:
        began, (busy, ours) = time.perf_counter(), cpu_seconds()
        runs = [Path(folder) / f"run{i}" for i in range(2 if way == "two, apart" else 1)]
        started = [process for run in runs for process in start(run, data, WAYS[way], steps)]
        if any(process.wait() for process in started):
            raise SystemExit(f"a process of {way!r} failed")
        seconds, (busy_after, ours_after) = time.perf_counter() - began, cpu_seconds()
        return sum(map(rate, runs)), max(0.0, (busy_after - busy - (ours_after - ours)) / seconds)


def table(found: dict[str, Any]) -> str:
    """Medians over the turns, the range, and the efficiency against as many times one process."""
    rows = found["turns"]
    middle = {way: statistics.median(turn[way]["rate"] for turn in rows) for way in WAYS}
    lines = [
        f"{', '.join(f'{key} {value}' for key, value in found['machine'].items())}; {BATCH} images a step and process; "
        f"{len(rows)} turns",
        "",
        "| | images/s, median | least to most | efficiency, median | of the best turns | cores busy with other work |",
        "|---|---|---|---|---|---|",
    ]
    best = {way: max(turn[way]["rate"] for turn in rows) for way in WAYS}
    for way in WAYS:
        rates = [turn[way]["rate"] for turn in rows]
        other = statistics.median(turn[way]["other"] for turn in rows)
        count = 1 if way == "one process" else 2
        lines.append(
            f"| {way} | {middle[way]:.0f} | {min(rates):.0f} to {max(rates):.0f} "
            f"| {middle[way] / count / middle['one process']:.0%} | {best[way] / count / best['one process']:.0%} "
            f"| {other:.2f} |"
        )
    apart, together = "two, apart", "two, together"
    share = f"{middle[together] / middle[apart]:.0%}, of the best turns {best[together] / best[apart]:.0%}"
    return "\n".join([*lines, "", f"Together against apart: {share}."])


def main(arguments: list[str]) -> None:
    if "--table" not in arguments:
        turns, steps = (1, 20) if "--quick" in arguments else (5, 150)
        import torch

        from sfumato.networks import fused
        from sfumato.runtime.precision import best_precision

        machine = {
            "cpu": cpu_name(), "cores": os.cpu_count(), "torch": torch.__version__,
            "precision": best_precision("cpu")[0], "kernel": fused.load(),
        }  # fmt: skip
        found: dict[str, Any] = {"machine": machine, "steps": steps, "turns": []}
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "noise.npz"
            pixels = np.random.default_rng(0).integers(0, 256, (512, 28, 28, 1), dtype=np.uint8)
            np.savez(data, pixels)
            for _ in range(turns):
                rates = {way: measured(way, steps, data) for way in WAYS}
                found["turns"].append({way: {"rate": r, "other": other} for way, (r, other) in rates.items()})
        if "--quick" in arguments:
            print(table(found))
            return
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    print(table(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5]))
    else:
        main(sys.argv[1:])
