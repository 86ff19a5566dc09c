"""What a network costs: parameters and floating-point operations, counted, and throughput, measured on this machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from sfumato.core.diffusion import Built
from sfumato.core.randomness import ImageNoise
from sfumato.core.times import TrainingTimes
from sfumato.papers.recipe import Trainable
from sfumato.runtime.precision import autocast


def parameters(network: nn.Module) -> int:
    """How many parameters a network has."""
    return sum(p.numel() for p in network.parameters())


def forward_flops(recipe: Trainable) -> int:
    """FLOPs: floating-point operations of one forward pass of one image (a multiply-add counts as two)."""
    from torch.utils.flop_counter import FlopCounterMode

    with torch.device("meta"):
        network, x = recipe.model().eval(), torch.empty(1, *recipe.space.shape(recipe.shape))
    with FlopCounterMode(display=False) as counter:
        forward_pass(recipe, recipe.build(), network, x)()
    return int(counter.get_total_flops())


def forward_pass(recipe: Trainable, built: Built, network: nn.Module, x: Tensor) -> Callable[[], object]:
    """What evaluates the network once at x (B, C, H, W), at times that it is trained at."""
    conditioning = recipe.conditioning
    inputs = {
        **conditioning.inputs(some_labels(recipe, x), some_picture(recipe, x)),
        **conditioning.told(some_attributes(recipe, x)),
    }
    return partial(built.evaluate, network, x, some_times(built.times, len(x)), inputs)


def some_times(times: TrainingTimes, n: int) -> Tensor:
    """(n,) times to train at: whole numbers of levels, or real ones."""
    return times.draw((torch.arange(n) + 0.5) / n)[0]


def some_labels(recipe: Trainable, x: Tensor) -> Tensor | None:
    """A label (B,) for each image x (B, ...); None without classes."""
    return torch.zeros(len(x), dtype=torch.long, device=x.device) if recipe.conditioning.classes else None


def some_picture(recipe: Trainable, x: Tensor) -> Tensor | None:
    """A picture (B, C, h, w) for each image x (B, ...), as requests bring it; None where the model is given none."""
    asked = recipe.conditioning.asks(recipe.shape)
    return None if asked is None else torch.zeros(len(x), *asked, device=x.device)


def some_attributes(recipe: Trainable, x: Tensor) -> Tensor | None:
    """Attributes (B, A) of each image x (B, ...); None without any."""
    names = recipe.conditioning.names
    return torch.zeros(len(x), len(names), device=x.device) if names else None


def some_given(recipe: Trainable, x: Tensor) -> dict[str, Tensor]:
    """What training hands over beside images x (B, ...)."""
    both = {"y": some_labels(recipe, x), "picture": some_picture(recipe, x), "attributes": some_attributes(recipe, x)}
    return {name: value for name, value in both.items() if value is not None}


def throughput(
    recipe: Trainable, network: nn.Module, batch: int, precision: str, seconds: float = 3.0
) -> tuple[float, float]:
    """Measured throughput (training images/s, forward evaluations/s), each over so many seconds after a warm-up."""
    device, built = next(network.parameters()).device, recipe.build()
    images = torch.randn(batch, *recipe.shape, device=device).sign()  # bits will do as well
    given = some_given(recipe, images)
    t = some_times(built.times, batch)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-9, fused=True)

    def train_step() -> None:
        with autocast(device, precision):
            loss = built.loss(network, images, t, ImageNoise(0, range(batch)), **given).mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    evaluate = forward_pass(recipe, built, network, recipe.space.bound(network).encode(images))

    def forward() -> None:
        with torch.inference_mode(), autocast(device, precision):
            evaluate()

    return batch * _rate(train_step, device, seconds), batch * _rate(forward, device, seconds)


def _rate(step: Callable[[], object], device: torch.device, seconds: float) -> float:
    """Steps a second."""
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
