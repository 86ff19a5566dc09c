"""Sampling requests: batches of images from noise to data, each image with noise of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from numbers import Integral
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.core.denoisers import Denoise
from sfumato.core.randomness import ImageNoise, mix
from sfumato.core.sampling import Move, Sampler, trajectory
from sfumato.core.schedules import Steps
from sfumato.data.loader import to_float, to_uint8
from sfumato.models import guidance as guides
from sfumato.models.classifier import Guide
from sfumato.models.decoded import as_pictures, decoded
from sfumato.models.guidance import Given, Guidance
from sfumato.models.inputs import check_attributes, check_labels, check_pictures
from sfumato.runtime.precision import autocast, best_precision, for_sampling
from sfumato.runtime.workers import WorkerPool, batches, distributed

if TYPE_CHECKING:
    from sfumato.models.model import Model


PICTURE = 1
"""Which stream of a seed's random numbers is the noise on the pictures of a request."""


@dataclass(frozen=True)
class Request:
    """What is asked of a model; the fields are the arguments of `Model.sample`."""

    n: int
    steps: Steps
    sampler: Sampler | str | None = None
    seed: int = 0
    scale: float | None = None
    guide: Guide | None = None
    picture: Tensor | None = None
    batch: int = 64
    precision: str = "auto"
    guidance: Guidance | str | None = None
    guide_model: Model | None = None
    attributes: Tensor | None = None

    def precision_on(self, device: torch.device) -> str:
        """bf16 or float32."""
        return best_precision(device)[0] if self.precision == "auto" else self.precision


def denoiser(
    model: Model,
    labels: Tensor | None,
    picture: Tensor | None,
    scale: float | None = None,
    network: nn.Module | None = None,
    guidance: Guidance | str | None = None,
    guide_model: Model | None = None,
    *,
    fed: bool = False,
    attributes: Tensor | None = None,
) -> Denoise:
    """See `Model.denoiser`; `fed`, for one trajectory of a sampler, feeds predictions back where the model wants it."""
    weights = model.network if network is None else network
    given = Given(labels, picture, fed, attributes)
    return guides.chosen(guidance, scale, guide_model)(model, weights, given, guide_model)


def plan(model: Model, request: Request) -> int:
    """How many moves a picture takes. ValueError, before any work, for what cannot be made."""
    for what, number in (("number of pictures", request.n), ("batch", request.batch), ("seed", request.seed)):
        if not isinstance(number, Integral):
            raise ValueError(f"the {what} is a whole number, not {number!r}")
    if request.n < 1 or request.batch < 1:
        raise ValueError(f"the number of pictures and the batch are at least 1, not {request.n} and {request.batch}")
    if request.guide:
        request.guide.check(model)
    guidance = guides.chosen(request.guidance, request.scale, request.guide_model)
    guidance.check(model, request.guide_model, model.sampler(request.sampler))
    if request.picture is not None:
        check_pictures(model, request.picture, request.n)
    check_attributes(model, request.attributes, request.n)
    one = (request.guide.classifier if request.guide else model).labels(None, 1)
    return len(_moves(model, model.network, replace(request, **_some(request, [0])), one, [0]))


def _some(request: Request, keys: Sequence[int]) -> dict[str, Any]:
    """What these images of a request are given each."""
    both = {"picture": request.picture, "attributes": request.attributes}
    return {name: None if value is None else value[list(keys)] for name, value in both.items()}


def _moves(
    model: Model, network: nn.Module, request: Request, labels: Tensor | None, keys: Sequence[int]
) -> list[Move]:
    """The moves of the images of these keys, whose labels, pictures and attributes these are."""
    of_model = labels if model.recipe.conditioning.classes else None
    small = None
    if request.picture is not None:
        noise = ImageNoise(mix(request.seed, PICTURE), keys)
        small = model.recipe.conditioning.noised(to_float(request.picture), noise)
    denoise = denoiser(
        model, of_model, small, request.scale, network, request.guidance, request.guide_model, fed=True,
        attributes=request.attributes,
    )  # fmt: skip
    sampler, diffusion = model.sampler(request.sampler), model.diffusion
    if request.guide and labels is not None:
        gradient = request.guide.gradient(labels.to(model.device))
        sampler, denoise = sampler.guided(denoise, gradient, diffusion.clipped)
    own_way: Any = diffusion.process  # bits and learned levels have none, and their own sampler needs none
    return sampler.plan(own_way if sampler == diffusion.own else diffusion.gaussian, denoise, request.steps)


