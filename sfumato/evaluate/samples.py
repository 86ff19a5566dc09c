"""What is measured: pictures from files, or from a model that samples them now, with a note of how they were made.

Picture i of a model depends on (seed, i) alone, so any number of processes may share the work and give the same ones.
"""

from __future__ import annotations

import hashlib
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core.denoisers import Denoise
from sfumato.core.guidance import Gradient
from sfumato.core.sampling import Move
from sfumato.core.times import Steps
from sfumato.data import Images, to_uint8
from sfumato.model import Model, Request, ancestral, ddim_sampler, load
from sfumato.papers.recipe import Recipe

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
    """Pictures that a spec opens, a folder, an npz or a data set: the first n. ValueError where there are fewer."""
    if n is not None and n > len(images):
        raise ValueError(f"{images.spec} holds {len(images):,} images, not {n:,}")
    labels = None if images.labels is None else images.labels[:n]
    return Samples(images.images[:n], images.spec, labels=labels, classes=images.classes)


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
    if processes < 1 or (processes > 1 and isinstance(target, Model)):
        raise ValueError(f"sampling takes 1 process or more, and a path to share among them, not {processes}")
    moves = model.plan(request)
    labels = (request.guide.classifier if request.guide else model).labels(classes, request.n)
    request = replace(request, precision=request.precision_on(model.device))
    walk = partial(walked, request=request, labels=labels)
    first, *rest = [range(i, min(i + request.batch, request.n)) for i in range(0, request.n, request.batch)]
    with counted(model.network) as evaluations:
        finished = [walk(model, first)]
    if progress:
        progress(len(first))
    if processes > 1:
        finished += _shared(walk, target, weights, device, rest, processes, progress)  # type: ignore[arg-type]
    for part in rest if processes == 1 else ():
        finished.append(walk(model, part))
        if progress:
            progress(len(part))
    how = _how(model, request, moves, sum(evaluations) / len(first), classes)
    name = str(model.about.get("path", "a model")) if isinstance(target, Model) else str(target)
    return Samples(torch.cat(finished), name, ROUNDED, labels, model.classes, how)


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


def walked(model: Model, keys: Sequence[int], *, request: Request, labels: Tensor | None) -> Tensor:
    """The pictures of these keys, uint8 (len(keys), C, H, W); labels (N,) are those of all keys."""
    chosen = None if labels is None else labels[list(keys)]
    *_, (x, _) = model.walks(request, keys, chosen)
    return to_uint8(x).cpu()


@contextmanager
def counted(network: nn.Module) -> Iterator[list[int]]:
    """A list that collects how many images each forward pass of the network sees."""
    sizes: list[int] = []
    handle = network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    try:
        yield sizes
    finally:
        handle.remove()


# ---------------------------------------------------------------- several processes


def _shared(
    walk: Callable[..., Tensor], target: str | Path, weights: str | None, device: torch.device | str,
    parts: list[range], processes: int, progress: Callable[[int], object] | None,
) -> list[Tensor]:  # fmt: skip
    """The parts in their order, walked by several processes that each load the model once."""
    context = multiprocessing.get_context("spawn")
    ranks = context.Queue()
    for rank in range(processes):
        ranks.put(rank)
    about = (ranks, target, weights, str(device), max(1, torch.get_num_threads() // processes))
    finished = []
    try:
        with ProcessPoolExecutor(processes, context, initializer=_prepare, initargs=about) as pool:
            for part, images in zip(parts, pool.map(partial(_walk_here, walk), parts), strict=True):
                finished.append(images)
                if progress:
                    progress(len(part))
    except BrokenProcessPool:
        raise ChildProcessError(
            "a process that shared the sampling died, of memory perhaps (try fewer); in a script of your own, "
            "put the call under `if __name__ == '__main__':`"
        ) from None
    return finished


_HERE: list[Model] = []
"""The model of a process that takes part."""


def _prepare(ranks: Any, target: str | Path, weights: str | None, device: str, threads: int) -> None:
    rank = ranks.get()
    torch.set_num_threads(threads)
    if device == "cuda" and torch.cuda.device_count() > 1:
        device = f"cuda:{rank % torch.cuda.device_count()}"
    _HERE.append(load(target, weights=weights, device=device))


def _walk_here(walk: Callable[..., Tensor], part: range) -> Tensor:
    return walk(_HERE[0], part)
