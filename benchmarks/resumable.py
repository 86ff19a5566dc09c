"""Trainings of benchmarks that stop at their time limit and go on the next time."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import sfumato
from sfumato.runtime.folder import RunFolder


def trained(out: Path, data: str, preset: str, images: int, end: float, **numbers: Any) -> RunFolder | None:
    """Train on so many images, or go on, until the time is over: the run where it is done.

    Args:
        end: on the clock of `time.monotonic`.
        numbers: further arguments of `sfumato.fit`, for the first part.
    """
    begun = (out / "config.json").exists()
    if not done(out, images):
        first = {} if begun else {"images": images, "preview_images": 0, "threads": 1, **numbers}
        sfumato.fit(
            data, preset, out=out, resume=begun, quiet=True, callbacks=lambda _: time.monotonic() > end, **first
        )
    return RunFolder.open(out) if done(out, images) else None


def done(out: Path, images: int) -> bool:
    """Whether the last checkpoint of a run has seen so many."""
    saved = RunFolder.open(out).latest() if (out / "config.json").exists() else None
    return saved is not None and saved.progress["images"] >= images
