"""The training loop: images in, a run folder with checkpoints out, on a CPU, a GPU or several processes.

Every step is a function of the number of images seen (`batches`), so a run that was stopped, killed or cut differently
goes on as the same run.
"""

from __future__ import annotations

import contextlib
import json
import math
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.core.randomness import mix
from sfumato.data import pictures
from sfumato.data.sources import Images
from sfumato.networks.recompute import recompute_blocks
from sfumato.papers.recipe import Recipe
from sfumato.train import processes, sharding
from sfumato.train.batches import WEIGHTS, Batch, Batches, cut, layout, seed_dropout
from sfumato.train.config import TrainConfig, learning_rate_at
from sfumato.train.display import Display
from sfumato.train.ema import EMA
from sfumato.train.precision import autocast, best_device, best_layout, best_precision
from sfumato.train.run import RunError, RunFolder
from sfumato.train.signals import Interrupt, listening
from sfumato.train.state import NonFiniteError, State
from sfumato.train.validation import Validation, colours, evaluating

if TYPE_CHECKING:
    from accelerate import Accelerator

PATIENCE = 10
"""So many steps in a row may be skipped because their loss or gradient is not finite."""

GRACE, SHARE = 5.0, 0.1
"""Validation and previews, but for the last, are left out while they have taken more than so many seconds and this
share of the training time."""

Preview = Callable[[nn.Module], Tensor]
"""A network in evaluation mode -> pictures, uint8 (N, C, H, W)."""


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
    recipe: Recipe,
    images: Images,
    settings: TrainConfig,
    out: str | Path,
    *,
    config: Mapping[str, Any],
    validation: Images | None = None,
    preview: Preview | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> TrainResult:
    """Train a recipe on images until the budget is spent or a signal arrives.

    Args:
        recipe: the paper's choices, fitted to the images.
        settings: the training numbers.
        out: the run folder; new, or with `resume` an existing one.
        config: kept as config.json beside the training numbers; config["recipe"] is the recipe as plain values.
        validation: images for the loss by noise level; the training images where None.
        preview: makes pictures from a network, the same ones each time.
        resume: go on from the newest checkpoint.
        quiet: print nothing.

    Raises:
        RunError: the folder holds something else, or the run in it is another one.
        CheckpointError: the checkpoint is damaged or of another architecture.
        NonFiniteError: the loss or gradient was not finite 10 times in a row; a dump is in the folder.
        OSError: disk full, no permission; the last checkpoint is untouched.
    """
    accelerator = _accelerator(settings)
    device = accelerator.device
    precision, reason = best_precision(device) if settings.precision == "auto" else (settings.precision, "as asked")
    with listening() as interrupt, _threads(settings.threads):
        state = _first_state(recipe, settings, device, settings.shard and accelerator.num_processes > 1)
        folder = _open_folder(accelerator, Path(out), state, images, settings, config, resume)
        progress = settings.progress(state.images, state.seconds)
        with Display(state, progress, accelerator.is_main_process and not quiet) as display:
            if not resume:
                display.say(f"{images.card}\n")
            many = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
            many += ", which share the weights" if state.split else ""
            again = f"; going on at {state.images:,} images, {progress:.0%}" if resume else ""
            display.say(f"run      {folder.path}")
            display.say(f"machine  {device.type}{many}, {precision} ({reason}), {best_layout(device)[1]}")
            display.say(f"budget   {settings.budget()}, {settings.batch} images a step{again}")
            model: Any = state.network if state.split else accelerator.prepare_model(state.network)
            compiled: Any = torch.compile(model) if settings.compile else model
            labelled = bool(recipe.classes) and images.labels is not None
            run = Run(
                recipe, settings, config, accelerator, folder, state, display, interrupt,
                model=compiled,
                batches=Batches(images, state.times, settings, labelled, device),
                clock=Clock(state.seconds),
                images=images, validation=validation or images, preview=preview, precision=precision,
            )  # fmt: skip
            return _loop(run, progress)


# ---------------------------------------------------------------- before the first step


def _accelerator(settings: TrainConfig) -> Accelerator:
    from accelerate import Accelerator

    processes.meet()
    accelerator = Accelerator(mixed_precision="no", cpu=best_device() == "cpu")
    if settings.batch < accelerator.num_processes * settings.accumulate:
        raise ValueError(
            f"a batch of {settings.batch} images is too small for {accelerator.num_processes} processes "
            f"with {settings.accumulate} parts each"
        )
    return accelerator


