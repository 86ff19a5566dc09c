"""The training loop: a global image counter decides everything, so that any cut into processes and parts agrees.

Order of the data, flips, times and noise all follow from (seed, counter); a run that was stopped goes on bit for bit, on
one process or several (`accelerate launch`, `torchrun`).
"""

from __future__ import annotations

import json
import math
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm import tqdm

from sfumato import papers
from sfumato.core.randomness import ImageNoise, mix, uniforms
from sfumato.core.times import low_discrepancy
from sfumato.data import Images, Order, flip, pictures, to_float
from sfumato.papers.recipe import Recipe
from sfumato.train import checkpoint
from sfumato.train.config import TrainConfig, learning_rate_at, progress
from sfumato.train.ema import EMA
from sfumato.train.precision import autocast, best_precision
from sfumato.train.run import RunFolder

PATIENCE = 10
"""Non-finite steps in a row before the run stops."""
BINS = 8
"""Noise levels at which the validation loss is measured."""
NOISE, TIMES, FLIPS, DROPOUT, VALIDATION = range(5)
"""Streams of randomness, so that no two draws share a key."""

Preview = Callable[[nn.Module], Tensor]
"""A network -> pictures, uint8 (N, C, H, W)."""


class NonFiniteError(ValueError):
    """Training broke down: the loss or the gradient was not finite several times in a row."""


@dataclass(frozen=True)
class TrainResult:
    """How a run ended. `signal` is what interrupted it, 0 where it finished."""

    images: int
    seconds: float
    skipped: int
    signal: int
    main_process: bool

    @property
    def interrupted(self) -> bool:
        return self.signal != 0

    @property
    def exit_code(self) -> int:
        return 128 + self.signal if self.signal else 0


@dataclass
class State:
    """What changes while training, besides tensors; a checkpoint carries all of it."""

    step: int = 0
    images: int = 0
    seconds: float = 0.0
    updates: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0


@dataclass
class Stopper:
    """Remembers SIGINT and SIGTERM until the step is done; a second one acts at once."""

    signal: int = 0
    previous: dict[int, Any] = field(default_factory=dict)

    def __enter__(self) -> Stopper:
        for number in (signal.SIGINT, signal.SIGTERM):
            self.previous[number] = signal.signal(number, self._note)
        return self

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        for known, handler in self.previous.items():
            signal.signal(known, handler)

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)


