"""Image restoration with any model that makes pictures: posterior sampling, and inpainting by replacement.

`restore` draws pictures that agree with what was seen of them through an operator, by any method of `inverse`.
`inpaint` and `colourise` are those of the papers: what is known is put back after each step, as noisy as the step is
(Song et al. 2021, appendix I; Song & Ermon 2019, algorithm 2; `core.inpainting`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato import inverse, spec
from sfumato.core.inpainting import GREY, Replacement, greyness, with_replacement
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Move, Sampler, finish
from sfumato.core.schedules import Steps
from sfumato.data.loader import levels_of, to_float
from sfumato.inverse import Function, Measurement, Operator, Posterior
from sfumato.models import guidance as guides
from sfumato.models.decoded import as_pictures
from sfumato.models.guidance import Given, Guidance
from sfumato.models.inputs import check_labels
from sfumato.models.model import MOST_OF_EACH, Model
from sfumato.samplers import DDIM
from sfumato.spaces import Space


@dataclass(frozen=True)
class Restored:
    """Draws from the posterior.

    Attributes:
        draws: (n, draws, C, H, W), uint8, or of the depth of the model's data.
        error: (n, draws) the root mean square of A x - y, on the scale [0, 1]; with exact measurements it should be
            next to 0, else about their noise.
    """

    draws: Tensor
    error: Tensor

    @property
    def mean(self) -> Tensor:
        """The mean of each picture's draws, the best guess, (n, C, H, W) of their depth."""
        mean = self.draws.float().mean(1)
        return mean.round().to(self.draws.dtype) if levels_of(self.draws) else mean

    @property
    def deviation(self) -> Tensor:
        """What is not known: the standard deviation over the draws, float (n, C, H, W) on the scale [0, 1]."""
        return self.draws.float().std(1, correction=0) / ((levels_of(self.draws) or 3) - 1)