def _open_folder(
    accelerator: Accelerator, path: Path, state: State, images: Images, settings: TrainConfig,
    config: Mapping[str, Any], resume: bool,
) -> RunFolder:  # fmt: skip
    """The run folder, made anew or taken up where it stands; the main process writes, and the others wait."""
    values = {**config, "train": settings.to_json()}
    if accelerator.is_main_process and not resume:
        RunFolder.create(path, values)
        processes.begin(path)
    accelerator.wait_for_everyone()
    folder = RunFolder.open(path)
    if resume:
        _go_back(folder, state, images, config)
    accelerator.wait_for_everyone()  # all have read what the main process may now remove
    if accelerator.is_main_process:
        folder.rewind(state.images)
        folder.write_json("config.json", values)
        folder.write_json("data_card.json", images.card.to_json())
        shown = torch.linspace(0, len(images.images) - 1, settings.preview_images or 16).long()
        folder.save_picture("data", pictures.grid(images.images[shown]))
    return folder


def _first_state(recipe: Recipe, settings: TrainConfig, device: torch.device, split: bool) -> State:
    torch.manual_seed(mix(settings.seed, WEIGHTS))
    network = recipe.model().train()
    if settings.checkpoint_activations:
        recompute_blocks(network)
    if split:
        sharding.shard(network, device)
    else:
        network.to(device)
        network.to(memory_format=layout(settings, device))  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay,
        fused=True,
    )  # fmt: skip
    return State(network, optimizer, EMA(network, settings.ema), recipe.times(), split)


def _go_back(folder: RunFolder, state: State, images: Images, config: Mapping[str, Any]) -> None:
    """Take up the newest checkpoint, if the run came so far. RunError where it belongs to another run."""
    saved = folder.latest()
    if saved is None:
        return
    recipe = _plain(config["recipe"])
    if differing := [name for name in {**recipe, **saved.recipe} if saved.recipe.get(name) != recipe.get(name)]:
        raise RunError(f"{saved.path} was trained with another recipe: {', '.join(differing)} differ")
    if saved.data.get("fingerprint") != images.card.fingerprint:
        raise RunError(f"{saved.path} was trained on other images than {images.card.spec} holds now")
    state.load(saved)


def _plain(values: Any) -> Any:
    return json.loads(json.dumps(values))


@contextlib.contextmanager
def _threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# ---------------------------------------------------------------- the loop


class Clock:
    """Seconds of training, over all resumes; it stands still while the run is looked at or saved."""

    def __init__(self, seconds: float) -> None:
        self.before, self.started, self.away = seconds, time.perf_counter(), 0.0

    def __call__(self) -> float:
        return self.before + time.perf_counter() - self.started - self.away

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Does not run while the context lasts."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.away += time.perf_counter() - began


@dataclass(frozen=True)
class Run:
    """Everything that a step needs: what stays the same from first to last, and the state that does not."""

    recipe: Recipe
    settings: TrainConfig
    config: Mapping[str, Any]
    accelerator: Any
    folder: RunFolder
    state: State
    display: Display
    interrupt: Interrupt
    model: nn.Module
    """The state's network as it trains: perhaps compiled, perhaps one of several replicas."""
    batches: Batches
    clock: Clock
    images: Images
    validation: Images
    preview: Preview | None
    precision: str


def _loop(run: Run, progress: float) -> TrainResult:
    settings, state = run.settings, run.state
    began, saved, stop, noted = (state.images, state.seconds), state.seconds, 0, False
    reports: deque[Tensor] = deque()
    ahead = 1 if run.accelerator.device.type == "cuda" else 0  # steps whose numbers the host has not waited for

    while progress < 1 and not stop:
        rate = learning_rate_at(progress, state.images, settings)
        reports.append(_step(run, range(state.images, state.images + settings.batch), rate))
        state.images, state.step = state.images + settings.batch, state.step + 1
        while len(reports) > ahead:
            stop = _take_in(run, reports.popleft())

        last, progress = progress, settings.progress(state.images, state.seconds)
        steps = state.step / max(progress, 1e-9)  # that the whole run will have taken
        decays = state.ema.update(state.step - 1, steps)
        finished = progress >= 1
        due = bool(finished or stop or state.seconds - saved >= 60 * settings.checkpoint_every)
        while reports and due:
            _take_in(run, reports.popleft())
        if progress >= 0.01 and not noted:
            noted = True
            for sentence in state.ema.shortened(steps):
                run.display.say(f"note     {sentence}")
        if finished or _crossed(last, progress, settings.log_every):
            _log(run, rate, decays, _rate(run, began))
        with run.clock.standing():
            if finished or not stop:
                _watch(run, last, progress)
            if due:
                saved = state.seconds
                _save(run)

    run.accelerator.wait_for_everyone()
    return TrainResult(
        run.folder.path, state.images, state.seconds, _rate(run, began), state.skipped, 0 if progress >= 1 else stop,
        run.accelerator.is_main_process,
    )  # fmt: skip


def _crossed(last: float, now: float, every: float) -> bool:
    """Whether a multiple of `every` lies in (last, now]."""
    return int(now / every + 1e-9) > int(last / every + 1e-9)


