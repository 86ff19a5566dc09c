"""What the stages of `gpu.py` share: rows of results that are on the disk at once, and workers that wait their turn."""

from __future__ import annotations

import contextlib
import json
import time
import traceback
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

Result = dict[str, Any]
"""What a check measured: numbers, tolerances, and whether it is "ok"."""

LONGEST = 1200.0
"""Seconds after which a worker that was never called leaves."""


@dataclass(frozen=True)
class Place:
    """Where a measurement runs.

    Attributes:
        folder: rows.jsonl, and what workers leave for each other.
        device: "cuda", or "cpu" to try the program itself.
        tiny: everything at its smallest.
        seconds: of one timing.
        pictures: that a trained model is judged by.
        compile: whether networks are compiled where that helps.
    """

    folder: Path
    device: str = "cuda"
    tiny: bool = False
    seconds: float = 1.0
    pictures: int = 2000
    compile: bool = True

    def save(self) -> None:
        """For the workers, which find it in the folder."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "place.json").write_text(json.dumps({**asdict(self), "folder": str(self.folder)}))

    @classmethod
    def open(cls, folder: Path) -> Place:
        """What `save` wrote."""
        return cls(**{**json.loads((folder / "place.json").read_text()), "folder": folder})

    def row(self, stage: str, **values: Any) -> None:
        """One more line of results."""
        line = json.dumps({"stage": stage, **values}, default=float) + "\n"
        with (self.folder / "rows.jsonl").open("a") as file:
            file.write(line)
        print(line, end="", flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """All lines so far."""
        path = self.folder / "rows.jsonl"
        return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []

    @contextlib.contextmanager
    def noted(self, stage: str, **about: Any) -> Iterator[dict[str, Any]]:
        """Values to be filled in, which become a row; an error becomes one too, and goes no further."""
        values: dict[str, Any] = {}
        started = time.perf_counter()
        try:
            yield values
        except Exception as error:
            print(traceback.format_exc(), flush=True)
            values = {**values, "error": f"{type(error).__name__}: {str(error)[:300]}"}
            if self.device == "cuda":
                torch.cuda.empty_cache()
        self.row(stage, **about, **values, took=round(time.perf_counter() - started, 2))

    # ------------------------------------------------------------ turns

    def flag(self, kind: str, name: str) -> Path:
        """The file whose presence says something: "ready", "go" or "done", of a worker or of all."""
        return self.folder / f"{kind}-{name.replace('/', '-').replace(':', '-')}"

    def tell(self, kind: str, name: str, text: str = "") -> None:
        """Raise a flag, whole."""
        path = self.flag(kind, name)
        path.with_suffix(".part").write_text(text)
        path.with_suffix(".part").rename(path)

    def wait(self, kind: str, name: str, limit: float = LONGEST) -> str | None:
        """What a flag says, once it is up; None where it stays down for so many seconds."""
        end = time.monotonic() + limit
        while not self.flag(kind, name).exists():
            if time.monotonic() > end:
                return None
            time.sleep(0.05)
        return self.flag(kind, name).read_text()


def settle(device: str) -> None:
    """Wait until the device has done everything."""
    if device == "cuda":
        torch.cuda.synchronize()
