"""The validation loss by the length of the average, measured at the end of a run: which average suits it (EDM2).

Every length is rebuilt from the snapshots (`runtime.weights`) and measured on the same images, levels and noise.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from statistics import fmean

from sfumato.core.profiles import Profile, rebuilt_error
from sfumato.runtime.checkpoint import Checkpoint, CheckpointError
from sfumato.runtime.weights import MOST_WRONG, basis, rebuilt
from sfumato.train.session import Session
from sfumato.train.validation import validation_of

LENGTHS = (0.1, 0.05, 0.2, 0.15, 0.075, 0.25, 0.03, 0.125, 0.06, 0.175, 0.04, 0.225)
"""The lengths sigma_rel that are measured, the first ones first, as far as the time suffices."""

GRACE, SHARE = 10.0, 0.02
"""No further length is measured after so many seconds and this share of the training time."""


def measure_lengths(session: Session) -> None:
    """Write a line of metrics with the validation loss of each length, from the newest checkpoint and its snapshots.

    Nothing is measured without snapshots or validation images, nor where processes share the weights.
    """
    state, settings = session.state, session.settings
    mine = session.accelerator.is_main_process and not state.sharded
    if not mine or not state.profiles.lengths or not settings.validation_images:
        return
    saved = session.folder.latest()
    if saved is None or saved.progress.get("images") != state.images:
        return
    try:
        found = dict(sorted(_losses(session, saved)))
    except (CheckpointError, OSError, MemoryError) as error:
        session.display.say(f"note     no losses by the length of the average: {error}")
        return
    if found:
        session.record("lengths", lengths=list(found), loss=list(found.values()))


def _losses(session: Session, saved: Checkpoint) -> Iterator[tuple[float, float]]:
    """Lengths with their mean loss over the levels, for as long as there is time."""
    network, started = session.state.network, time.perf_counter()
    measure = validation_of(session)
    (_, stored), images = basis(saved), saved.progress["images"]
    kept = {name: value.detach().clone() for name, value in network.state_dict().items()}
    try:
        for length in LENGTHS:
            if time.perf_counter() - started > GRACE + SHARE * session.state.seconds:
                return
            if rebuilt_error(stored, Profile(images, length), points=4_000) <= MOST_WRONG:
                network.load_state_dict(rebuilt(saved, length).tensors())
                yield length, fmean(measure.loss_by_level(network))
    finally:
        network.load_state_dict(kept)