def _rate(run: Run, began: tuple[int, float]) -> float:
    """Images a second in this session, which began with so many images and seconds."""
    return (run.state.images - began[0]) / max(run.state.seconds - began[1], 1e-9)


def _step(run: Run, counters: range, rate: float) -> Tensor:
    """One update with the images of these counters, of which this process takes its share.

    Returns (5,) on the device: loss and gradient norm, and what the processes agree on: seconds, SIGINT, SIGTERM.
    """
    settings, optimizer, accelerator = run.settings, run.state.optimizer, run.accelerator
    share = cut(counters, accelerator.num_processes)[accelerator.process_index]
    optimizer.zero_grad()
    loss = _accumulate_gradients(run, cut(share, settings.accumulate))
    heard = run.interrupt.signal
    said = (run.clock() if accelerator.is_main_process else 0.0, heard == signal.SIGINT, heard == signal.SIGTERM)
    report = torch.cat([loss[None], torch.tensor(said, dtype=loss.dtype).to(loss.device, non_blocking=True)])
    if accelerator.num_processes > 1:
        report = accelerator.reduce(report, "sum")
    norm = nn.utils.clip_grad_norm_(run.state.network.parameters(), settings.clip or math.inf, foreach=True)
    norm = sharding.whole(norm)
    skip = ~(report[0] + norm).isfinite()
    optimizer.found_inf = skip.float()  # type: ignore[attr-defined]  # where it is 1, the fused update does nothing
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return torch.cat([report[:1], norm[None].to(report), report[1:]])


def _accumulate_gradients(run: Run, parts: list[range]) -> Tensor:
    """Leave the gradient of the whole batch's mean loss in the parameters; returns this process's part of that loss."""
    settings, accelerator = run.settings, run.accelerator
    total = torch.zeros((), dtype=torch.float64 if accelerator.device.type != "mps" else torch.float32)
    total = total.to(accelerator.device)
    for i, counters in enumerate(parts):
        batch = run.batches(counters)
        seed_dropout(settings.seed, counters, accelerator.device)
        with _sending(run, i + 1 == len(parts)):
            losses = _losses(run, run.model, batch)
            loss = (losses * batch.weight).sum() / settings.batch
            accelerator.backward(loss * accelerator.num_processes)  # processes average their gradients
        total += loss.detach()
        if hasattr(run.state.times, "update"):
            everywhere = accelerator.gather((batch.t.to(losses.device), losses.detach()))
            run.state.times.update(*(values.cpu() for values in everywhere))
    return total


@contextlib.contextmanager
def _sending(run: Run, last: bool) -> Iterator[None]:
    """Gradients are exchanged with the last part of a batch only."""
    network: Any = run.state.network
    if run.state.split:
        network.set_requires_gradient_sync(last)
    with run.accelerator.no_sync(run.model) if not (last or run.state.split) else contextlib.nullcontext():
        yield


def _losses(run: Run, model: nn.Module, batch: Batch) -> Tensor:
    with autocast(run.accelerator.device, run.precision):
        return run.recipe.loss(model, batch.x0, batch.t, batch.noise, **batch.labels).float()


# ---------------------------------------------------------------- between two steps


def _take_in(run: Run, report: Tensor) -> int:
    """Read what a step reported; returns the signal that some process received, or 0."""
    state = run.state
    loss, norm, state.seconds, interrupted, terminated = report.tolist()
    if math.isfinite(loss + norm):
        state.skipped_in_a_row = 0
        state.recent.append((loss, norm))
    else:
        state.skipped += 1
        state.skipped_in_a_row += 1
        if state.skipped_in_a_row >= PATIENCE:
            raise NonFiniteError(_dump(run))
    run.display.step(state, run.settings.progress(state.images, state.seconds), loss)
    return int(signal.SIGINT) if interrupted else int(signal.SIGTERM) if terminated else 0


def _log(run: Run, rate: float, decays: dict[float, float], images_per_second: float) -> None:
    recent = run.state.recent or [(math.nan, math.nan)]
    loss, norm = (sum(values) / len(values) for values in zip(*recent, strict=True))
    run.state.recent.clear()
    _record(
        run, "train", loss=loss, learning_rate=rate, gradient_norm=norm,
        images_per_second=round(images_per_second, 2), ema={str(r): round(d, 6) for r, d in decays.items()},
        skipped=run.state.skipped,
    )  # fmt: skip