def restore(
    model: Model,
    measurement: Tensor,
    operator: Operator,
    *,
    method: Posterior | str | None = None,
    noise: float = 0.0,
    draws: int = 1,
    steps: Steps | Literal["usual"] = "usual",
    sampler: Sampler | str | None = None,
    labels: Tensor | None = None,
    guidance: Guidance | str | None = None,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[float], object] | None = None,
) -> Restored:
    """Draw pictures from the posterior, given what was seen of them: y = A x + noise.

    Args:
        measurement: y (n, ...), uint8 or float in [-1, 1]; for a mask, whole pictures, whatever the rest is.
        operator: A, such as `inverse.MeanPool(2)`.
        method: of `inverse.POSTERIORS`, a value or a spec; MMPS by default, the least biased at twice the cost of
            sampling, and DPS for operators that are not linear.
        noise: the standard deviation of the noise in y, where pictures are in [-1, 1].
        draws: how many for each picture.
        steps, guidance: see `Model.sample`.
        sampler: likewise; by default DDIM with eta 1, whose noise mends seams, where DDIM or a faster solver is usual.
        labels: (n,) for a model with classes, one a picture.
        seed: draw d of picture i follows from (seed, i, d) alone.
        batch: pictures at a time, which bounds the memory.
        progress: called before each step with the share of the work that is done, from 0 to 1.

    Raises: ValueError where the operator, what was seen and the model do not fit, or the method needs another operator.
    """
    way = _method(method, operator)
    _check(model, measurement, operator, noise, draws, labels)
    way.check(operator)
    guided = guides.chosen(guidance)
    chosen, space, n = _sampler(model, sampler), model.recipe.space, len(measurement)
    guided.check(model, None, chosen)
    images, errors = [], []
    for number, part in enumerate(parts := torch.arange(n * draws).split(batch)):
        keys = (part // draws).tolist()
        here = operator.part(keys, n).to(model.device)
        y = here.seen(to_float(measurement[keys].to(model.device)))
        given = Given(None if labels is None else labels[keys])
        draw = ImageNoise(seed, [i + (k % draws << 32) for i, k in zip(keys, part.tolist(), strict=True)])
        with torch.no_grad():
            denoise = guided.unclipped(model, model.network, given)
            plan = way.plan(
                model.diffusion.gaussian, denoise, _encoded(Measurement(here, y, noise), space), chosen,
                model.diffusion.own_steps if steps == "usual" else steps, guided.clip(model),
            )  # fmt: skip
            x = model.diffusion.prior((len(keys), *space.shape(model.recipe.shape)), model.device).sample(draw)
            x = space.decode(finish(x, _told(plan, number, len(parts), progress), draw))
            if way.agrees and not noise and here.linear and here.stable:
                x = x + here.pinv(y - here(x))
            images.append(as_pictures(x, space.levels))
            errors.append(_error(Measurement(here, y), to_float(images[-1].to(model.device))).cpu())
    return Restored(torch.cat(images).unflatten(0, (n, draws)), torch.cat(errors).unflatten(0, (n, draws)))


def _told(moves: Sequence[Move], number: int, parts: int, progress: Callable[[float], object] | None) -> Iterator[Move]:
    """The moves of one of several parts, each told of before it is made."""
    for i, move in enumerate(moves):
        if progress:
            progress((number + i / len(moves)) / parts)
        yield move


def _sampler(model: Model, sampler: Sampler | str | None) -> Sampler:
    usual = model.diffusion.sampler
    return model.sampler(DDIM(eta=1.0) if sampler is None and usual != model.diffusion.own else sampler)


def _method(method: Posterior | str | None, operator: Operator) -> Posterior:
    if method is None:
        return inverse.MMPS() if operator.linear else inverse.DPS()
    made = inverse.by_name(method) if isinstance(method, str) else method
    spec.finite(made, "the method", MOST_OF_EACH)
    return made


def _check(
    model: Model, measurement: Tensor, operator: Operator, noise: float, draws: int, labels: Tensor | None
) -> None:
    """ValueError where these do not fit together."""
    model.alone("restoring")
    model.of_pixels("restoring")
    seen = operator.check(model.recipe.shape)
    if tuple(measurement.shape[1:]) != seen:
        raise ValueError(
            f"of pictures {model.recipe.shape} this operator sees {seen}, not {tuple(measurement.shape[1:])}"
        )
    if noise < 0 or draws < 1:
        raise ValueError(f"noise is not negative and draws are 1 or more, not {noise:g} and {draws}")
    check_labels(model, labels, len(measurement))
    operator.part([0], len(measurement))


def _encoded(seen: Measurement, space: Space) -> Measurement:
    """A measurement of pictures in [-1, 1] as one of what the diffusion sees of them."""
    operator, y = seen.operator, seen.y
    middle, one = space.decode(torch.tensor([0.0, 1.0])).tolist()
    if not operator.linear:
        return Measurement(Function(lambda x: operator(space.decode(x))), y, seen.noise)
    if middle:
        y = y - operator(operator.transpose(0 * y) + middle)
    return Measurement(operator, y / (one - middle), seen.noise / (one - middle))


def _error(seen: Measurement, images: Tensor) -> Tensor:
    """The root mean square of A x - y over what was seen, (B,), on the scale [0, 1]."""
    count = seen.operator.seen(torch.ones_like(seen.y)).flatten(1).sum(1)
    return (seen.residual(images).flatten(1).square().sum(1) / count.clamp(min=1)).sqrt() / 2


def inpaint(model: Model, images: Tensor, known: Tensor, **options: Any) -> Tensor:
    """Inpainting: pictures that agree with the images where these are known, uint8 (n, C, H, W).

    Args:
        images: uint8 (n, C, H, W); what is not known does not matter.
        known: True where an image is known, broadcasting against the images, for example (H, W).
        options: see `restored`.
    """
    if known.dtype != torch.bool:
        raise ValueError(f"known is true or false at each pixel, not {known.dtype}")
    try:
        torch.broadcast_shapes(known.shape, images.shape)
    except RuntimeError:
        raise ValueError(f"known is {tuple(known.shape)}, which does not fit images {tuple(images.shape)}") from None
    return restored(model, images, known, None, **options)


def colourise(model: Model, images: Tensor, **options: Any) -> Tensor:
    """Colourisation: pictures whose grey, the mean of red, green and blue, is the images', uint8 (n, 3, H, W).

    Args:
        images: uint8 (n, 3, H, W), grey or not, or (n, 1, H, W).
        options: see `restored`.
    """
    if model.recipe.shape[0] != 3:
        raise ValueError(f"colouring needs a model of colour images; this one makes {model.recipe.shape}")
    if images.shape[1] == 1:
        images = images.expand(-1, 3, -1, -1)
    return restored(model, images, greyness(images), GREY, **options)


def restored(
    model: Model,
    images: Tensor,
    known: Tensor,
    basis: Tensor | None,
    *,
    steps: Steps = None,
    sampler: Sampler | str = "own",
    labels: Tensor | None = None,
    seed: int = 0,
    batch: int = 64,
) -> Tensor:
    """Restore pictures with the known coordinates of the images, uint8 (n, C, H, W).

    Args:
        steps, sampler: see `Model.sample`; the paper's own sampler in all its steps by default.
        labels: (n,) for a model with classes, one a picture.
        seed: the noise of picture i follows from (seed, i).
        batch: pictures at a time, which bounds the memory.

    Raises: ValueError where the images do not fit the model, or the model makes no pictures out of noise alone.
    """
    model.check_images(images, labels, "restoring")
    model.of_pixels("restoring")
    chosen, process, space = model.sampler(sampler), model.diffusion.gaussian, model.recipe.space
    done = []
    for keys in torch.arange(len(images)).split(batch):
        x0 = space.encode(to_float(images[keys].to(model.device)))
        part = known[keys] if known.ndim == images.ndim and len(known) == len(images) else known
        replacement = Replacement(process, x0, part.to(model.device), basis)
        noise = ImageNoise(seed, keys.tolist())
        with torch.inference_mode():
            denoise = model.denoiser(None if labels is None else labels[keys])
            moves = with_replacement(chosen.plan(process, denoise, steps), replacement)
            x = model.diffusion.prior(tuple(x0.shape), model.device).sample(noise)
            done.append(as_pictures(space.decode(finish(x, moves, noise)), space.levels))
    return torch.cat(done)
