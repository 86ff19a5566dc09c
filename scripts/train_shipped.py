"""Train the models that ship, in the background and for as long as one likes: a queue that goes on where it stood.

`python scripts/train_shipped.py --minutes 60` trains the jobs of the table below in their order, one thread, at low
priority, below runs/shipped; stopped by its time limit, by Ctrl-C or by a crash, it goes on from the last checkpoint
when it is called again. At any moment, also while that runs, `--pack` measures the newest checkpoint of every job: a
row of its curve in benchmarks/results/train_shipped.json, Frechet distance against images seen. What is nearer to
held-out images than the file that ships replaces it; `--list` prints what each has reached.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sfumato.data import open_source
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.neighbours import nearest
from sfumato.models import Model, load_model
from sfumato.runtime import weights
from sfumato.runtime.folder import RunFolder

ROOT = Path(__file__).parent.parent
RUNS, SHIPPED = ROOT / "runs" / "shipped", ROOT / "sfumato" / "checkpoints"
RESULTS = ROOT / "benchmarks" / "results" / "train_shipped.json"
Rows = dict[str, list[dict[str, Any]]]


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        preset: what is trained; its name with a dash is that of the file.
        images: the budget.
        options: further words of `sfumato train`.
        pictures: how many are judged; fewer where each costs a thousand evaluations.
    """

    preset: str
    images: str
    options: tuple[str, ...] = ()
    pictures: int = 1000

    @property
    def name(self) -> str:
        """As its folder and its file are called."""
        return self.preset.replace("/", "-")


JOBS = (
    Job("ncsn/fashion", "1M", pictures=200),
    Job("ddpm/emoji32", "3M", ("--train.flip", "--recipe.network.dropout", "0.2")),
    Job("adm/emoji32", "2M", ("--train.flip", "--recipe.network.multipliers", "1", "2", "3")),
    Job("score_sde/fashion-ve", "3M", pictures=500),
    Job("iddpm/fashion", "2M"),
    Job("ncsnv2/fashion", "2M", pictures=500),
    Job("adm/fashion", "2M"),
)
"""The queue; first what falls shortest of its aim."""
TINY = (Job("ddpm/digits", "640", ("--recipe.network.channels", "8"), 32),)


# ---------------------------------------------------------------- training


def train(jobs: tuple[Job, ...], runs: Path, minutes: float) -> None:
    """Go through the queue until the time is over."""
    end = time.monotonic() + 60 * minutes
    for job in jobs:
        run, left = runs / job.name, end - time.monotonic()
        if (run / "report.html").exists():
            continue
        if left < 1:
            return
        new = [job.preset, "--train.images", job.images, "--train.threads", "1", "--out", str(run), *job.options]
        words = ["--resume", str(run)] if (run / "config.json").exists() else new
        print(f"== {job.name}, for {left / 60:.0f} minutes at most", flush=True)
        code = slice_of([sys.executable, "-m", "sfumato", "train", *words], left)
        if code not in (0, 128 + signal.SIGINT):
            raise SystemExit(f"the training of {job.preset} ended with {code}")


def slice_of(command: list[str], seconds: float) -> int:
    """Run a command at low priority for at most so long; then it is asked to save and to end, as by Ctrl-C."""
    child = subprocess.Popen(command, preexec_fn=lambda: os.nice(15), env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        return child.wait(seconds)
    except (subprocess.TimeoutExpired, KeyboardInterrupt):
        child.send_signal(signal.SIGINT)
        return child.wait()


# ---------------------------------------------------------------- judging and packing


def distance(model: Model, data: str, pictures: int) -> tuple[float, float, float]:
    """Frechet distance to held-out images, that of as many training images, and the share of copies."""
    net, held_out, training = in_domain(data), open_source(f"{data}:test").images, open_source(data).images
    real, images = statistics(net(held_out).pooled), model.sample(pictures, seed=1, batch=100)
    some = training[torch.arange(pictures) * len(training) // pictures]
    found = nearest((images / 127.5 - 1).flatten(1), (training / 127.5 - 1).flatten(1))
    fd, floor = (frechet_distance(statistics(net(each).pooled), real) for each in (images, some))
    return round(fd, 3), round(floor, 3), round(float(found.copies.double().mean()), 4)


def pack(jobs: tuple[Job, ...], runs: Path, results: Path, shipped: Path) -> None:
    """Judge the newest checkpoint of each job, and ship those that are better than what ships."""
    rows: Rows = json.loads(results.read_text()) if results.exists() else {}
    for job in jobs:
        saved = RunFolder.open(runs / job.name).latest() if (runs / job.name / "config.json").exists() else None
        mine = rows.setdefault(job.name, [])
        if saved is None or any(row["images"] == saved.progress["images"] for row in mine):
            continue
        data, target = saved.data["spec"], shipped / f"{job.name}.safetensors"
        if target.exists() and not any("shipped" in row for row in mine):  # by the same measure
            mine.append({"images": 0, "shipped": distance(load_model(str(target)), data, job.pictures)[0]})
        fd, floor, copies = distance(load_model(str(runs / job.name)), data, job.pictures)
        best = min((row.get("shipped", float("inf")) for row in mine), default=float("inf"))
        row = {"images": saved.progress["images"], "seconds": saved.progress["seconds"], "fd": fd, "floor": floor,
               "copies": copies, "pictures": job.pictures}  # fmt: skip
        if fd < best:
            shipped.mkdir(parents=True, exist_ok=True)
            weights.save_weights(target, saved, half=True)
            row["shipped"] = fd
        mine.append(row)
        results.write_text(json.dumps(rows, indent=1) + "\n")
        print(f"{job.name:24} {row['images']:>9,} images  FD {fd:.2f} (real {floor:.2f}, ships {best:.2f})"
              f"{', now ships' if fd < best else ''}", flush=True)  # fmt: skip


def listed(jobs: tuple[Job, ...], runs: Path) -> None:
    """A line for each job."""
    for job in jobs:
        saved = RunFolder.open(runs / job.name).latest() if (runs / job.name / "config.json").exists() else None
        reached = "not begun" if saved is None else f"{saved.progress['images']:,} images"
        print(f"{job.name:24} {reached} of {job.images}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--only", nargs="*", default=[], help="names of jobs")
    parser.add_argument("--runs", type=Path, default=RUNS)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--shipped", type=Path, default=SHIPPED)
    parser.add_argument("--tiny", action="store_true", help="a queue of seconds, for the tests")
    parser.add_argument("--pack", action="store_true")
    parser.add_argument("--list", action="store_true")
    wanted = parser.parse_args()
    torch.set_num_threads(1)
    jobs = TINY if wanted.tiny else JOBS
    if unknown := set(wanted.only) - {job.name for job in jobs}:
        raise SystemExit(f"no such jobs: {', '.join(sorted(unknown))}; there are {', '.join(j.name for j in jobs)}")
    jobs = tuple(job for job in jobs if not wanted.only or job.name in wanted.only)
    if wanted.list:
        listed(jobs, wanted.runs)
    elif wanted.pack:
        pack(jobs, wanted.runs, wanted.results, wanted.shipped)
    else:
        train(jobs, wanted.runs, wanted.minutes)


if __name__ == "__main__":
    main()
