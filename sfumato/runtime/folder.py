"""The run folder, which holds everything about a run: config, data card, metrics, pictures, checkpoints and snapshots.

Each file is complete or absent, except metrics.jsonl, to which lines are appended; a resumed run first forgets whatever
is later than its checkpoint.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sfumato.runtime import checkpoint
from sfumato.runtime.checkpoint import Checkpoint, CheckpointError
from sfumato.runtime.files import naming, whole_file
from sfumato.runtime.json_file import read_object
from sfumato.runtime.opening import read_bounded

NAME = r"\d+\.(safetensors|parts)"
"""Checkpoints and snapshots are called so."""
METRICS = 1 << 30
"""Bytes of metrics that are read, at most."""


class RunError(ValueError):
    """A folder that cannot take or give a run, in one clear line."""


@dataclass(frozen=True)
class RunFolder:
    """The files of one run; make one with `create` or `open`."""

    path: Path

    @staticmethod
    def check_new(path: str | Path) -> None:
        """RunError where a new run cannot go: into a file, or a folder with something in it already."""
        path = Path(path)
        if (path / "config.json").exists():
            raise RunError(f"{path} holds a run already; go on with: sfumato train --resume {shlex.quote(str(path))}")
        if path.exists() and not path.is_dir():
            raise RunError(f"{path} is a file, not a folder for a run")
        if path.is_dir() and any(not child.name.startswith(".") for child in path.iterdir()):
            raise RunError(f"{path} is not empty and holds no run; choose another folder")

    @classmethod
    def create(cls, path: str | Path, config: Mapping[str, Any]) -> RunFolder:
        """A new run in a folder that is absent or empty. RunError where there is something in it already."""
        path = Path(path)
        cls.check_new(path)
        path.mkdir(parents=True, exist_ok=True)
        folder = cls(path)
        folder.write_json("config.json", config)
        return folder.prepared()

    @classmethod
    def open(cls, path: str | Path) -> RunFolder:
        """A run that exists. RunError where there is none."""
        path = Path(path)
        if not (path / "config.json").is_file():
            raise RunError(f"{path} is not a run folder: it has no config.json")
        if (path / "model.safetensors").exists():
            raise RunError(f"{path} holds a model without its run; begin another at it: sfumato train PRESET --from")
        return cls(path)

    def prepared(self) -> RunFolder:
        """Make the folders that it has. OSError where one cannot be made."""
        for name in ("samples", "checkpoints"):
            (self.path / name).mkdir(exist_ok=True)
        return self

    def discard(self) -> None:
        """Take away a run that never began: what `create` and the first lines about it left, and nothing else."""
        first = "checkpoints/000000000.safetensors"
        for name in ("config.json", "data_card.json", "metrics.jsonl", "samples/data.png", first):
            (self.path / name).unlink(missing_ok=True)
        for folder in (self.path / "samples", self.path / "checkpoints"):
            with contextlib.suppress(OSError):  # there is something of somebody else's in it
                folder.rmdir()

    # ---------------------------------------------------------------- small files

    def write_json(self, name: str, values: Mapping[str, Any]) -> None:
        """Write one of the JSON files."""
        _write(self.path / name, json.dumps(values, indent=2) + "\n")

    def config(self) -> dict[str, Any]:
        """What the run was started with."""
        return read_object(self.path / "config.json", RunError)

    def data_card(self) -> dict[str, Any]:
        """What the data held."""
        return read_object(self.path / "data_card.json", RunError)

    def append(self, record: Mapping[str, Any]) -> None:
        """One more line of metrics."""
        path = self.path / "metrics.jsonl"
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def metrics(self, kind: str | None = None) -> list[dict[str, Any]]:
        """The metrics so far, all or of one kind: "train", "validation" or "preview"."""
        return [record for record in self._records() if kind in (None, record["kind"])]

    def _records(self) -> Iterator[dict[str, Any]]:
        path = self.path / "metrics.jsonl"
        lines = read_bounded(path, METRICS).decode("utf-8", "replace").splitlines() if path.exists() else ()
        for number, line in enumerate(lines, 1):
            try:
                record = json.loads(line)
            except (ValueError, RecursionError):
                return  # the last line of a run that was killed while writing it
            if not _is_record(record):
                raise RunError(f"{path} is damaged: line {number} holds no metrics; move it away to go on without them")
            yield record

    def save_picture(self, name: str, png: bytes) -> None:
        """Write a picture as samples/NAME.png; IMAGES-WHAT names one after so many images."""
        path = self.path / "samples" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        with whole_file(path) as file:
            file.write(png)

    # ---------------------------------------------------------------- checkpoints

    @property
    def best(self) -> Path:
        """Where the weights of the least Frechet distance that was measured in training are, if it was measured."""
        return self.path / "best.safetensors"

    def checkpoints(self) -> list[Path]:
        """All checkpoints, the newest first."""
        return _numbered(self.path / "checkpoints")

    def save_checkpoint(
        self, images: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any], keep: int = 2, parts: bool = False
    ) -> Path:
        """Write checkpoints/IMAGES.safetensors, then remove all but the newest `keep`.

        With `parts` it is a folder, IMAGES.parts, and all processes do this together.
        """
        path = self._save("checkpoints", images, tensors, about, parts)
        for old in self.checkpoints()[keep:]:
            _remove(old)
        return path

    def _save(
        self, folder: str, images: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any], parts: bool
    ) -> Path:
        path = self.path / folder / f"{images:09d}.{'parts' if parts else 'safetensors'}"
        path.parent.mkdir(exist_ok=True)
        save = checkpoint.save_parts if parts else checkpoint.save
        save(path, tensors, about)
        return path

    def save_snapshot(
        self, images: int, tensors: Mapping[str, Tensor], about: Mapping[str, Any], parts: bool = False
    ) -> Path:
        """Write snapshots/IMAGES.safetensors, as a checkpoint is written, of averages that give others later."""
        return self._save("snapshots", images, tensors, about, parts)

    def snapshots(self) -> list[Path]:
        """All snapshots of averages, the newest first."""
        return _numbered(self.path / "snapshots")

    def latest(self) -> Checkpoint | None:
        """The newest checkpoint that can be read, saying so where it is not the newest; None where there is none."""
        problem: CheckpointError | None = None
        for path in self.checkpoints():
            try:
                found = checkpoint.read(path)
            except CheckpointError as error:
                problem = problem or error
                continue
            if problem:
                print(f"{problem}; going back to {path.name}", file=sys.stderr)
            return found
        if problem:
            raise problem
        return None

    def latest_checkpoint(self) -> Path | None:
        """Where `latest` is."""
        found = self.latest()
        return found.path if found else None

    def rewind(self, images: int) -> None:
        """Forget whatever is later than so many images, and what a killed process left half-written."""
        self.prepared()
        records = [json.dumps(record) + "\n" for record in self._records() if record["images"] <= images]
        _write(self.path / "metrics.jsonl", "".join(records))
        for picture in (self.path / "samples").glob("*-*.png"):
            if picture.name.split("-")[0].isdigit() and int(picture.name.split("-")[0]) > images:
                picture.unlink()
        for path in [*self.checkpoints(), *self.snapshots()]:
            if int(path.stem) > images:
                _remove(path)
        if self.best.exists() and _came_to(self.best) > images:
            self.best.unlink()
        for folder in (self.path, *(self.path / name for name in ("samples", "checkpoints", "snapshots"))):
            for leftover in folder.iterdir() if folder.is_dir() else ():
                if re.match(r"\..+\.(json|jsonl|png|html|safetensors|parts)\.", leftover.name):
                    _remove(leftover)


def _is_record(record: Any) -> bool:
    """Whether this is a line of metrics: its kind, and the numbers that every reader takes for granted."""
    if not isinstance(record, dict) or not isinstance(record.get("kind"), str):
        return False
    needed = ("images", "step", "seconds", *(("loss", "learning_rate") if record["kind"] == "train" else ()))
    return all(isinstance(record.get(name), int | float) for name in needed)


def _numbered(folder: Path) -> list[Path]:
    """The checkpoints of a folder, or its snapshots, the newest first. OSError where it may not be looked into."""
    found = [path for path in folder.iterdir() if re.fullmatch(NAME, path.name)] if folder.is_dir() else []
    return sorted(found, key=lambda path: int(path.stem), reverse=True)


def _came_to(path: Path) -> float:
    """The images that the run of a checkpoint had seen; infinity where it is damaged."""
    try:
        return float(checkpoint.read(path).progress.get("images", math.inf))
    except CheckpointError:
        return math.inf


def _remove(path: Path) -> None:
    """Remove a file, or a folder, which is hidden first, so that it is never there in part."""
    if path.is_dir():
        hidden = path.with_name(f".{path.name.lstrip('.')}.old")
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            path.rename(hidden)
            shutil.rmtree(hidden, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _write(path: Path, text: str) -> None:
    with whole_file(path) as file:
        file.write(text.encode())
