"""The training loop: images in, a run folder with checkpoints out, on a CPU, a GPU or several processes.

Every step is a function of the number of images seen (`batches`), so a run that was stopped, killed or cut differently
goes on as the same run.
"""

from __future__ import annotations

import math
import signal
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from sfumato.core.diffusion import Built
from sfumato.data.sources import Images
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import best_precision
from sfumato.runtime.signals import listening
from sfumato.train import captured, trackers
from sfumato.train.batches import Batches
from sfumato.train.best import measure_distance
from sfumato.train.display import Display
from sfumato.train.learning_rate import learning_rate_at
from sfumato.train.lengths import measure_lengths
from sfumato.train.moments import encoded_once
from sfumato.train.monitoring import PATIENCE, due, dump, log, monitor, save, save_snapshot
from sfumato.train.place import run_folder
from sfumato.train.session import Clock, Distance, Preview, Session
from sfumato.train.setup import accelerator_for, announce, check_watching, first_state, rehearse, threads
from sfumato.train.state import NonFiniteError, State
from sfumato.train.step import step
from sfumato.train.trackers import Watcher


@dataclass(frozen=True)
class TrainResult:
    """What came of a run.

    Attributes:
        folder: where everything is.
        images, seconds: over all resumes.
        images_per_second: of this session.
        skipped: steps whose loss or gradient was not finite.
        signal: the signal that interrupted it, or 0.
        main_process: whether this process is the one that writes and speaks.
    """

    folder: Path
    images: int
    seconds: float
    images_per_second: float
    skipped: int = 0
    signal: int = 0
    main_process: bool = True

    @property
    def interrupted(self) -> bool:
        """Whether a signal ended the run before its budget did."""
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        """0, or 128 and the signal's number."""
        return 128 + self.signal if self.signal else 0


def train(
    recipe: Trainable,
    images: Images,
    settings: TrainConfig,
    out: str | Path,
    *,
    config: Mapping[str, Any],
    validation: Images | None = None,
    preview: Preview | None = None,
    resume: bool = False, quiet: bool = False,
    initial: Mapping[str, Tensor] | None = None, built: Built | None = None,
    watch: Sequence[Watcher] = (),
    distance: Distance | None = None,
) -> TrainResult:  # fmt: skip
    """Train a recipe on images until the budget is spent or a signal arrives.

    Args:
        recipe: the paper's choices, fitted to the images.
        settings: the training numbers.
        out: the run folder; new, or with `resume` an existing one.
        config: kept as config.json beside the training numbers; config["recipe"] is the recipe as plain values.
        validation: images for the loss by noise level; the training images where None.
        preview: makes pictures from a network, the same ones each time.
        resume, quiet: go on from the newest checkpoint; print nothing.
        initial: weights to begin at, by key (`initial.fitted`); the run then saves itself before all else.
        watch: called with every line of metrics and every preview; True asks the run to save and stop.
        distance: measures the samples of a network every `settings.fd_every` (`evaluate.in_training`).
        built: what the recipe builds, where its loss needs more than the recipe, such as a teacher.

    Raises:
        RunError: the folder holds something else, or another run; HeldError: another process trains it.
        ValueError: the recipe, the images, the device and the numbers do not fit each other; nothing was written.
        CheckpointError: the checkpoint is damaged or of another architecture.
        NonFiniteError: the loss or gradient was not finite 10 times in a row; a dump is in the folder.
        OSError: disk full, no permission; the last checkpoint is untouched.
    """
    accelerator, diffusion = accelerator_for(settings), built or recipe.build()
    check_watching(settings, distance is not None or diffusion.sampler is None)
    captured.check(settings, accelerator, images)
    device = accelerator.device
    precision, reason = best_precision(device) if settings.precision == "auto" else (settings.precision, "as asked")
    with listening() as interrupt, threads(settings.threads):
        sharded = settings.shard and accelerator.num_processes > 1
        state = first_state(recipe, diffusion.times, settings, device, sharded, initial)
        rehearse(recipe, diffusion, state, images, precision)
        place = run_folder(accelerator, Path(out), state, images, settings, config, resume)
        shown, main = _display(accelerator, settings, state, quiet), accelerator.is_main_process
        with place as folder, shown as display, trackers.opened(settings, folder, state.images, main) as logs:
            labelled = bool(recipe.conditioning.classes)
            session = _encoded(Session(
                diffusion, settings, config, accelerator, folder, state, display, interrupt,
                model=_training_network(accelerator, settings, state),
                batches=Batches(images, state.times, settings, labelled, device),
                clock=Clock(state.seconds), images=images, validation=validation or images, labelled=labelled,
                preview=preview, precision=precision, distance=distance, watchers=[*watch, *logs],
            ), recipe, initial is not None)  # fmt: skip
            announce(session, recipe, reason, resume)
            return _loop(session, captured.Captured(session) if settings.capture else partial(step, session))