def train(
    recipe: Recipe,
    images: Images,
    config: TrainConfig,
    out: Path,
    *,
    info: dict[str, Any] | None = None,
    validation: Images | None = None,
    preview: Preview | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> TrainResult:
    """Train a recipe on images into a run folder.

    Args:
        recipe: the paper's choices; its shape and classes are the data's.
        info: what else config.json should hold (preset, data specs, command).
        validation: images for the loss by noise level; the first training images where None.
        preview: makes the preview pictures from a network.
        resume: go on from the newest checkpoint in `out`.
        quiet: print nothing.

    Raises:
        ValueError: data that do not fit the recipe, a batch that cannot be cut, a run folder in use.
        NonFiniteError: the loss or gradient was not finite ten times in a row; a dump lies in the run folder.
        OSError: the folder cannot be written.
    """
    if images.shape != recipe.shape:
        raise ValueError(f"the recipe is for images of {recipe.shape}, these are {images.shape}")
    if recipe.classes and images.labels is None:
        raise ValueError("the recipe wants labels, and these images have none")
    if config.threads:
        torch.set_num_threads(config.threads)
    accelerator = Accelerator()
    main, world, rank = accelerator.is_main_process, accelerator.num_processes, accelerator.process_index
    if config.batch % (world * config.accumulate):
        raise ValueError(f"a batch of {config.batch} cannot be cut for {world} processes x {config.accumulate} parts")
    precision, reason = best_precision(accelerator.device) if config.precision == "auto" else (config.precision, "asked")
    say = tqdm.write if main and not quiet else (lambda _: None)

    run = RunFolder.open(out) if resume else RunFolder(out)
    if main and not resume:
        run = RunFolder.create(out)
        run.write_json("data_card.json", images.card.to_json())
        header = {**(info or {}), "recipe": papers.to_json(recipe), "train": config.to_json()}
        run.write_json("config.json", header)
        pictures.save_png(out / "samples" / "data.png", pictures.grid(images.images[_spread(images, config)]))
    accelerator.wait_for_everyone()
    say(f"run      {out}")
    say(str(images.card))

    torch.manual_seed(mix(config.seed, DROPOUT))
    network = recipe.model()
    saved = _latest(run, recipe, say) if resume else None
    if saved is not None:
        checkpoint.load_strictly(network, saved.tensors("model/") | saved.tensors("buffer/"), str(saved.path))
    network = network.to(accelerator.device)
    if config.channels_last:
        network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=config.learning_rate, betas=config.betas, weight_decay=config.weight_decay,
        fused=accelerator.device.type in ("cpu", "cuda"),
    )  # fmt: skip
    ema, state = EMA(network, config.ema), State()
    if saved is not None:
        state = _restore(saved, network, optimizer, ema)
    forward: nn.Module = accelerator.prepare_model(network)
    if config.compile:
        forward = torch.compile(forward)  # type: ignore[assignment]
    count = sum(p.numel() for p in network.parameters())
    say(f"network  {count / 1e6:.2f}M parameters on {accelerator.device}, {precision} ({reason}), {world} process(es)")

    work = _Work(recipe, images, config, accelerator, forward, network, optimizer, ema, state, precision)
    watch = _Watch(recipe, validation or images, config, accelerator.device, precision, preview, run)
    previews = _marks(config.previews, progress(config, state.images, state.seconds))
    saved_at = time.monotonic()
    recent: list[float] = []
    logged = state.images
    share = progress(config, state.images, state.seconds)
    with Stopper() as stopper, _bar(config, state, disable=not main or quiet) as bar:
        while share < 1 and not _agreed(accelerator, stopper.signal):
            started = time.perf_counter()
            loss, gradient, rate, decays = work.step(share)
            state.seconds += time.perf_counter() - started
            if not math.isfinite(loss) and state.skipped_in_a_row >= PATIENCE:
                if main:
                    work.dump(run)
                raise NonFiniteError(
                    f"the loss or its gradient was not finite {PATIENCE} times in a row at {state.images:,} images; "
                    f"see {out / 'nonfinite.json'} (a lower --train.learning-rate or --train.precision float32 may help)"
                )
            recent.append(loss)
            share = _shared(accelerator, progress(config, state.images, state.seconds))
            if main:
                _move(bar, config, state, share, recent)
                if state.images - logged >= config.log_images or share >= 1:
                    logged = state.images
                    finite = [x for x in recent if math.isfinite(x)]
                    run.log({
                        "kind": "train", "images": state.images, "step": state.step, "seconds": round(state.seconds, 3),
                        "loss": sum(finite) / max(1, len(finite)), "learning_rate": rate, "gradient": gradient,
                        "skipped": state.skipped, "ema": {str(k): v for k, v in decays.items()},
                    })  # fmt: skip
                    recent.clear()
                if previews and share >= previews[0] and share < 1:
                    while previews and share >= previews[0]:
                        previews.pop(0)
                    watch.look(network, ema, state)
                if time.monotonic() - saved_at > 60 * config.checkpoint_minutes and share < 1:
                    _save(run, recipe, config, images, network, optimizer, ema, state)
                    saved_at = time.monotonic()
        stopped = _agreed(accelerator, stopper.signal)
        if main:
            _save(run, recipe, config, images, network, optimizer, ema, state)
            if not stopped:
                watch.look(network, ema, state)
    if main:
        _warn_short_ema(config, state, say)
        if state.skipped:
            say(f"skipped  {state.skipped} steps whose loss or gradient was not finite")
        say(f"trained  {state.images:,} images in {state.seconds:.0f} s ({state.images / max(state.seconds, 1e-9):.0f} images/s)")
    accelerator.wait_for_everyone()
    accelerator.end_training()
    return TrainResult(state.images, state.seconds, state.skipped, stopped, main)


