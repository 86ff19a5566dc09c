"""What is measured: pictures from files, or from a model that samples them now, with a note of how they were made.

Picture i of a model depends on (seed, i) alone, so any number of processes may share the work and give the same ones.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import samplers, spec
from sfumato.data import Images, eight_bits
from sfumato.models import guidance as guides
from sfumato.models.generate import Request, fulfilled, plan
from sfumato.models.loading import load_model
from sfumato.models.model import Model
from sfumato.models.trained import Trained
from sfumato.runtime.weights import fingerprint
from sfumato.runtime.workers import WorkerPool

ROUNDED = "[-1, 1] to the nearest of 256 levels, clamped"
STORED = "bytes as stored"
HEX = 16
"""Digits that are shown of the hashes of what took part in sampling."""
SHALLOW = "deeper pictures to the nearest of 256 levels, over their whole range"


@dataclass(frozen=True)
class Samples:
    """Pictures to measure.

    Attributes:
        images: uint8 (N, C, H, W).
        name: where they come from.
        quantiser: how numbers became bytes.
        labels, classes: (N,) int64 that they were asked for, and the names of those, where there are any.
        how: sampler, steps, network_evaluations, seed, guidance, what it was by, ...; empty where that is not known.
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


def of_tensor(images: Tensor, name: str = "images from memory") -> Samples:
    """Pictures (N, C, H, W) of 8 bits, or of 16, of which nets see 8; floats as they are, whose range nobody knows."""
    deep = images.dtype == torch.uint16
    return Samples(eight_bits(images) if deep else images, name, SHALLOW if deep else STORED)


def from_images(images: Images, n: int | None = None) -> Samples:
    """Pictures that a spec opens, a folder, an npz or a data set: all, or n spread over them, which may be in order.

    Raises: ValueError where there are fewer than n.
    """
    if n is not None and n > len(images):
        raise ValueError(f"{images.spec} holds {len(images):,} images, not {n:,}")
    if n is not None:
        images = images.take(torch.arange(n) * len(images) // n)
    quantiser = STORED if images.levels == 256 else SHALLOW
    return Samples(eight_bits(images.images), images.spec, quantiser, labels=images.labels, classes=images.classes)


def sampled(
    target: str | Path | Model,
    request: Request,
    *,
    classes: Sequence[str | int] | None = None,
    weights: str | float | None = None,
    device: torch.device | str = "cpu",
    processes: int = 1,
    progress: Callable[[int], object] | None = None,
) -> Samples:
    """Pictures of a model, made now.

    Args:
        target: a run folder, a checkpoint, the name of a shipped model, or a Model (for one process).
        request: how many, in how many steps, by which sampler, from which seed.
        classes: names or numbers, taken in turn; evenly over all classes where None.
        weights: "online", an EMA rate, a length sigma_rel or "best"; the first EMA where None (see `load`).
        processes: how many share the work; on several GPUs each takes its own.
        progress: called with the number of pictures finished since the last call.

    Raises:
        ValueError: nothing there, or the request cannot be met; before any work.
    """
    pool: WorkerPool[Model] | None = None
    if not isinstance(target, Model):
        model = load_model(target, weights=weights, device=device)
        pool = WorkerPool(partial(load_model, target, weights=weights), processes, device) if processes != 1 else None
    elif processes != 1:
        raise ValueError("several processes need a path to a model, which each of them loads")
    else:
        model = target
    moves = plan(model, request)
    labels = (request.guide.classifier if request.guide else model).labels(classes, request.n)
    each = None if progress is None else _pictures(moves, progress)
    made = fulfilled(model, request, labels, pool=pool, progress=each)
    how = _how(model, request, moves, made.evaluations, classes)
    name = str(model.about.get("path", "a model")) if isinstance(target, Model) else str(target)
    quantiser = ROUNDED if model.recipe.space.levels == 256 else SHALLOW
    return Samples(eight_bits(made.images), name, quantiser, labels, model.classes, how)


def _pictures(moves: int, progress: Callable[[int], object]) -> Callable[[int], None]:
    """Progress in whole pictures, from progress in their moves."""
    left = 0

    def told(count: int) -> None:
        nonlocal left
        done, left = divmod(left + count, moves)
        if done:
            progress(done)

    return told


def _how(
    model: Model, request: Request, moves: int, evaluations: float, classes: Sequence[str | int] | None
) -> dict[str, Any]:
    """What a protocol says about samples of a model; network evaluations are counted, a picture."""
    how: dict[str, Any] = {
        "sampler": samplers.name(model.sampler(request.sampler)),
        "steps": moves,
        "network_evaluations": int(evaluations) if float(evaluations).is_integer() else evaluations,
        "seed": request.seed,
        "precision": request.precision_on(model.device),
        "weights": model.about.get("weights", "as given"),
        "images_seen": model.about.get("images", "unknown"),
    }
    if request.guide:
        how |= {"classifier_scale": request.guide.scale, "classifier": _identity(request.guide.classifier)}
    if request.guidance is not None or request.guide_model is not None:
        how["guidance"] = _written(guides.chosen(request.guidance, request.scale, request.guide_model))
    elif request.scale not in (None, 1):
        how["guidance_scale"] = request.scale
    if request.guide_model is not None:
        how["guide_model"] = _identity(request.guide_model)
    if classes:
        how["classes"] = list(classes)
    for name, given in (("attributes", request.attributes), ("inputs", request.picture)):
        if given is not None:
            how[name] = f"sha256 {fingerprint({name: given[: request.n]})[:HEX]}"
    return how


def _written(guidance: guides.Guidance) -> str:
    """The spec of a guidance; of a class of one's own, its values."""
    return spec.written(guides.GUIDANCE, guidance) if type(guidance) in guides.GUIDANCE.values() else repr(guidance)


def _identity(guide: Trained[Any]) -> str:
    """Which other network took part: where it comes from, and the hash of its weights."""
    return f"{guide.about.get('path', 'as given')}, sha256 {fingerprint(guide.network.state_dict())[:HEX]}"
