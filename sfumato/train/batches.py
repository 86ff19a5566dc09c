"""What a training step sees, as a function of the global image counter alone: images, flips, levels, noise, dropout.

So it does not matter how a batch is divided into processes and parts, nor whether the run was ever interrupted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from sfumato.core.distributions import Noise
from sfumato.core.randomness import ImageNoise, mix, uniforms
from sfumato.core.times import TrainingTimes, low_discrepancy
from sfumato.data.loader import Order, Turns, flip, to_float
from sfumato.data.sources import Images
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import best_layout

WEIGHTS, ORDER, FLIP, LEVEL, NOISE, DROPOUT, VALIDATION = range(7)
"""What a stream of random numbers is for; the streams of one seed are independent."""

RESIDENT = 1 << 30
"""Data sets up to so many bytes are kept on the accelerator."""


@dataclass(frozen=True)
class Batch:
    """Images x0 (B, C, H, W) in [-1, 1] with times t and importance weights (B,), noise, and what is given beside them:
    labels y, the input pictures of pairs, attributes."""

    x0: Tensor
    t: Tensor
    weight: Tensor
    noise: Noise
    given: dict[str, Any]
    keys: list[str]


class Batches:
    """Makes training batches of a set of images.

    Args:
        labelled: hand the labels to the network as y.
    """

    def __init__(
        self,
        images: Images,
        times: TrainingTimes,
        config: TrainConfig,
        labelled: bool,
        device: torch.device | str = "cpu",
    ) -> None:
        seed = mix(config.seed, ORDER)
        self.feed = images.stream.feed(config.batch, seed) if images.stream else None
        self.labelled = labelled
        accelerated = torch.device(device).type != "cpu" and sum(p.images.nbytes for p in images.parts) <= RESIDENT
        accelerated &= images.levels != 65536  # accelerators cast uint16, and do little else with it
        self.parts = [replace(p, images=p.images.to(device) if accelerated else p.images) for p in images.parts]
        self.orders = [Order(len(p), mix(seed, i) if i else seed) for i, p in enumerate(images.parts)]
        self.turns = Turns(tuple(map(len, images.parts)))
        self.times, self.config, self.device = times, config, device
        self.layout = layout(config, device, images.shape)

    def __call__(self, counters: range) -> Batch:
        """The batch of these image counters."""
        seed, device = self.config.seed, self.device
        pixels, given, keys = self._streamed(counters) if self.feed else self._resident(counters)
        x0 = to_float(_move(pixels, device)).contiguous(memory_format=self.layout)
        if "eps" not in given and self.config.flip:  # the pictures of reflow's noises are not mirrored
            mirrored = _move(uniforms(mix(seed, FLIP), counters) < 0.5, device)
            x0 = flip(x0, mirrored)
            given |= {"picture": flip(given["picture"], mirrored)} if "picture" in given else {}
        t, weight = self.times.draw(stratify(self.config.times, mix(seed, LEVEL), counters))
        return Batch(x0, t, _move(weight.float(), device), ImageNoise(mix(seed, NOISE), counters), given, keys)

    def _streamed(self, counters: range) -> tuple[Tensor, dict[str, Tensor], list[str]]:
        """Pixels, labels and keys of images that are read while training goes on."""
        assert self.feed is not None
        pixels, marks, keys = self.feed(counters)
        return pixels, {"y": _move(marks, self.device)} if self.labelled and marks is not None else {}, keys

    def _resident(self, counters: range) -> tuple[Tensor, dict[str, Tensor], list[str]]:
        """Pixels, what is given beside them and keys of images in memory, in the bucket of this step."""
        step, offset = divmod(counters.start, self.config.batch)
        bucket, before = self.turns.at(step)
        part = self.parts[bucket]
        indices = self.orders[bucket].batch(before * self.config.batch + offset, len(counters))
        given = part.given(indices, self.labelled, self.device)
        keys = [part.keys[i] for i in indices.tolist()]
        return part.images[_move(indices, part.images.device)], given, keys


def layout(config: TrainConfig, device: torch.device | str, shape: tuple[int, ...]) -> torch.memory_format:
    """In which order data (C, ...) of this shape and weights lie in memory; channels last are of images alone."""
    if len(shape) != 3:
        return torch.contiguous_format
    if config.channels_last is None:
        return best_layout(device)[0]
    return torch.channels_last if config.channels_last else torch.contiguous_format


def _move(values: Tensor, device: torch.device | str) -> Tensor:
    """The values on the device, without waiting for what the device is busy with."""
    return values.to(device, non_blocking=True)


def stratify(kind: str, seed: int, counters: range) -> Tensor:
    """A uniform number in [0, 1) for each image counter, (B,) float64: the same in whatever company.

    kind: "stratified" (evenly over consecutive counters), "random", or "antithetic" (counters 2i and 2i + 1 mirrored).
    """
    if kind == "stratified":
        offset = float(uniforms(seed, [0])[0])
        return low_discrepancy(torch.arange(counters.start, counters.stop), offset)
    if kind == "random":
        return uniforms(seed, counters)
    u = uniforms(seed, [k // 2 for k in counters])
    mirrored = torch.arange(counters.start, counters.stop) % 2 == 1
    return torch.where(mirrored, 1 - u, u).clamp(max=math.nextafter(1, 0))


def shard(counters: range, parts: int) -> list[range]:
    """Counters in so many consecutive parts of (almost) equal length."""
    edges = [counters.start + len(counters) * i // parts for i in range(parts + 1)]
    return [range(a, b) for a, b in pairwise(edges)]


def seed_dropout(seed: int, counters: range, device: torch.device) -> None:
    """Make torch's own random numbers on the device, which dropout uses, a function of the counters as well."""
    key = mix(seed, DROPOUT, counters.start)
    if device.type == "cpu":
        torch.default_generator.manual_seed(key)  # torch.manual_seed would format a stack trace for each absent GPU
    else:
        torch.get_device_module(device).manual_seed(key)
