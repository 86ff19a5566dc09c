"""`make gpu`: one command that checks, times and trains everything on a machine with a GPU, within a few minutes.

`python scripts/gpu.py --out DIR` needs no network. `--wheels DIR` installs what is missing there, `--data DIR` is where
Fashion-MNIST lies (SFUMATO_DATA). First every model is built, in a process of its own; then the benchmarks run in turn;
then all models are trained side by side, beside the checks, and while others compile; they are saved and judged, and
what was compiled is timed. Each stage has its seconds, and every result is a line of DIR/rows.jsonl as soon as it is
known; DIR/gpu.json gathers them, DIR/models-N.tar holds the models. `--tiny` tries it all on a CPU within a minute.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from gpu_common import Place

ROOT = Path(__file__).resolve().parents[1]
LARGEST = 16 * (1 << 20) - 100_000
"""Bytes of a tar file."""
SITE = "SFUMATO_GPU_SITE"


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="where results go")
    parser.add_argument("--wheels", type=Path, help="packages to install first, into a folder that is thrown away")
    parser.add_argument("--data", type=Path, help="the folder that holds fashion-mnist")
    parser.add_argument("--device", default="", help="cuda or cpu; by default what is here")
    parser.add_argument("--prepare", type=float, default=45.0, help="seconds until the models are built, at most")
    parser.add_argument("--bench", type=float, default=80.0, help="seconds for benchmarks, at most")
    parser.add_argument("--timing", type=float, default=0.6, help="seconds of one timing")
    parser.add_argument("--train", type=float, default=270.0, help="seconds of training, of all models side by side")
    parser.add_argument("--late", type=float, default=45.0, help="seconds for compiled benchmarks, at most")
    parser.add_argument("--judge", type=float, default=50.0, help="seconds for sampling and distances, at most")
    parser.add_argument("--pictures", type=int, default=2000, help="that a model is judged by")
    parser.add_argument("--only", default="checks,bench,train", help="which parts")
    parser.add_argument("--models", default="", help="names of the models to train, with commas; all by default")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    parser.add_argument("--tiny", action="store_true", help="everything at its smallest")
    parser.add_argument("--work", type=Path, help="for what is not kept; by default a temporary folder")
    parser.add_argument("--worker", default="", help=argparse.SUPPRESS)
    return parser.parse_args()


# ---------------------------------------------------------------- workers


class Crew:
    """The processes of a run: started by name, watched, and ended."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.running = folder, dict[str, subprocess.Popen[bytes]]()
        self.logs: dict[str, IO[bytes]] = {}
        (folder / "logs").mkdir(exist_ok=True)

    def start(self, name: str, low: bool = False) -> None:
        """One more process of this program; `low`, it gives way to the others."""
        file = name.replace(":", "-").replace("/", "-")
        log = (self.folder / "logs" / f"{file}.log").open("wb")
        command = [sys.executable, str(Path(__file__)), "--worker", name, "--out", str(self.folder)]
        if low and shutil.which("nice"):
            command = ["nice", "-n", "10", *command]
        environment = {
            **os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "TORCHINDUCTOR_COMPILE_THREADS": "3",
        }  # fmt: skip
        self.running[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT)
        self.logs[name] = log

    def alive(self, names: list[str]) -> list[str]:
        """Those of them that are still running; the words of any that failed are printed once."""
        for name in names:
            worker = self.running.get(name)
            if worker is not None and worker.poll() is not None:
                del self.running[name]
                if worker.returncode:
                    print(f"--- {name} ended with {worker.returncode}:\n{self.words(name)}", flush=True)
        return [name for name in names if name in self.running]

    def unready(self, place: Place, names: list[str]) -> list[str]:
        """Those of them that are still running and have not said that they are ready."""
        return [name for name in self.alive(names) if not place.flag("ready", name).exists()]

    def words(self, name: str, last: int = 2000) -> str:
        """The end of what a worker printed."""
        path = self.folder / "logs" / f"{name.replace(':', '-').replace('/', '-')}.log"
        return path.read_text(errors="replace")[-last:]

    def end(self, names: list[str] | None = None) -> None:
        """Stop these workers, or all."""
        for name in list(self.running) if names is None else names:
            if worker := self.running.pop(name, None):
                worker.kill()
                worker.wait()


