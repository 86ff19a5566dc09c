"""A process that has imported everything once and forks for each case: it lays the case out, runs the command and says
what came of it. `python -m tests.hostile.forks FOLDER` reads names of cases, one a line, and answers in JSON lines.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import resource
import select
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

SECONDS, GIBIBYTES = 20, 4
"""What a case may take: of the processor's time, and of memory at once."""

WAIT = 60
"""Seconds on the clock, however busy the machine is: longer waits for something that never comes."""

LIMIT = GIBIBYTES << 30

MODULES = """cli.parsing cli.sample cli.evaluate cli.edit cli.restore cli.likelihood cli.convert cli.prepare
cli.inspect cli.reproduce cli.compare cli.train cli.endings cli.streams models.loading models.generate models.editing
models.restoration train.loop train.report evaluate.run evaluate.sets evaluate.features likelihood convert.foreign
convert.onnx cost.inspection compare.report data.prepare data.stream papers.presets inverse claims"""
OTHERS = ("webdataset", "safetensors.torch", "torch.distributed.checkpoint", "accelerate", "PIL.ImageFile", "tqdm",
          "torch._inductor.utils", "torch.utils.flop_counter", "torch.distributed.tensor")


def prepared() -> None:
    """Import all that commands import, so that a fork has it."""
    with warnings.catch_warnings(action="ignore"):
        for name in (*(f"sfumato.{name}" for name in MODULES.split()), *OTHERS):
            importlib.import_module(name)
    import torch
    from PIL import Image

    from tests.hostile import cases

    cases.by_name(cases.all_cases()[0].full_name)
    torch.set_num_threads(1)
    torch.set_num_interop_threads(1)
    Image.init()
    gc.collect()
    gc.freeze()


def snapshot(folder: Path) -> dict[str, str]:
    """Every path below a folder, with what tells whether it was changed."""
    found: dict[str, str] = {}
    left = [""]
    while left:
        inside = left.pop()
        try:
            entries = list(os.scandir(folder / inside))
        except OSError:  # longer than a path can be
            continue
        for entry in entries:
            name = f"{inside}/{entry.name}" if inside else entry.name
            try:
                about = entry.stat(follow_symlinks=False)
            except OSError:  # longer than a path can be
                continue
            below = entry.is_dir(follow_symlinks=False)
            found[name] = f"{about.st_mode} {'' if below else f'{about.st_size} {about.st_mtime_ns}'}"
            if below:
                left.append(name)
    return found


def removed(folder: Path) -> None:
    """Remove a folder, however deep it is."""
    subprocess.run(["rm", "-rf", str(folder)], check=True)


def _child(name: str, folder: Path, started: int) -> None:
    """Lay the case out, say so, and run its command; does not return."""
    from tests.hostile import cases

    code = 99
    try:
        os.setsid()
        case = cases.by_name(name)
        work = folder / "work"
        for made in (work, folder / "home", folder / "tmp"):
            made.mkdir(parents=True)
        os.chdir(work)
        os.environ.update(HOME=str(folder / "home"), XDG_CACHE_HOME=str(folder / "home"), TMPDIR=str(folder / "tmp"))
        words = case.build(work)
        (folder / "words.json").write_text(json.dumps(words))
        (folder / "before.json").write_text(json.dumps(snapshot(work)))
        _bounded()
        _powerless()
        for number, path in ((0, os.devnull), (1, folder / "stdout"), (2, folder / "stderr")):
            os.dup2(os.open(path, os.O_RDONLY if number == 0 else os.O_WRONLY | os.O_CREAT, 0o600), number)
        sys.stdout = os.fdopen(1, "w", encoding="utf-8", errors="surrogateescape", closefd=False)
        sys.stderr = os.fdopen(2, "w", encoding="utf-8", errors="backslashreplace", closefd=False)
        os.write(started, b"s")
        code = _run(words)
        sys.stdout.flush()
        sys.stderr.flush()
    except BaseException:
        import traceback

        (folder / "error").write_text(traceback.format_exc(), "utf-8", "backslashreplace")
    os._exit(code)


def _run(words: list[str]) -> int:
    """The exit code of a command, as the interpreter would have it."""
    from sfumato.cli import main

    try:
        return main(words)
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else 0 if stop.code is None else 1
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1


def _bounded() -> None:
    """From here on the process may take so much memory, and its peak is counted from here."""
    import tempfile

    tempfile.tempdir = None
    with open("/proc/self/statm") as file:
        mapped = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + LIMIT + (1 << 30), resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + SECONDS + 1, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")


def _powerless() -> None:
    """Without the privileges of root, if it has them: permissions hold for it, as for everyone."""
    header, nothing = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()
    ctypes.CDLL(None).capset(header, nothing)


def run(name: str, folder: Path) -> dict[str, Any]:
    """One case, in a folder of its own: what came of it."""
    removed(folder)
    folder.mkdir(parents=True)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        _child(name, folder, writing)
    os.close(writing)
    ready = bool(select.select([reading], [], [], 120)[0]) and os.read(reading, 1) == b"s"
    os.close(reading)
    begun = time.monotonic()
    status, usage = _waited(child, begun + (WAIT if ready else 0))
    seconds = time.monotonic() - begun
    out = {name: _text(folder / name) for name in ("stdout", "stderr", "error")}
    before = json.loads((folder / "before.json").read_text()) if ready else {}
    after = snapshot(folder / "work") if (folder / "work").is_dir() else {}
    changed = [path for path, about in after.items() if before.get(path) != about]
    gone = [path for path in before if path not in after]
    temporary = os.listdir(folder / "tmp") if (folder / "tmp").is_dir() else []
    return {
        "name": name, "ready": ready, "code": None if status is None else os.waitstatus_to_exitcode(status),
        "seconds": seconds, "peak": usage * 1024, "changed": changed, "gone": gone, "temporary": temporary,
        "new": [path for path in after if path not in before], **out,
        "words": json.loads((folder / "words.json").read_text()) if ready else [],
    }


def _waited(child: int, deadline: float) -> tuple[int | None, int]:
    """The status (None where it ran out of time) and the peak memory in kilobytes of a child and what it started."""
    pause = 0.001
    while True:
        found, status, usage = os.wait4(child, os.WNOHANG)
        over = time.monotonic() > deadline
        if found or over:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
            if not found:
                os.kill(child, signal.SIGKILL)
                _, _, usage = os.wait4(child, 0)
                return None, usage.ru_maxrss
            return status, usage.ru_maxrss
        time.sleep(pause)
        pause = min(0.02, 1.5 * pause)


def _text(path: Path) -> str:
    if not path.exists():
        return ""
    with path.open("rb") as file:
        return file.read(200_000).decode("utf-8", "surrogateescape")


def serve(folder: Path) -> None:
    """Answer names of cases until there are no more."""
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # ends with whoever started it
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    prepared()
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        name = json.loads(line)
        print(json.dumps(run(name, folder / "case")), file=answers, flush=True)
    removed(folder / "case")


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