def _encoded(session: Session, recipe: Trainable, given: bool) -> Session:
    """The session with images that are encoded once, where that pays; first weights that were given are saved before,
    so that they need not be where they came from any more."""
    state, settings = session.state, session.settings
    with session.clock.standing():
        if given and state.images == 0:
            save(session)
        kept = encoded_once(recipe, state.network, session.images, settings)
    if kept is session.images:
        return session
    return replace(session, batches=Batches(kept, state.times, settings, session.labelled, session.accelerator.device))


def _training_network(accelerator: Any, settings: TrainConfig, state: State) -> nn.Module:
    """The network as it trains: perhaps one of several replicas, perhaps compiled."""
    network: Any = state.network if state.sharded else accelerator.prepare_model(state.network)
    return cast(nn.Module, torch.compile(network) if settings.compile else network)


def _display(accelerator: Any, settings: TrainConfig, state: State, quiet: bool) -> Display:
    return Display(state, settings.progress(state.images, state.seconds), accelerator.is_main_process and not quiet)


# ---------------------------------------------------------------- the loop


Step = Callable[[range, float], Tensor]
"""(image counters, learning rate) -> what an update reports, (5,) on the device: see `step.step`."""


def _loop(session: Session, update: Step) -> TrainResult:
    settings, state = session.settings, session.state
    start, saved, stop, noted = (state.images, state.seconds), state.seconds, 0, False
    progress = settings.progress(*start)
    snapshots = settings.snapshots_of(sum(p.numel() for p in state.network.parameters()))
    reports: deque[Tensor] = deque()
    ahead = 1 if session.accelerator.device.type == "cuda" else 0  # steps whose numbers the host has not waited for

    while progress < 1 and not stop:
        rate = learning_rate_at(progress, state.images, settings)
        reports.append(update(range(state.images, state.images + settings.batch), rate))
        state.images, state.step = state.images + settings.batch, state.step + 1
        while len(reports) > ahead:
            stop = _take_in(session, reports.popleft())

        last, progress = progress, settings.progress(state.images, state.seconds)
        steps = state.step / max(progress, 1e-9)  # that the whole run will have taken
        decays = state.ema.update(state.step - 1, steps)
        state.profiles.update(state.images - settings.batch, state.images)
        finished = progress >= 1
        measuring = settings.fd_every > 0 and (finished or (due(last, progress, settings.fd_every) and not stop))
        saving = bool(finished or stop or measuring or state.seconds - saved >= 60 * settings.checkpoint_every)
        while reports and saving:
            _take_in(session, reports.popleft())
        if progress >= 0.01 and not noted:
            noted = True
            for sentence in state.ema.shortened(steps):
                session.display.say(f"note     {sentence}")
        if finished or due(last, progress, settings.log_every):
            log(session, rate, decays, _rate(session, start))
        with session.clock.standing():
            if finished or not stop:
                monitor(session, last, progress)
            if snapshots and due(last, progress, 1 / snapshots):
                save_snapshot(session)
            if saving:
                saved = state.seconds
                save(session)
            if measuring:
                measure_distance(session)
            if finished:
                measure_lengths(session)

    session.accelerator.wait_for_everyone()
    return TrainResult(
        session.folder.path, state.images, state.seconds, _rate(session, start), state.skipped,
        0 if progress >= 1 else stop, session.accelerator.is_main_process,
    )  # fmt: skip


def _rate(session: Session, start: tuple[int, float]) -> float:
    """Images a second in this session, which started at so many images and seconds."""
    return (session.state.images - start[0]) / max(session.state.seconds - start[1], 1e-9)


def _take_in(session: Session, report: Tensor) -> int:
    """Read what a step reported; returns the signal that some process received, or 0."""
    state = session.state
    loss, norm, state.seconds, interrupted, terminated = report.tolist()
    if math.isfinite(loss + norm):
        state.skipped_in_a_row = 0
        state.recent.append((loss, norm))
    else:
        state.skipped += 1
        state.skipped_in_a_row += 1
        if state.skipped_in_a_row >= PATIENCE:
            raise NonFiniteError(dump(session))
    session.display.step(state, session.settings.progress(state.images, state.seconds), loss)
    return int(signal.SIGINT) if interrupted else int(signal.SIGTERM) if terminated else 0