def main() -> int:
    wanted = options()
    wanted.out.mkdir(parents=True, exist_ok=True)
    if wanted.worker:
        return worked(wanted.worker, wanted.out)
    wanted.work = wanted.work or Path(tempfile.mkdtemp(prefix="gpu-"))
    wanted.work.mkdir(parents=True, exist_ok=True)
    if wanted.wheels:
        install(wanted.wheels)
    if wanted.data:
        os.environ["SFUMATO_DATA"] = str(wanted.data.resolve())
    first = [path for path in (os.environ.get(SITE), str(ROOT)) if path]
    sys.path[:0] = first
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [*first, os.environ.get("PYTHONPATH")]))
    crew = None
    with shared_device(wanted.work):
        try:
            crew = Crew(wanted.work)
            return directed(wanted, crew)
        finally:
            if crew:
                crew.end()


@contextlib.contextmanager
def shared_device(folder: Path) -> Iterator[None]:
    """Kernels of all workers run at the same time, by CUDA's MPS, where it is installed and works; else in turns."""
    control = shutil.which("nvidia-cuda-mps-control")
    if not control or "CUDA_MPS_PIPE_DIRECTORY" in os.environ:
        yield
        return
    names = {"CUDA_MPS_PIPE_DIRECTORY": str(folder / "mps"), "CUDA_MPS_LOG_DIRECTORY": str(folder / "mps-log")}
    for path in names.values():
        Path(path).mkdir(exist_ok=True)
    os.environ.update(names)
    probe = [sys.executable, "-c", "import torch; torch.ones(4, device='cuda').sum().item()"]
    try:
        works = False
        with contextlib.suppress(subprocess.TimeoutExpired):
            started = subprocess.run([control, "-d"], timeout=10, check=False).returncode == 0
            works = started and subprocess.run(probe, timeout=60, check=False).returncode == 0
        if not works:
            print("the workers take turns on the device: MPS does not work here", flush=True)
            for name in names:
                del os.environ[name]
        yield
    finally:
        with contextlib.suppress(subprocess.TimeoutExpired):
            subprocess.run([control], input=b"quit\n", timeout=10, check=False, env={**os.environ, **names})


def install(wheels: Path) -> None:
    """Packages for this run alone; what is there already stays out of the way."""
    site = tempfile.mkdtemp(prefix="gpu-site-")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
    subprocess.run([*command, "--target", site, *map(str, sorted(wheels.glob("*.whl")))], check=True)
    os.environ[SITE] = site


def worked(name: str, folder: Path) -> int:
    """What a worker does."""
    from gpu_common import Place

    place = Place.open(folder)
    kind, _, what = name.partition(":")
    import torch

    torch.set_num_threads(1)
    if kind == "checks":
        from gpu_checks import work

        work(place)
    elif kind == "bench":
        from gpu_bench import work as bench

        bench(what, place)
    else:
        from gpu_training import work as train

        train(what, place)
    return 0


# ---------------------------------------------------------------- the plan


def directed(wanted: argparse.Namespace, crew: Crew) -> int:
    """All stages in turn."""
    import torch
    from gpu_bench import ceiling, workers
    from gpu_common import Place
    from gpu_training import tasks

    device = wanted.device or ("cuda" if torch.cuda.is_available() else "cpu")
    place = Place(
        wanted.work, device, wanted.tiny, 0.05 if wanted.tiny else wanted.timing,
        32 if wanted.tiny else wanted.pictures, device == "cuda" and not wanted.no_compile,
    )  # fmt: skip
    place.save()
    parts, started = wanted.only.split(","), time.monotonic()

    def elapsed() -> float:
        return round(time.monotonic() - started, 1)

    place.row("machine", **machine(device))
    models = [name for name in tasks(place) if not wanted.models or name in wanted.models.split(",")]
    trainers = [f"train:{name}" for name in models] if "train" in parts else []
    now, later = workers(place) if "bench" in parts else ((), ())
    benches, compiled = ([f"bench:{name}" for name in names] for names in (now, later))
    checks = ["checks"] if "checks" in parts else []
    if device == "cuda" and trainers:
        os.environ["GPU_KERNEL"] = "1" if kernel_is_right(place) else "0"

    # every model is built, and its step captured; nobody else is at work
    for name in [*trainers, *benches]:
        crew.start(name)
    if "bench" in parts:
        with place.noted("ceiling") as values:
            values |= ceiling(place)
    end = time.monotonic() + wanted.prepare
    while time.monotonic() < end and crew.unready(place, [*trainers, *benches]):
        time.sleep(0.1)
    place.row("clock", after="building", at=elapsed(), late=crew.unready(place, trainers))
    in_turn(crew, place, benches, wanted.bench, wanted.out)
    place.row("clock", after="benchmarks", at=elapsed())

    # training, side by side; checks measure no time, and what must be compiled for a benchmark is compiled meanwhile
    place.tell("go", "train", str(time.time() + wanted.train))
    for name in [*checks, *compiled]:
        crew.start(name, low=device == "cuda")
    finish = time.monotonic() + wanted.train + 30
    while time.monotonic() < finish and any(not place.flag("done", n).exists() for n in crew.alive(trainers)):
        crew.alive([*checks, *compiled])
        time.sleep(0.2)
    packed(place.folder, wanted.out)
    place.row("clock", after="training", at=elapsed())
    gathered(place, wanted.out)
    end = time.monotonic() + wanted.judge
    while crew.alive([*trainers, *checks]) and time.monotonic() < end:
        time.sleep(0.2)
    place.row("clock", after="judging", at=elapsed(), late=crew.alive([*trainers, *checks]))
    crew.end([*trainers, *checks])
    packed(place.folder, wanted.out)
    in_turn(crew, place, compiled, wanted.late, wanted.out)
    place.row("clock", after="everything", at=elapsed())
    crew.end()
    packed(place.folder, wanted.out)
    gathered(place, wanted.out)
    print(summary(place.rows()))
    return 0