# ---------------------------------------------------------------- one step


@dataclass
class _Work:
    """What a training step needs."""

    recipe: Recipe
    images: Images
    config: TrainConfig
    accelerator: Accelerator
    forward: nn.Module
    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA
    state: State
    precision: str

    def __post_init__(self) -> None:
        self.order = Order(len(self.images), mix(self.config.seed))
        self.times = self.recipe.times()
        self.last: dict[str, Any] = {}

    def step(self, share: float) -> tuple[float, float, float, dict[float, float]]:
        """One optimiser step; returns the loss, the gradient's norm, the learning rate and the EMA decays."""
        config, state, accelerator = self.config, self.state, self.accelerator
        size = config.batch // (accelerator.num_processes * config.accumulate)
        mine = state.images + accelerator.process_index * size * config.accumulate
        self.forward.train()
        total = torch.zeros((), device=accelerator.device)
        for part in range(config.accumulate):
            losses = self.losses(mine + part * size, size)
            loss = losses.mean() / config.accumulate
            total += loss.detach()
            if part < config.accumulate - 1:
                with accelerator.no_sync(self.forward):
                    accelerator.backward(loss)
            else:
                accelerator.backward(loss)
        mean = float(accelerator.reduce(total, "mean"))
        limit = config.clip or math.inf
        norm = float(nn.utils.clip_grad_norm_(self.network.parameters(), limit))
        rate = learning_rate_at(config, state.images, share)
        decays: dict[float, float] = {}
        state.step += 1
        state.images += config.batch
        if math.isfinite(mean) and math.isfinite(norm):
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            self.optimizer.step()
            state.updates += 1
            state.skipped_in_a_row = 0
            decays = self.ema.update(state.updates, progress(config, state.images, state.seconds))
        else:
            state.skipped += 1
            state.skipped_in_a_row += 1
            mean = math.nan
        self.last["gradients"] = None if math.isfinite(mean) else self._nonfinite()
        self.optimizer.zero_grad()
        return mean, norm, rate, decays

    def losses(self, start: int, size: int) -> Tensor:
        """The weighted loss of each image with the counters start, ..., start + size - 1."""
        config, device = self.config, self.accelerator.device
        counters = range(start, start + size)
        indices = self.order.batch(start, size)
        x0 = to_float(self.images.images[indices].to(device, non_blocking=True))
        if config.channels_last:
            x0 = x0.contiguous(memory_format=torch.channels_last)
        if config.flip:
            x0 = flip(x0, uniforms(mix(config.seed, FLIPS), counters) < 0.5)
        t, weight = self.times.draw(time_numbers(config, start, size))
        labels: dict[str, Any] = {}
        if self.recipe.classes and self.images.labels is not None:
            labels["y"] = self.images.labels[indices].to(device, non_blocking=True)
        self.last.update(start=start, keys=[self.images.keys[i] for i in indices.tolist()], t=t)
        noise = ImageNoise(mix(config.seed, NOISE), counters)
        torch.manual_seed(mix(config.seed, DROPOUT, start))  # dropout, too, follows from the counter
        with autocast(device, self.precision):
            losses = self.recipe.loss(self.forward, x0, t, noise, **labels)
        return losses.float() * weight.to(device, torch.float32)

    def _nonfinite(self) -> list[str]:
        named = self.network.named_parameters()
        return [n for n, p in named if p.grad is not None and not bool(p.grad.isfinite().all())]

    def dump(self, run: RunFolder) -> None:
        """What the last step saw, for a run that broke down."""
        t = self.last["t"]
        sigma = self.recipe.process().schedule.alpha_sigma(t)[1]
        weights = [n for n, p in self.network.named_parameters() if not bool(p.isfinite().all())]
        run.write_json("nonfinite.json", {
            "images": self.state.images, "step": self.state.step, "first_counter": self.last["start"],
            "keys": self.last["keys"], "t": t.tolist(), "sigma": sigma.tolist(),
            "gradients_not_finite": self.last["gradients"], "weights_not_finite": weights,
        })  # fmt: skip


