"""The seam between the papers and the machinery: what a recipe is, and the training loss that nearly all papers share.

A recipe is a frozen dataclass of plain values, some of them nested (network, space, conditioning), so that a checkpoint
can carry it as JSON. It is built once into what runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from typing import Annotated, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning
from sfumato.core.betas import shifted
from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.diffusion import Built, Diffusion, Inputs, Loss
from sfumato.core.distributions import Noise
from sfumato.core.learned_times import learned_interval, learned_levels
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Schedule, Table, from_betas
from sfumato.core.times import TrainingTimes, UniformInterval, UniformLevels
from sfumato.fields import Length, Range, check, shown
from sfumato.networks import NETWORKS
from sfumato.networks.backbone import Backbone, Embedded
from sfumato.noising import INDEPENDENT, Noising
from sfumato.shapes import AXES, KINDS
from sfumato.spaces import Space

MOST_NUMBERS = 1 << 26
"""Numbers of an image, at most: four channels of 4096 x 4096 pixels."""

Shape = Annotated[tuple[Annotated[int, Range(1, 1 << 20)], ...], Length(2, 4)]
"""(C, H, W) of an image, (C, L) of a signal, (C, T, H, W) of a clip; a row may be long."""
Levels = Annotated[int, Range(1, 1_000_000)]
"""T, the number of noise levels, or of steps; published are up to 4000."""
Sigma = Annotated[float, Range(0, 1_000_000, above=True)]
Rate = Annotated[float, Range(0, 1_000_000, above=True)]
Shift = Annotated[tuple[Annotated[float, Range(1e-3, 1e3)], ...], Length(1, 2)]
"""What sigma / alpha is multiplied with at every level, or at clean data and at the last level."""
Moves = Annotated[int, Range(0, 100_000)]
"""Evaluations at each level."""


class Trainable(Protocol):
    """A recipe: what a checkpoint carries of a model besides its weights."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image; or (C, L) of a signal, (C, T, H, W) of a clip."""
        ...

    @property
    def network(self) -> Backbone:
        """The backbone."""
        ...

    @property
    def conditioning(self) -> Conditioning:
        """What the network is given besides x and its noise level; a classifier's classes are these, too."""
        ...

    @property
    def space(self) -> Space:
        """What the diffusion sees of an image."""
        ...

    def build(self) -> Built:
        """What runs: made once, and kept."""
        ...

    def model(self) -> nn.Module:
        """A freshly initialised network."""
        ...


class Recipe(Trainable, Protocol):
    """A recipe of a model that makes images."""

    def build(self) -> Diffusion: ...


@runtime_checkable
class Derived(Protocol):
    """A recipe whose data are those of another recipe, which it holds: it has no field for them to be replaced."""

    def fitted(self, shape: tuple[int, ...], conditioning: Conditioning, space: Space) -> Trainable:
        """The recipe for images of this shape, conditioning and space. ValueError where it is made for others."""
        ...

    def reshaped(self, shape: tuple[int, ...]) -> Trainable:
        """The recipe for images of another shape."""
        ...


def with_data(recipe: Any, shape: tuple[int, ...], conditioning: Conditioning, space: Space) -> Any:
    """The recipe for images of this shape, conditioning and space. ValueError where it is made for others already."""
    if isinstance(recipe, Derived):
        return recipe.fitted(shape, conditioning, space)
    return replace(recipe, shape=shape, conditioning=conditioning, space=space)


def of_shape(recipe: Any, shape: tuple[int, ...]) -> Any:
    """The recipe for images of another shape (C, H, W) than its own, such as a bucket's."""
    return recipe.reshaped(shape) if isinstance(recipe, Derived) else replace(recipe, shape=shape)


def build_network(recipe: Trainable, outputs: int, levels: int = 0, numbers: int = 0) -> nn.Module:
    """The recipe's backbone for its shape, space and conditioning, with so many output channels; `numbers` are real
    numbers that it is given beside those of the conditioning.

    Raises: ValueError where the backbone is for data of other dimensions, or does not fit them.
    """
    given = recipe.conditioning.embedded(recipe.shape, Embedded(levels=levels))
    given = replace(given, numbers=given.numbers + numbers)
    shape = recipe.conditioning.seen(recipe.space.shape(recipe.shape))
    check_dims(recipe.network, shape)
    return recipe.space.attach(recipe.network.build(shape, outputs, given), recipe.shape)


def check_dims(network: Backbone, shape: tuple[int, ...]) -> None:
    """Raise ValueError, with the networks that would do, where a backbone does not take data of so many dimensions."""
    dims = len(shape) - 1
    if dims not in network.dims:
        kinds = {kind: name for name, kind in NETWORKS.items()}
        able = ", ".join(name for name, kind in NETWORKS.items() if dims in kind.dims)
        name = kinds.get(type(network), type(network).__name__)
        raise ValueError(f"the network {name} does not take {KINDS[dims]} {AXES[dims]}: --recipe.network {able} do")


def channels_of(recipe: Trainable) -> int:
    """The channels of what the diffusion sees of an image."""
    return recipe.space.shape(recipe.shape)[0]


