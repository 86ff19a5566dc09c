"""What is measured: pictures from files, or from a model that samples them now, with a note of how they were made.

Picture i of a model depends on (seed, i) alone, so any number of processes may share the work and give the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.guidance import Gradient
from sfumato.core.sampling import Move
from sfumato.core.times import Steps
from sfumato.data import Images
from sfumato.model import Model, Request, ancestral, counted, ddim_sampler, load, walked
from sfumato.papers.recipe import Recipe
from sfumato.runtime.workers import WorkerPool, batches, distribute

ROUNDED = "[-1, 1] to the nearest of 256 levels, clamped"
STORED = "bytes as stored"


@dataclass(frozen=True)
class Samples:
    """Pictures to measure.

    Attributes:
        images: uint8 (N, C, H, W).
        name: where they come from.
        quantiser: how numbers became bytes.
        labels, classes: (N,) int64 that they were asked for, and the names of those, where there are any.
        how: sampler, steps, network_evaluations, seed, ...; empty where that is not known.
    """

    images: Tensor
    name: str
    quantiser: str = STORED
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    how: dict[str, Any] = field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """Of the pixels."""
        return hashlib.sha256(self.images.contiguous().numpy().tobytes()).hexdigest()


def from_images(images: Images, n: int | None = None) -> Samples:
    """Pictures that a spec opens, a folder, an npz or a data set: all, or n spread over them, which may be in order.

    Raises: ValueError where there are fewer than n.
    """
    if n is not None and n > len(images):
        raise ValueError(f"{images.spec} holds {len(images):,} images, not {n:,}")
    if n is not None:
        images = images.take(torch.arange(n) * len(images) // n)
    return Samples(images.images, images.spec, labels=images.labels, classes=images.classes)


@dataclass(frozen=True)
class Ddim:
    """DDIM with this eta, as something that has a name and can be sent to another process."""

    eta: float = 0.0

    def __call__(
        self, recipe: Recipe, denoise: Denoise, steps: Steps = None, gradient: Gradient | None = None
    ) -> list[Move]:
        return ddim_sampler(self.eta)(recipe, denoise, steps, gradient)

    def __str__(self) -> str:
        return f"DDIM, eta {self.eta:g}"


@dataclass(frozen=True)
class Ancestral:
    """The recipe's own sampler, likewise."""

    def __call__(
        self, recipe: Recipe, denoise: Denoise, steps: Steps = None, gradient: Gradient | None = None
    ) -> list[Move]:
        return ancestral(recipe, denoise, steps, gradient)

    def __str__(self) -> str:
        return "ancestral"


def sampled(
    target: str | Path | Model,
    request: Request,
    *,
    classes: Sequence[str | int] | None = None,
    weights: str | None = None,
    device: torch.device | str = "cpu",
    processes: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Samples:
    """Pictures of a model, made now.

    Args:
        target: a run folder, a checkpoint, the name of a shipped model, or a Model (for one process).
        request: how many, in how many steps, by which sampler, from which seed; several processes need a sampler that
            can be sent to them, such as Ddim() or Ancestral().
        classes: names or numbers, taken in turn; evenly over all classes where None.
        weights: "online" or an EMA rate; the first EMA where None.
        processes: how many share the work; on several GPUs each takes its own.
        progress: called with the number of pictures finished since the last call.

    Raises:
        ValueError: nothing there, or the request cannot be met; before any work.
    """
    model = target if isinstance(target, Model) else load(target, weights=weights, device=device)
    if processes != 1 and isinstance(target, Model):
        raise ValueError("several processes need a path to a model, which each of them loads")
    team = None if isinstance(target, Model) else WorkerPool(partial(load, target, weights=weights), processes, device)
    moves = model.plan(request)
    labels = (request.guide.classifier if request.guide else model).labels(classes, request.n)
    request = replace(request, precision=request.precision_on(model.device))
    work = partial(_walked, request=request, labels=labels)
    parts = batches(request.n, request.batch)
    finished = distribute(work, model, parts, team, progress)
    how = _how(model, request, moves, finished[0][1] / len(parts[0]), classes)
    name = str(model.about.get("path", "a model")) if isinstance(target, Model) else str(target)
    return Samples(torch.cat([images for images, _ in finished]), name, ROUNDED, labels, model.classes, how)


def _walked(model: Model, keys: range, *, request: Request, labels: Tensor | None) -> tuple[Tensor, int]:
    """The pictures of these keys, and how many the network saw for them."""
    with counted(model.network) as evaluations:
        images = walked(model, keys, request=request, labels=labels).images
    return images, sum(evaluations)


def _how(
    model: Model, request: Request, moves: int, evaluations: float, classes: Sequence[str | int] | None
) -> dict[str, Any]:
    """What a protocol says about samples of a model; network evaluations are counted, a picture."""
    named = isinstance(request.sampler, Ddim | Ancestral)
    how: dict[str, Any] = {
        "sampler": str(request.sampler) if named else getattr(request.sampler, "__name__", str(request.sampler)),
        "steps": moves,
        "network_evaluations": int(evaluations) if evaluations.is_integer() else evaluations,
        "seed": request.seed,
        "precision": request.precision,
        "weights": model.about.get("weights", "as given"),
        "images_seen": model.about.get("images", "unknown"),
    }
    if request.guide:
        how["classifier_scale"] = request.guide.scale
    if request.scale != 1:
        how["guidance_scale"] = request.scale
    if classes:
        how["classes"] = list(classes)
    return how