def in_turn(crew: Crew, place: Place, names: list[str], seconds: float, out: Path) -> None:
    """Let these benchmarks run one after the other, those that are ready, for so long in all."""
    end = time.monotonic() + seconds
    for name in names:
        if name in crew.unready(place, [name]):
            place.row("clock", after=name, note="not ready")
        elif crew.alive([name]):
            place.tell("go", name)
            while crew.alive([name]) and time.monotonic() < end:
                time.sleep(0.05)
        crew.end([name])
        gathered(place, out)


def kernel_is_right(place: Place) -> bool:
    """Whether the GPU kernel computes what it should here; otherwise training goes without."""
    from gpu_checks import kernel_checks

    right = True
    for name, check in list(kernel_checks().items())[:4]:
        found: dict[str, object] = {}
        with place.noted("kernel", name=name) as values:
            found |= check()
            values |= found
        right = right and bool(found.get("ok"))
    return right


def machine(device: str) -> dict[str, object]:
    """What the numbers were measured on."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else platform.processor() or platform.machine()
    return {
        "device": name, "torch": torch.__version__, "cuda": torch.version.cuda, "python": platform.python_version(),
        "processors": os.cpu_count(), "date": time.strftime("%Y-%m-%d"),
    }  # fmt: skip


# ---------------------------------------------------------------- what is kept


def gathered(place: Place, out: Path) -> None:
    """The rows as they came, and gpu.json, in which they stand by stage."""
    rows = place.rows()
    (out / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    stages: dict[str, list[dict[str, object]]] = {}
    for row in rows:
        stages.setdefault(row.pop("stage"), []).append(row)
    (out / "gpu.json").write_text(json.dumps(stages, indent=1) + "\n")


def packed(folder: Path, out: Path) -> None:
    """models-N.tar, each at most 16 MiB, and logs and sheets in one more."""
    groups: list[list[Path]] = []
    for path in sorted((folder / "models").glob("*.safetensors"), key=lambda p: -p.stat().st_size):
        size = path.stat().st_size + 2048
        for group in groups:
            if sum(p.stat().st_size + 2048 for p in group) + size <= LARGEST:
                group.append(path)
                break
        else:
            groups.append([path])
    for i, group in enumerate(groups, 1):
        tarred(out / f"models-{i}.tar", group)
    rest = [*sorted((folder / "sheets").glob("*.png")), *sorted((folder / "logs").glob("*.log"))]
    tarred(out / "sheets-and-logs.tar.gz", rest, "w:gz")


def tarred(target: Path, paths: list[Path], mode: str = "w") -> None:
    """One tar file, whole."""
    part = target.with_name(f".{target.name}")
    with tarfile.open(part, mode) as file:  # type: ignore[call-overload]
        for path in paths:
            with contextlib.suppress(OSError):
                file.add(path, f"{path.parent.name}/{path.name}")
    shutil.move(part, target)


def summary(rows: list[dict[str, object]]) -> str:
    """The short version, for a person."""
    lines = []
    for row in rows:
        stage = row["stage"]
        if stage == "checks" and not row.get("ok"):
            lines.append(f"FAILED {row}")
        elif stage in ("bench", "training", "distance", "accuracy", "ceiling", "clock", "prepared"):
            lines.append(" ".join(f"{k}={v:.4g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items()))
    passed = [row for row in rows if row["stage"] == "checks"]
    lines.append(f"{sum(bool(row.get('ok')) for row in passed)} of {len(passed)} checks passed")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
