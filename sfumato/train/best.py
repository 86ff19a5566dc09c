"""The Frechet distance of samples measured in training, and the checkpoint of the least one, kept as best.safetensors.

The file says its own distance, so that a run that was stopped or killed goes on comparing with what is there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sfumato.runtime import checkpoint
from sfumato.runtime.checkpoint import CheckpointError
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.weights import save_weights
from sfumato.train.session import Session
from sfumato.train.validation import evaluating

MEASURED = ("fd", "floor")
"""The values of a measurement; the others say how it was made."""


def measure_distance(session: Session) -> None:
    """Measure the first average and keep it where it is the best so far; a checkpoint of this very state is there."""
    state, rate = session.state, session.settings.ema[0]
    main = session.accelerator.is_main_process
    if session.distance is None or not (main or state.sharded):
        return
    with evaluating(state.network), state.ema.swapped(rate) as averaged:
        found = {**session.distance(averaged), "rate": rate}
    if not main:
        return
    before = best_so_far(session.folder, found)
    better = before is None or found["fd"] < before
    if better:
        saved = session.folder.latest()
        if saved is None or saved.progress.get("images") != state.images:
            raise CheckpointError(f"{session.folder.path} holds no checkpoint of {state.images:,} images any more")
        save_weights(session.folder.best, saved, rate, said={"distance": found})
    session.record("fd", **found, best=better)
    so_far = ", the best so far" if better else ""
    session.display.say(f"{found['name']} {found['fd']:.4g} after {state.images:,} images{so_far}")


def best_so_far(folder: RunFolder, found: Mapping[str, Any]) -> float | None:
    """The distance of best.safetensors; None without one, or where it was measured in another way than `found`."""
    try:
        held = checkpoint.read(folder.best).about.get("distance") if folder.best.exists() else None
    except CheckpointError:
        return None
    if not isinstance(held, dict) or not isinstance(held.get("fd"), int | float):
        return None
    alike = all(held.get(name) == value for name, value in found.items() if name not in MEASURED)
    return float(held["fd"]) if alike else None