def trajectories(
    model: Model, request: Request, keys: Sequence[int], labels: Tensor | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """The trajectory of the images of these keys from noise to data, move by move.

    Yields (x_t, predicted x0) as the diffusion sees them, (B, c, h, w); first the noise itself. `Model.space` decodes.
    """
    noise, space = ImageNoise(request.seed, keys), model.recipe.space
    shape = (len(keys), *space.shape(model.recipe.shape))
    x = model.diffusion.prior(shape, model.device).sample(noise)
    precision = request.precision_on(model.device)
    network = for_sampling(model.network, model.device, precision)
    moves = _moves(model, network, replace(request, **_some(request, keys)), labels, keys)
    yield x, x
    states = trajectory(x, moves, noise)
    while True:
        with torch.inference_mode(), autocast(model.device, precision):
            state = next(states, None)
            if state is None:
                return
        yield state[0], state[1].x0


@dataclass(frozen=True)
class Film:
    """What is kept on the way: of the first pictures, every so many-th state, and always the last."""

    pictures: int
    every: int = 1


@dataclass(frozen=True)
class Sampled:
    """What was made.

    Attributes:
        images: (n, C, H, W) of the depth of the data, see `as_pictures`, on the host.
        frames, predictions: states and predictions on the way to them, where wanted, each uint8 (n or fewer, C, H, W).
        evaluations: of the network, a picture.
    """

    images: Tensor
    frames: list[Tensor]
    predictions: list[Tensor]
    evaluations: float


def fulfilled(
    model: Model,
    request: Request,
    labels: Tensor | None = None,
    *,
    film: bool = False,
    pool: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Sampled:
    """All images of a request; labels (n,) for a model with classes. See `Model.sample`."""
    whole = Film(request.n) if film else None
    return joined(list(in_batches(model, request, labels, film=whole, pool=pool, progress=progress)))


def joined(parts: Sequence[Sampled]) -> Sampled:
    """Several batches as one."""
    frames, predictions = (
        [torch.cat(states) for states in zip(*filter(None, films), strict=True)]
        for films in ([part.frames for part in parts], [part.predictions for part in parts])
    )
    return Sampled(torch.cat([part.images for part in parts]), frames, predictions, parts[0].evaluations)


def in_batches(
    model: Model,
    request: Request,
    labels: Tensor | None = None,
    *,
    film: Film | None = None,
    pool: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Iterator[Sampled]:
    """The images of a request, batch by batch in their order, of which few are in memory at a time.

    Raises: ValueError, at once for what cannot be made, and where pictures come out that are no numbers.
    """
    moves = plan(model, request)
    check_labels(request.guide.classifier if request.guide else model, labels, request.n)
    where = model.device if pool is None else torch.device(pool.device)
    request = replace(request, precision=request.precision_on(where))
    work = partial(sampled, request=request, labels=labels, film=film)
    keys = batches(request.n, request.batch)
    if pool is None:
        return distributed(partial(work, progress=progress), model, keys)
    told = None if progress is None else lambda count: progress(count * moves)
    return distributed(work, model, keys, pool, told)


def sampled(
    model: Model,
    keys: Sequence[int],
    *,
    request: Request,
    labels: Tensor | None,
    film: Film | None = None,
    progress: Callable[[int], object] | None = None,
) -> Sampled:
    """The images of these keys; labels (N,) are those of all keys, and progress is called after each step."""
    if request.guide:
        request.guide.classifier.to(model.device)
    if request.guide_model:
        request.guide_model.to(model.device)
    kept: list[tuple[Tensor, Tensor]] = []
    filmed = sum(key < film.pictures for key in keys) if film else 0
    every = film.every if film else 1
    chosen = None if labels is None else labels[list(keys)]
    guides_too = [request.guide_model.network] if request.guide_model else []
    space = model.space

    def kept_of(*states: Tensor) -> tuple[Tensor, Tensor]:
        first, second = (to_uint8(decoded(space, state[:filmed])).cpu() for state in states)
        return first, second

    with counted(model.network, *guides_too) as seen:
        for i, (x, x0) in enumerate(trajectories(model, request, keys, chosen)):
            if i and progress:
                progress(len(keys))
            if filmed and i % every == 0:
                kept.append(kept_of(x, x0))
    if filmed and i % every:
        kept.append(kept_of(x, x0))
    frames, predictions = ([pair[side] for pair in kept] for side in (0, 1))
    return Sampled(as_pictures(decoded(space, x), space.levels), frames, predictions, sum(seen) / len(keys))


@contextmanager
def counted(*networks: nn.Module) -> Iterator[list[int]]:
    """A list that collects how many images each forward pass of the networks sees."""
    sizes: list[int] = []
    handles = [
        network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0]))) for network in networks
    ]
    try:
        yield sizes
    finally:
        for handle in handles:
            handle.remove()
