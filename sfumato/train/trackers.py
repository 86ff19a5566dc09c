"""Experiment trackers beside metrics.jsonl: TensorBoard and Weights & Biases by accelerate, and plain CSV files.

Every number of a line of metrics goes out under KIND/KEY, lists and tables with their index or name behind, at the step
"images seen".
"""

from __future__ import annotations

import contextlib
import csv
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from sfumato.papers.training import TRACKERS, TrainConfig
from sfumato.runtime.folder import RunFolder

Watcher = Callable[[Mapping[str, Any]], object]
"""Called with every line of metrics; a preview's also holds its pictures. True asks the run to save and stop."""

HEAD = ("kind", "images", "step", "seconds")


def check(settings: TrainConfig) -> None:
    """ValueError for a tracker whose package is not installed, with the extra that brings it."""
    for name in settings.logs:
        if TRACKERS[name] and find_spec(TRACKERS[name]) is None:
            raise ValueError(
                f'--train.log {name} needs the package {TRACKERS[name]}: pip install "sfumato[{name}]"'
            )  # fmt: skip


def numbers(row: Mapping[str, Any]) -> dict[str, float]:
    """Every number of a line of metrics by its name, such as train/loss, train/ema/0.999 or validation/online/3."""

    def inside(name: str, value: Any) -> Iterator[tuple[str, float]]:
        if isinstance(value, Mapping | list | tuple):
            pairs = value.items() if isinstance(value, Mapping) else enumerate(value)
            for key, part in pairs:
                yield from inside(f"{name}/{key}", part)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield name, value

    held = {key: value for key, value in row.items() if key not in ("kind", "images", "pictures")}
    return {name: v for key, value in held.items() for name, v in inside(f"{row['kind']}/{key}", value)}


class Csv:
    """One file a kind, KIND.csv, with a column a number; written anew from the run's metrics, then added to."""

    def __init__(self, folder: RunFolder) -> None:
        self.path = folder.path
        self.columns: dict[str, list[str]] = {}
        for name in ("train", "validation", "preview"):
            self._file(name).unlink(missing_ok=True)
        for row in folder.metrics():
            self(row)

    def _file(self, kind: str) -> Path:
        return self.path / f"{kind}.csv"

    def __call__(self, row: Mapping[str, Any]) -> None:
        kind = row["kind"]
        values = {"images": row["images"]} | {
            name.removeprefix(f"{kind}/"): value for name, value in numbers(row).items()
        }  # fmt: skip
        fresh = kind not in self.columns
        columns = self.columns.setdefault(kind, list(values))
        with self._file(kind).open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, columns, restval="", extrasaction="ignore")
            if fresh:
                writer.writeheader()
            writer.writerow({name: repr(value) for name, value in values.items()})


class Tracker:
    """A tracker of accelerate's: tensorboard, in the run folder, or wandb, whose project is sfumato."""

    def __init__(self, name: str, folder: RunFolder, images: int) -> None:
        from accelerate import tracking

        made: Any
        if name == "tensorboard":
            made = tracking.TensorBoardTracker("tensorboard", folder.path, purge_step=images + 1)
        else:
            made = tracking.WandBTracker("sfumato", dir=str(folder.path), name=folder.path.name, resume="allow")
        if start := getattr(made, "start", None):
            start()
        self.made = made

    def __call__(self, row: Mapping[str, Any]) -> None:
        self.made.log(numbers(row), step=row["images"])

    def close(self) -> None:
        """Write what is left."""
        self.made.finish()


@contextlib.contextmanager
def opened(settings: TrainConfig, folder: RunFolder, images: int, here: bool) -> Iterator[list[Watcher]]:
    """The trackers of a run that stands at so many images, for as long as the context lasts; none where not `here`."""
    with contextlib.ExitStack() as open_ones:
        made: list[Watcher] = []
        for name in settings.logs if here else ():
            if name == "csv":
                made.append(Csv(folder))
            else:
                tracker = Tracker(name, folder, images)
                open_ones.callback(tracker.close)
                made.append(tracker)
        yield made
