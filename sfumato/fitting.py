"""A training before its first step: the recipe fitted to the images, and everything refused that can be.

`sfumato train` and `sfumato.fit` begin here; nothing is written yet.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.core.diffusion import Built
from sfumato.cost.inspection import Plan, costs
from sfumato.cost.room import check_training
from sfumato.data import to_float
from sfumato.data.described import captions_of, described
from sfumato.data.images import Images
from sfumato.evaluate.in_training import training_distance
from sfumato.models import Model
from sfumato.models.autoencoder import reconstructions
from sfumato.models.first_stage import with_first_stage
from sfumato.models.generate import Request, plan
from sfumato.models.real import inputs_of
from sfumato.models.reflow import check_pairs
from sfumato.papers.recipe import of_shape, with_data
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.precision import best_precision, usable_device
from sfumato.shapes import kind
from sfumato.starting import begun, said_of, taken_again
from sfumato.train.initial import Fitted, Initial
from sfumato.train.loop import TrainResult, train
from sfumato.train.reading import compared
from sfumato.train.session import Distance, Preview
from sfumato.train.setup import accelerator_for, first_state, rehearse


@dataclass(frozen=True)
class Training:
    """A training that could begin.

    Attributes:
        recipe: fitted to the images.
        network: the recipe's, without weights.
        images, validation: to train on, and for the loss by noise level (the training images where None).
        settings: the training numbers.
        config: what config.json will hold besides those.
        preview: makes pictures from a network; None where the recipe makes none.
    """

    recipe: Any
    network: nn.Module
    images: Images
    validation: Images | None
    settings: TrainConfig
    config: Mapping[str, Any]
    preview: Preview | None
    distance: Distance | None = None
    """Measures samples on the way, where `settings.fd_every` asks for it."""
    initial: Fitted | None = None
    """Weights to begin at."""
    remarks: tuple[str, ...] = ()
    """What is to be said of those."""
    built: Built | None = None
    """What the recipe builds, where its loss needs more than the recipe, such as a teacher."""
    beside: Mapping[str, Tensor] | None = None
    """Weights that lie beside the network's own and are not trained, by key: an autoencoder's."""

    @property
    def first(self) -> Mapping[str, Tensor] | None:
        """The weights that a new run does not draw from its seed, by key."""
        given = {**(self.initial.tensors if self.initial else {}), **(self.beside or {})}
        return given or None

    def rehearse(self) -> None:
        """Make the first state and the loss of two images, and keep nothing. ValueError where they do not fit."""
        settings, built = self.settings, self.built or self.recipe.build()
        accelerator = accelerator_for(settings)
        device = accelerator.device
        precision = best_precision(device)[0] if settings.precision == "auto" else settings.precision
        state = first_state(self.recipe, built.times, settings, device, False, self.first)
        rehearse(self.recipe, built, state, self.images, precision)

    def costs(self) -> Iterator[str]:
        """The lines on what would run: budget, data, network, memory, operations and the measured time of a step."""
        yield f"budget   {self.settings.budget()}, {self.settings.batch} images a step"
        yield from str(self.images.card).splitlines()
        settings, processes = self.settings, int(os.environ.get("WORLD_SIZE", "1"))
        plan = Plan(
            settings.batch, settings.precision, settings.accumulate, settings.checkpoint_activations, processes,
            settings.shard, usable_device(settings.device),
        )  # fmt: skip
        yield from costs(self.recipe, settings, plan, True)

    def run(self, out: Path, *, resume: bool = False, **more: Any) -> TrainResult:
        """Train, or go on with what `out` holds; see `train.loop.train`."""
        return train(
            self.recipe, self.images, self.settings, out, config=self.config, validation=self.validation,
            preview=self.preview, resume=resume, distance=self.distance, **more, built=self.built,
            initial=self.first,
        )  # fmt: skip


def prepare(
    recipe: Any, images: Images, settings: TrainConfig, said: Mapping[str, Any], *, validation: Images | None = None,
    resume: Path | None = None, initial: Initial | None = None, built: Built | None = None,
) -> Training:  # fmt: skip
    """A training of a recipe on images, which has been checked against them, the device and its memory.

    Args:
        recipe: shape, classes and moments are taken from the images.
        said: for config.json: the preset, the data specs, the command.
        validation: held-out images of the same shape.
        resume: the folder of the run that goes on: the recipe's moments are those of the run, and stay. Where it was
            stopped before its first checkpoint, it begins once more, at the weights at which it began.
        initial: a model to begin at.
        built: what the recipe builds, where its loss needs more than the recipe.

    Raises:
        ValueError: recipe, images, device and memory do not fit each other.
    """
    device = usable_device(settings.device)
    processes, here = (int(os.environ.get(word, "1")) for word in ("WORLD_SIZE", "LOCAL_WORLD_SIZE"))
    beside = None
    if resume is not None:
        initial, beside = taken_again(resume, recipe, said, images.images, device)
    elif built is None:  # a student reads its teacher's latents
        recipe, beside = with_first_stage(recipe, images.images, device)
    recipe = fit_to_data(recipe, images, moments=resume is None)
    if settings.flip and len(images.shape) == 2:
        raise ValueError(f"flip mirrors left and right, and {images.spec} holds signals: train with --train.no-flip")
    if validation is not None:
        check_validation(recipe, images, validation)
    if images.noise is not None:
        check_pairs(recipe, tuple(images.noise.shape[1:]))
    images = described(recipe.conditioning, images)
    validation = validation and described(recipe.conditioning, validation)
    with torch.device("meta"):
        network = recipe.model()
    if images.buckets and settings.fd_every:
        raise ValueError("fd_every is of pictures of one size; measure each bucket after training, by sample --size")
    largest = max((part.shape for part in images.parts), key=math.prod)
    most = of_shape(recipe, largest) if images.buckets else recipe
    check_training(most, network, settings, device, processes, here)
    if recipe.network.frozen and initial is None and resume is None:
        raise ValueError("a control leaves the model that it controls as it is, so it needs one: --from MODEL")
    config = {"recipe": papers.to_json(recipe), "parameters": sum(p.numel() for p in network.parameters()), **said}
    preview = previews(recipe, network, settings, images, validation or images)
    distance = None
    if settings.fd_every:
        distance = training_distance(recipe, network, settings.fd_images, images, validation, device)
    parts = recipe, network, images, validation, settings
    if initial is None:
        return Training(*parts, config, preview, distance, built=built, beside=beside)
    taken = begun(initial, recipe, network, images)
    origin = {**initial.about, "taken": str(taken)}
    return Training(
        *parts, {**config, "from": origin}, preview, distance, taken,
        (said_of(initial), f"weights  {taken}", *(f"note     {s}" for s in compared(initial.recipe, recipe))),
        built, beside,
    )  # fmt: skip


def check_out(out: Path) -> None:
    """ValueError for a folder that cannot take a new run, before data are read."""
    RunFolder.check_new(out)
    nearest = next(parent for parent in (out, *out.absolute().parents) if parent.exists())
    if not nearest.is_dir() or not os.access(nearest, os.W_OK | os.X_OK):
        raise ValueError(f"{out} cannot be made: {nearest} is no folder that can be written in")


def previews(
    recipe: Any, network: nn.Module, settings: TrainConfig, images: Images, held_out: Images
) -> Preview | None:
    """What makes pictures from a network while it trains: samples, or held-out images above their reconstructions where
    that is what it makes. None where it makes neither, as a classifier.

    Args:
        network: the recipe's, without weights. ValueError where pictures cannot be made with it.
    """
    built = recipe.build()
    if not settings.preview_images:
        return None
    if built.reconstruct is not None:
        return reconstructions(recipe, settings.preview_images, held_out.images)
    if built.sampler is None:
        return None
    count = min(settings.preview_images, len(images))
    inputs = inputs_of(recipe, held_out, count) if recipe.conditioning.pictured else None
    count = count if inputs is None else len(inputs)
    told = None if held_out.attributes is None else held_out.attributes.values[torch.arange(count) % len(held_out)]
    steps = min(settings.preview_steps, recipe.steps)
    plan(Model(recipe, network, images.classes), Request(count, steps, picture=inputs, attributes=told))

    def preview(network: nn.Module) -> Tensor:
        model = Model(recipe, network, images.classes)
        return model.sample(count, steps=steps, seed=1, picture=inputs, attributes=told)

    return preview


def check_validation(recipe: Any, images: Images, validation: Images) -> None:
    """ValueError unless held-out images are like those of a training, and their labels mean the same where it has any.

    Args:
        recipe: fitted to the images.
    """
    if validation.shape != images.shape:
        raise ValueError(f"validation images are {validation.shape}, training images {images.shape}")
    if (validation.inputs is None) != (images.inputs is None):
        raise ValueError("training images and validation images are both pairs, or neither is")
    if not recipe.conditioning.classes:
        return
    if validation.labels is None:
        raise ValueError(f"the model has classes, and the validation images, {validation.spec}, have no labels")
    if validation.classes != images.classes[: len(validation.classes)]:  # the last ones may be missing
        ours, theirs = (few(names) for names in (images.classes, validation.classes))
        raise ValueError(f"the classes of the validation images are {theirs}, those of the training images {ours}")


def few(names: Sequence[str], most: int = 5) -> str:
    """Names with commas between, no more than so many."""
    return ", ".join(names[:most]) + (f", ... ({len(names)})" if len(names) > most else "")


def fit_to_data(recipe: Any, images: Images, *, moments: bool = True) -> Any:
    """The recipe with the shape, the depth, the classes and, where asked, the moments of the data.

    Raises: ValueError where the recipe cannot do without labels, or enlarges what is not smaller.
    """
    labelled, shape, conditioning = images.labels is not None, images.shape, recipe.conditioning
    if recipe.build().labelled and not labelled:
        raise ValueError("a classifier needs labelled data: classes are sub-folders, for example")
    side = conditioning.picture
    conditioning = conditioning.paired(None if images.inputs is None else tuple(images.inputs.shape[1:]))
    if len(shape) != 3 and conditioning.pictured:
        raise ValueError(f"inputs are pictures, and {images.spec} holds {kind(shape)}, which have none")
    if side and (shape[1] != shape[2] or side >= shape[1]):
        raise ValueError(f"an upsampler of {side}x{side} images needs larger, square training images, not {shape}")
    conditioning = conditioning.attributed(images.named)
    conditioning = conditioning.captioned(captions_of(images))
    if conditioning.classes and not labelled:
        print("These data have no labels: training without classes.")
    space = recipe.space.of_depth(images.levels, images.card.values)
    if moments and space.has_moments:
        space = space.fitted(_in_blocks(images))
    return with_data(recipe, shape, conditioning.fitted(len(images.classes), labelled), space)


BLOCK = 1 << 22
"""Numbers that are measured at a time: a data set may be a file that is larger than memory."""


def _in_blocks(images: Images) -> Iterator[Tensor]:
    """All images of all sizes in [-1, 1], some at a time, (n, C, ...)."""
    for part in images.parts:
        for block in part.images.split(max(1, BLOCK // math.prod(part.shape))):
            yield to_float(block)