def augmented(
    recipe: Trainable, network: nn.Module, images: Tensor, given: Mapping[str, Tensor], noise: Noise
) -> tuple[Tensor, Mapping[str, Tensor]]:
    """The images of a training batch and what is given beside them, as the conditioning changes them in training."""
    if not network.training:
        return images, given
    after, known = recipe.conditioning.changed(images, given, noise)
    if after is not images:  # what was encoded before are other images
        known = {key: value for key, value in known.items() if key != "moments"}
    return after, known


def encoded(
    recipe: Trainable, network: nn.Module, images: Tensor, known: Mapping[str, Tensor], noise: Noise
) -> Tensor:  # fmt: skip
    """What the diffusion sees of a training batch (B, C, H, W), by the weights beside the network if there are any.

    Args:
        known: what is given beside the images; `moments`, where the first part of encoding was done before.
    """
    space = recipe.space.bound(network)
    return space.encode(images, noise) if "moments" not in known else space.drawn(known["moments"], noise)


def levels_of(betas: Tensor, shift: tuple[float, ...]) -> Table:
    """The levels of betas (T,), their log-SNR shifted for resolution (`betas.shifted`); a shift of 1 leaves them."""
    clean, noisy = shift[0], shift[-1]
    return from_betas(betas if clean == noisy == 1 else shifted(betas, clean, noisy))


def level_times(times: str, schedule: Schedule, T: int) -> TrainingTimes:
    """Training times among the levels 1..T of a schedule: uniform, or learned."""
    return learned_levels(schedule, T) if times == "learned" else UniformLevels(T)


def interval_times(times: str, schedule: Schedule, start: float, end: float) -> TrainingTimes:
    """Training times between start and end of a continuous schedule: uniform, or learned."""
    return learned_interval(schedule, start, end) if times == "learned" else UniformInterval(start, end)


Criterion = Callable[[Prediction, Tensor, Tensor, Tensor], Tensor]
"""(prediction at x_t, x0, eps, t) -> the loss of each image, (B,)."""


def noising_of(recipe: Trainable) -> Noising:
    """How the noise of a training batch is drawn: the recipe's `noising`, or independently where it has none."""
    noising: Noising = getattr(recipe, "noising", INDEPENDENT)
    return noising


def training_noise(recipe: Trainable, x0: Tensor, noise: Noise, given: Mapping[str, Tensor]) -> Tensor:
    """The noise of a training batch: `eps` where given (reflow, Liu et al. 2023), else by the recipe's noising."""
    eps = given.get("eps")
    if eps is not None:
        return eps
    return noising_of(recipe).draw(x0, noise, given.get("y") if recipe.conditioning.classes else None)


def denoising_loss(
    recipe: Trainable,
    process: GaussianDiffusion,
    denoise: Callable[[nn.Module, Inputs], Denoise],
    criterion: Criterion,
) -> Loss:
    """The training loss of a diffusion model: noise images, predict, compare (Ho et al. 2020, algorithm 1).

    Noise is drawn as the recipe's `noising` has it; independently where a recipe has none.
    In training mode of the network the conditioning may augment the images first. Where the noise of each image is
    given as `eps`, like what the space makes of the images, that is taken (reflow, Liu et al. 2023). Where the noising
    has several `tries`, the least of their losses is an image's, in training mode alone.
    """
    space, conditioning = recipe.space, recipe.conditioning

    def loss(
        network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
    ) -> Tensor:
        images, known = augmented(recipe, network, images, given, noise)
        x0 = encoded(recipe, network, images, known, noise)
        eps = training_noise(recipe, x0, noise, known)
        inputs = conditioning.training(images, known, noise)

        def of(eps: Tensor) -> Tensor:
            x_t = process.level(t, x0).noise(x0, eps)

            def predict(inputs: Inputs, some: Tensor) -> Tensor:
                return denoise(network, inputs)(x_t[some], t[some.to(t.device)]).x0.clamp(*space.range)

            seen = conditioning.twice(inputs, predict, x_t, noise)
            return criterion(denoise(network, seen)(x_t, t), x0, eps, t)

        tries = noising_of(recipe).tries if network.training and "eps" not in known else 1
        if tries == 1:
            return of(eps)
        others = (training_noise(recipe, x0, noise, known) for _ in range(tries - 1))
        return torch.stack([of(eps), *map(of, others)]).amin(0)

    return loss


def check_fields(recipe: Any, **tables: Collection[str]) -> None:
    """Raise ValueError where a field of a recipe is not of its type, outside its range, or a word that is not known.

    Args:
        tables: by the name of a field, the words that it may hold; the types of other fields say theirs.
    """
    check(recipe)
    for name, known in tables.items():
        if getattr(recipe, name) not in known:
            raise ValueError(f"{name} is one of {', '.join(map(str, known))}, not {shown(getattr(recipe, name))}")
    if math.prod(recipe.shape) > MOST_NUMBERS:
        size = " x ".join(f"{side:,}" for side in recipe.shape)
        raise ValueError(f"images of {size} numbers are too large: {MOST_NUMBERS:,} is the most")