def _watch(run: Run, last: float, now: float) -> None:
    """Validate and show pictures where that is due between these two shares of the run, and always at its end."""
    settings, finished = run.settings, now >= 1
    due = [
        look
        for look, count, every in (
            (_validate, settings.validation_images, settings.validate_every),
            (_show, settings.preview_images, settings.preview_every),
        )
        if count and (finished or _crossed(last, now, every))
    ]
    if not due or not (run.accelerator.is_main_process or run.state.split) or not (finished or _affordable(run)):
        return
    try:
        for look in due:
            look(run)
    except Exception:
        if not run.state.split:  # it may have failed in one process only, which cannot save alone
            _save(run)  # a picture that failed costs no training
        raise


def _affordable(run: Run) -> bool:
    """Whether looking at the run has not taken too much of its time; those who share the weights decide together."""
    ours = run.clock.away < GRACE + SHARE * run.clock()
    if not run.state.split:
        return ours
    return bool(run.accelerator.reduce(torch.tensor(float(ours), device=run.accelerator.device)) > 0)


def _validate(run: Run) -> None:
    """The loss by noise level, of the online weights and of the first average."""
    state, settings = run.state, run.settings
    measure = Validation(run.recipe, run.recipe.times(), run.validation, settings.validation_images, settings.seed,
                         run.accelerator.device, run.precision)  # fmt: skip
    online = measure.loss_by_level(state.network)
    with state.ema.swapped(settings.ema[0]) as averaged:
        ema = measure.loss_by_level(averaged)
    on = "training images" if run.validation is run.images else run.validation.card.spec
    _record(run, "validation", on=on, online=online, ema=ema, rate=settings.ema[0])


def _show(run: Run) -> None:
    """Preview pictures of the online weights and of the first average, and their colours beside the data's."""
    if run.preview is None:
        return
    state, seen = run.state, {}
    with evaluating(state.network):
        online = run.preview(state.network)
        with state.ema.swapped(run.settings.ema[0]) as averaged:
            ema = run.preview(averaged)
    for name, images in (("online", online), ("ema", ema)):
        if run.accelerator.is_main_process:
            run.folder.save_picture(f"{state.images:09d}-{name}", pictures.grid(images))
        seen[name] = colours(images)
    card = run.images.card
    _record(run, "preview", **seen, data={"mean": list(card.mean), "std": list(card.std)})


def _record(run: Run, kind: str, **values: Any) -> None:
    if run.accelerator.is_main_process:
        state = run.state
        head = {"kind": kind, "images": state.images, "step": state.step, "seconds": round(state.seconds, 3)}
        run.folder.append(head | values)


def _save(run: Run) -> None:
    """A checkpoint of the run as it stands."""
    if run.accelerator.is_main_process or run.state.split:
        card = run.images.card
        about = {
            "recipe": run.config["recipe"],
            "train": run.settings.to_json(),
            "data": {
                "spec": card.spec,
                "shape": card.shape,
                "classes": run.images.classes,
                "fingerprint": card.fingerprint,
            },
            "progress": run.state.progress(),
            "ema": [str(rate) for rate in run.state.ema.rates],
        }
        run.folder.save_checkpoint(
            run.state.images, run.state.tensors(), about, run.settings.keep, parts=run.state.split
        )


def _sigmas(recipe: Recipe, batch: Batch) -> list[float]:
    """The noise of each image; none for a recipe whose levels have another meaning (2015)."""
    try:
        sigmas: list[float] = recipe.process().level(batch.t, batch.x0).sigma.flatten().tolist()
    except ValueError:
        return []
    return sigmas


def _dump(run: Run) -> str:
    """Write what was in the last step, which failed, as non-finite-IMAGES.json; returns one line about it."""
    state, accelerator = run.state, run.accelerator
    counters = range(state.images - run.settings.batch, state.images)
    batch = run.batches(cut(counters, accelerator.num_processes)[accelerator.process_index])
    state.optimizer.zero_grad()
    seed_dropout(run.settings.seed, counters, accelerator.device)
    losses = _losses(run, state.network, batch)
    losses.sum().backward()
    named = dict(state.network.named_parameters())
    finite = {n: bool(sharding.whole(p.detach()).isfinite().all()) for n, p in named.items()}
    gradients = {n: bool(sharding.whole(p.grad).isfinite().all()) for n, p in named.items() if p.grad is not None}
    path = run.folder.path / f"non-finite-{counters.start:09d}.json"
    if accelerator.is_main_process:
        values = {
            "step": state.step,
            "skipped": state.skipped,
            "counters": [counters.start, counters.stop],
            "data": batch.keys,
            "t": batch.t.tolist(),
            "sigma": _sigmas(run.recipe, batch),
            "loss": [repr(v) for v in losses.tolist()],
            "parameters": [n for n, p in finite.items() if not p],
            "gradients": [n for n, p in gradients.items() if not p],
        }
        run.folder.write_json(path.name, values)
    return (
        f"the loss or gradient was not finite {PATIENCE} times in a row, the last at {counters.start:,} images; "
        f"details are in {path}; a lower learning rate or precision float32 may help"
    )
