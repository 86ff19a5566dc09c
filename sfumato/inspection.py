"""What a preset, run, checkpoint or data set is and costs on this machine, before anything long is started.

Operations are counted by running the network once on the meta device; throughput and memory are measured, not guessed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core.randomness import ImageNoise
from sfumato.data import open_source
from sfumato.model import load, shipped
from sfumato.papers import ncsnv2
from sfumato.papers.recipe import Classifying, Trainable, low_res_side
from sfumato.presets import PRESETS
from sfumato.train.config import TrainConfig
from sfumato.train.precision import autocast, best_device, best_precision


def describe(what: str, *, batch: int = 64, measure: bool = True) -> Iterator[str]:
    """The lines to print about a preset, a run folder, a checkpoint or a data spec."""
    path = Path(what)
    if what in PRESETS:
        chosen = PRESETS[what]
        yield f"{what}: {chosen.about}"
        yield f"data: {chosen.data}"
        yield from _recipe(chosen.recipe, chosen.train, batch, measure)
        if what in shipped():
            yield f"ships with a checkpoint: sfumato sample {what}"
    elif (path / "config.json").is_file() or path.suffix == ".safetensors":
        model = load(path)
        about = model.about
        yield f"{about['path']}: {type(model.recipe).__name__}, {about['weights']} weights"
        yield f"trained on {about['data'].get('spec')}, {about.get('images', 0):,} images seen"
        if model.classes:
            yield f"classes: {', '.join(model.classes)}"
        yield from _recipe(model.recipe, None, batch, measure)
    else:
        yield str(open_source(what).card)


def techniques(spec: str) -> Iterator[str]:
    """The lines to print about NCSNv2's techniques on a data set, and the options that train with what they find."""
    images = open_source(spec)
    recipe = ncsnv2.fitted(ncsnv2.NCSNv2(), images.images.float() / 255)
    yield f"{images.spec}: {len(images):,} images of {' x '.join(map(str, images.shape))}"
    yield ncsnv2.explained(recipe)
    yield (f"--recipe.first-sigma {recipe.first_sigma:.4g} --recipe.steps {recipe.steps} "
           f"--recipe.step-size {recipe.step_size:.3g}")  # fmt: skip


def parameters(network: nn.Module) -> int:
    """How many weights a network has."""
    return sum(p.numel() for p in network.parameters())


def forward_flops(recipe: Trainable) -> int:
    """Floating-point operations of one forward pass of one image (a multiply-add counts as two)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network, x = recipe.model().eval(), torch.empty(1, *recipe.shape)
    with FlopCounterMode(display=False) as counter:
        _question(recipe, network, x)()
    return int(counter.get_total_flops())


def _question(recipe: Trainable, network: nn.Module, x: Tensor) -> Callable[[], object]:
    """What asks the network once about x (B, C, H, W), at times that it was made for."""
    t = _some_times(recipe, len(x))
    if isinstance(recipe, Classifying):
        return partial(recipe.classify(network), x, t)
    inputs = {}
    if recipe.classes:
        inputs["y"] = torch.zeros(len(x), dtype=torch.long, device=x.device)
    if side := low_res_side(recipe):
        inputs["low_res"] = x[:, :, :side, :side]
    return partial(recipe.denoiser(network, **inputs), x, t)  # type: ignore[attr-defined]


def _recipe(recipe: Trainable, config: TrainConfig | None, batch: int, measure: bool) -> Iterator[str]:
    network = recipe.model()
    count, flops = parameters(network), forward_flops(recipe)
    channels, height, width = recipe.shape
    labels = f", {recipe.classes} classes" if recipe.classes else ""
    yield f"images: {channels} x {height} x {width}{labels}"
    yield f"network: {count / 1e6:.2f}M parameters"
    yield f"operations: {flops / 1e9:.3f} GFLOP an image forward, {3 * flops / 1e9:.3f} in training"
    weights = 4 * count / 1e6
    rates = len(config.ema) if config else 1
    state, saved = weights * (4 + rates), weights * (3 + rates)
    yield f"memory for weights, gradients, Adam and {rates} EMA: {state:.0f} MB; a checkpoint: {saved:.0f} MB"
    if not measure:
        return
    device = torch.device(best_device())
    precision, reason = best_precision(device)
    training, sampling = throughput(recipe, network.to(device), batch, precision)
    yield f"here ({device.type}, {precision}: {reason}), batch {batch}:"
    yield f"  training {training:.0f} images/s"
    yield f"  sampling {sampling:.0f} network evaluations/s: {sampling / 50:.1f} pictures/s in 50 steps"
    if config and config.minutes:
        yield f"  its budget of {config.minutes:g} minutes sees about {training * 60 * config.minutes:,.0f} images"
    if config and config.images:
        yield f"  its budget of {config.images:,} images takes about {_duration(config.images / training)}"


def throughput(
    recipe: Trainable, network: nn.Module, batch: int, precision: str, seconds: float = 3.0
) -> tuple[float, float]:
    """Measured (training images/s, forward evaluations/s), each over about the given seconds after a warm-up."""
    device = next(network.parameters()).device
    x0 = torch.randn(batch, *recipe.shape, device=device).sign()  # bits will do as well
    labels: dict[str, Any] = {"y": torch.zeros(batch, dtype=torch.long, device=device)} if recipe.classes else {}
    t = _some_times(recipe, batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-9, fused=True)

    def train_step() -> None:
        with autocast(device, precision):
            loss = recipe.loss(network, x0, t, ImageNoise(0, range(batch)), **labels).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    ask = _question(recipe, network, x0)

    def forward() -> None:
        with torch.inference_mode(), autocast(device, precision):
            ask()

    return batch * _rate(train_step, device, seconds), batch * _rate(forward, device, seconds)


def _some_times(recipe: Trainable, n: int) -> Tensor:
    """(n,) times that the recipe trains on: whole numbers of levels, or real ones."""
    return recipe.times().draw((torch.arange(n) + 0.5) / n)[0]


def _rate(step: Any, device: torch.device, seconds: float) -> float:
    synchronize = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    for _ in range(2):
        step()
    synchronize()
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < seconds or count < 3:
        step()
        synchronize()
        count += 1
    return count / (time.perf_counter() - started)


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
