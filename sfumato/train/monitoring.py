"""Monitoring between two steps: the loss by noise level, previews, checkpoints, and a dump of a step that failed."""

from __future__ import annotations

import contextlib
import math
from typing import Any

import torch

from sfumato.data import pictures
from sfumato.data.loader import eight_bits
from sfumato.data.sources import view_of
from sfumato.runtime import sharding
from sfumato.runtime.checkpoint import halved
from sfumato.train.batches import Batch, seed_dropout, shard
from sfumato.train.session import Session
from sfumato.train.validation import BINS, colours, evaluating, validation_of

PATIENCE = 10
"""So many steps in a row may be skipped because their loss or gradient is not finite."""

GRACE, SHARE = 5.0, 0.1
"""Validation and previews, but for the last, are left out while they have taken more than so many seconds and this
share of the training time."""


def due(last: float, now: float, every: float) -> bool:
    """Whether a multiple of `every` lies in (last, now]."""
    return int(now / every + 1e-9) > int(last / every + 1e-9)


def monitor(session: Session, last: float, now: float) -> None:
    """Validate and show pictures where that is due between these two shares of the run, and always at its end."""
    settings, finished = session.settings, now >= 1
    mine = session.accelerator.is_main_process or session.state.sharded
    looks = [
        look
        for look, count, every in (
            (_validate, settings.validation_images, settings.validate_every),
            (_show, settings.preview_images, settings.preview_every),
        )
        if count and (finished or due(last, now, every))
    ]
    if not looks or not mine or not (finished or _affordable(session)):
        return
    try:
        for look in looks:
            look(session)
    except Exception:
        if not session.state.sharded:  # it may have failed in one process only, which cannot save alone
            save(session)  # a picture that failed costs no training
        raise


def _affordable(session: Session) -> bool:
    """Whether looking at the run has not taken too much of its time; those who share the weights decide together."""
    ours = session.clock.away < GRACE + SHARE * session.clock()
    if not session.state.sharded:
        return ours
    return bool(session.accelerator.reduce(torch.tensor(float(ours), device=session.accelerator.device)) > 0)


def _validate(session: Session) -> None:
    """The loss by noise level, of the online weights and of the first average."""
    state, settings = session.state, session.settings
    measure = validation_of(session)
    online = measure.loss_by_level(state.network)
    with state.ema.swapped(settings.ema[0]) as averaged:
        ema = measure.loss_by_level(averaged)
    on = "training images" if session.validation is session.images else session.validation.card.spec
    expected: dict[str, Any] = {}
    if state.uncertainty is not None:
        t, _ = session.diffusion.times.draw((torch.arange(BINS) + 0.5) / BINS)
        with torch.no_grad():
            expected["uncertainty"] = state.uncertainty(session.log_snr(t)).exp().tolist()
    session.record("validation", on=on, online=online, ema=ema, rate=settings.ema[0], **expected)


def _show(session: Session) -> None:
    """Preview pictures of the online weights and of the first average, and their colours beside the data's."""
    if session.preview is None:
        return
    state, seen = session.state, {}
    made: dict[str, torch.Tensor] = {}
    with evaluating(state.network):
        online = session.preview(state.network)
        with state.ema.swapped(session.settings.ema[0]) as averaged:
            ema = session.preview(averaged)
    show = view_of(session.images.spec)
    for name, images in (("online", online), ("ema", ema)):
        if session.accelerator.is_main_process:
            session.folder.save_picture(f"{state.images:09d}-{name}", pictures.sheet_bytes(images, show))
        seen[name], made[name] = colours(eight_bits(images)), images
    card = session.images.card
    session.record("preview", made, **seen, data=card.in_bytes)


def log(session: Session, rate: float, decays: dict[float, float], images_per_second: float) -> None:
    """A line about the steps since the last one."""
    recent = session.state.recent or [(math.nan, math.nan)]
    loss, norm = (sum(values) / len(values) for values in zip(*recent, strict=True))
    session.state.recent.clear()
    session.record(
        "train", loss=loss, learning_rate=rate, gradient_norm=norm,
        images_per_second=round(images_per_second, 2), ema={str(r): round(d, 6) for r, d in decays.items()},
        skipped=session.state.skipped,
    )  # fmt: skip


def save(session: Session) -> None:
    """A checkpoint of the run as it stands."""
    if session.accelerator.is_main_process or session.state.sharded:
        about = {**_about(session), "ema": [str(rate) for rate in session.state.ema.rates]}
        session.folder.save_checkpoint(
            session.state.images, session.state.tensors(), about, session.settings.keep, parts=session.state.sharded
        )


def save_snapshot(session: Session) -> None:
    """A snapshot of the power-function averages, in float16 where one process holds them and float16 can."""
    state = session.state
    if not state.profiles.lengths or not (session.accelerator.is_main_process or state.sharded):
        return
    tensors = state.profile_tensors()
    if not state.sharded:
        with contextlib.suppress(ValueError):
            tensors = {name: halved(name, value) for name, value in tensors.items()}
    session.folder.save_snapshot(state.images, tensors, _about(session), parts=state.sharded)


def _about(session: Session) -> dict[str, Any]:
    """What a file of this run says of it."""
    card, origin = session.images.card, session.config.get("from")
    return {
        **({"from": origin} if origin else {}),
        "recipe": session.config["recipe"],
        "train": session.settings.to_json(),
        "data": {
            "spec": card.spec,
            "shape": card.shape,
            "classes": session.images.classes,
            "fingerprint": card.fingerprint,
        },
        "progress": session.state.progress(),
        "profiles": [str(length) for length in session.state.profiles.lengths],
    }


def _sigmas(session: Session, batch: Batch) -> list[float]:
    """The noise of each image; none where the levels have another meaning, or are learned."""
    process = session.diffusion.process
    return [] if process is None else process.level(batch.t, batch.x0).sigma.flatten().tolist()


def dump(session: Session) -> str:
    """Write what was in the last step, which failed, as non-finite-IMAGES.json; returns one line about it."""
    state, accelerator = session.state, session.accelerator
    counters = range(state.images - session.settings.batch, state.images)
    batch = session.batches(shard(counters, accelerator.num_processes)[accelerator.process_index])
    state.optimizer.zero_grad()
    seed_dropout(session.settings.seed, counters, accelerator.device)
    losses = session.losses(state.network, batch)
    losses.sum().backward()
    named = dict(state.network.named_parameters())
    finite = {n: bool(sharding.whole(p.detach()).isfinite().all()) for n, p in named.items()}
    gradients = {n: bool(sharding.whole(p.grad).isfinite().all()) for n, p in named.items() if p.grad is not None}
    path = session.folder.path / f"non-finite-{counters.start:09d}.json"
    if accelerator.is_main_process:
        values = {
            "step": state.step,
            "skipped": state.skipped,
            "counters": [counters.start, counters.stop],
            "data": batch.keys,
            "t": batch.t.tolist(),
            "sigma": _sigmas(session, batch),
            "loss": [repr(v) for v in losses.tolist()],
            "parameters": [n for n, p in finite.items() if not p],
            "gradients": [n for n, p in gradients.items() if not p],
        }
        session.folder.write_json(path.name, values)
    return (
        f"the loss or gradient was not finite {PATIENCE} times in a row, the last at {counters.start:,} images; "
        f"details are in {path}; a lower learning rate or precision float32 may help"
    )