def time_numbers(config: TrainConfig, start: int, size: int) -> Tensor:
    """The uniform numbers (size,) that become the training times of these counters."""
    counters = range(start, start + size)
    seed = mix(config.seed, TIMES)
    if config.times == "stratified":
        return low_discrepancy(torch.tensor(counters), float(uniforms(seed, [0])))
    if config.times == "random":
        return uniforms(seed, counters)
    u = uniforms(seed, [counter // 2 for counter in counters])  # antithetic: an odd counter mirrors the even one before
    odd = torch.tensor([counter % 2 == 1 for counter in counters])
    return torch.where(odd, (1 - u).clamp(max=math.nextafter(1, 0)), u)


# ---------------------------------------------------------------- looking at the run


@dataclass
class _Watch:
    """Losses by noise level on fixed images, noise and times, and preview pictures, of online and averaged weights."""

    recipe: Recipe
    validation: Images
    config: TrainConfig
    device: torch.device
    precision: str
    preview: Preview | None
    run: RunFolder

    def look(self, network: nn.Module, ema: EMA, state: State) -> None:
        """Measure and draw both; the online weights are back afterwards."""
        record: dict[str, Any] = {"kind": "validation", "images": state.images, "seconds": round(state.seconds, 3)}
        online = {k: p.detach().clone() for k, p in network.named_parameters()}
        rate, average = next(iter(ema.averages.items()))
        network.eval()
        try:
            for name, weights in (("online", online), (f"ema-{rate}", average)):
                _put(network, weights)
                kind = name.partition("-")[0]
                record[kind] = self.losses(network)
                if self.preview is not None:
                    images = self.preview(network)
                    record[f"{kind}_mean"], record[f"{kind}_std"] = _moments(images)
                    grid = pictures.grid(images)
                    pictures.save_png(self.run.path / "samples" / f"{state.images:012d}-{kind}.png", grid)
        finally:
            _put(network, online)
            network.train()
        self.run.log(record)

    @torch.inference_mode()
    def losses(self, network: nn.Module) -> list[float]:
        """The mean loss in each of BINS equal parts of the training times."""
        n = min(self.config.validation_images, len(self.validation))
        x0 = to_float(self.validation.images[:n].to(self.device))
        labels = {}
        if self.recipe.classes and self.validation.labels is not None:
            labels["y"] = self.validation.labels[:n].to(self.device)
        times, means = self.recipe.times(), []
        for b in range(BINS):
            t, _ = times.draw((b + (torch.arange(n, dtype=torch.float64) + 0.5) / n) / BINS)
            noise = ImageNoise(mix(VALIDATION, b), range(n))
            with autocast(self.device, self.precision):
                means.append(float(self.recipe.loss(network, x0, t, noise, **labels).float().mean()))
        return means


def _put(network: nn.Module, weights: dict[str, Tensor]) -> None:
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            parameter.copy_(weights[name])


def _moments(images: Tensor) -> tuple[list[float], list[float]]:
    """Mean and standard deviation of each channel, in 0..255: a tint shows here first."""
    x = images.float()
    return x.mean((0, 2, 3)).tolist(), x.std((0, 2, 3)).tolist()


def _spread(images: Images, config: TrainConfig) -> Tensor:
    """As many images as a preview has, evenly from the whole set."""
    n = min(config.preview_images, len(images))
    return torch.arange(n) * len(images) // n


def _marks(n: int, share: float) -> list[float]:
    """The shares of the run at which to look, denser at the start, those behind us left out."""
    return [m for m in (((i + 1) / (n + 1)) ** 1.5 for i in range(n)) if m > share]


def _bar(config: TrainConfig, state: State, *, disable: bool) -> Any:
    return tqdm(
        total=1.0, initial=progress(config, state.images, state.seconds), disable=disable, mininterval=0.5,
        bar_format="{percentage:3.0f}%|{bar}| {desc}",
    )  # fmt: skip


def _move(bar: Any, config: TrainConfig, state: State, share: float, recent: list[float]) -> None:
    speed = state.images / max(state.seconds, 1e-9)
    left = state.seconds * (1 - share) / max(share, 1e-9)
    tail = [x for x in recent[-50:] if math.isfinite(x)]
    loss = f"loss {sum(tail) / len(tail):.4f}, " if tail else ""
    bar.set_description_str(
        f"{loss}{state.images:,} images, {speed:.0f}/s, {tqdm.format_interval(int(left))} left", refresh=False
    )
    bar.update(share - bar.n)


def _warn_short_ema(config: TrainConfig, state: State, say: Callable[[str], object]) -> None:
    for rate in config.ema:
        if (half_life := math.log(0.5) / math.log(rate) if rate else 0) > 0.1 * state.updates:
            say(
                f"note     EMA {rate} has a half-life of {half_life:,.0f} steps, long for this run of {state.updates:,}; "
                "it was shortened to fit"
            )


# ---------------------------------------------------------------- several processes


def _agreed(accelerator: Accelerator, number: int) -> int:
    """The signal that any process met, so that all stop at the same step."""
    if accelerator.num_processes == 1:
        return number
    return int(accelerator.gather(torch.tensor([number], device=accelerator.device)).max())  # type: ignore[union-attr]


def _shared(accelerator: Accelerator, share: float) -> float:
    """The largest share of any process: clocks differ, the end must not."""
    if accelerator.num_processes == 1:
        return share
    mine = torch.tensor([share], dtype=torch.float64, device=accelerator.device)
    return float(accelerator.gather(mine).max())  # type: ignore[union-attr]


# ---------------------------------------------------------------- checkpoints


def _save(
    run: RunFolder, recipe: Recipe, config: TrainConfig, images: Images, network: nn.Module,
    optimizer: torch.optim.Optimizer, ema: EMA, state: State,
) -> None:  # fmt: skip
    names = {p: n for n, p in network.named_parameters()}
    tensors = {f"model/{n}": p for p, n in names.items()}
    tensors |= {f"buffer/{n}": b for n, b in network.named_buffers()}
    for rate, average in ema.state().items():
        tensors |= {f"ema/{rate}/{n}": t for n, t in average.items()}
    for parameter, values in optimizer.state.items():
        tensors |= {f"optimizer/{names[parameter]}/{k}": v for k, v in values.items()}
    data = {
        "spec": images.spec, "shape": list(images.shape), "classes": list(images.classes), "count": len(images),
        "fingerprint": images.card.fingerprint,
    }  # fmt: skip
    checkpoint.save(
        run.new_checkpoint(state.images), tensors, recipe=papers.to_json(recipe), train=config.to_json(), data=data,
        progress=dict(vars(state)),
    )  # fmt: skip
    run.prune(config.keep)


def _latest(run: RunFolder, recipe: Recipe, say: Callable[[str], object]) -> checkpoint.Checkpoint | None:
    """The checkpoint to go on from; what a killed process left half-written or logged beyond it is cleared away."""
    for stale in (run.path / "checkpoints").glob(".*.safetensors.*"):
        stale.unlink(missing_ok=True)
    path = run.latest_checkpoint()
    saved = None if path is None else checkpoint.read(path)
    if saved is not None and saved.recipe != json.loads(json.dumps(papers.to_json(recipe))):
        raise checkpoint.CheckpointError(f"{path} belongs to another recipe than {run.path / 'config.json'}")
    images = 0 if saved is None else saved.progress["images"]
    run.rewind(images)
    say(f"resume   from {path.name}: {images:,} images" if path else "resume   no checkpoint yet: from the start")
    return saved


def _restore(saved: checkpoint.Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer, ema: EMA) -> State:
    """Take up the optimiser, the averages and the counters of a checkpoint whose weights are loaded."""
    ema.load({rate: saved.tensors(f"ema/{rate}/") for rate in ema.state()})
    parameters = dict(network.named_parameters())
    for key, value in saved.tensors("optimizer/").items():
        name, _, slot = key.rpartition("/")
        parameter = parameters[name]
        optimizer.state[parameter][slot] = value if slot == "step" else value.to(parameter.device)
    return State(**saved.progress)
