"""What a request gives a model, checked before any work: pictures of the depth and shape of training, labels,
attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sfumato.models.model import Model
    from sfumato.models.trained import Trained

KINDS = {256: "uint8", 65536: "uint16", 0: "float32"}
"""What the pictures of a model of so many grey levels are held as."""


def is_read(pictures: Tensor, levels: int) -> bool:
    """Whether a model of so many levels takes pictures of this kind: bytes, 16 bits, or its own real numbers.

    Floats are refused by models of grey levels: nobody knows whether they are in [-1, 1].
    """
    return pictures.dtype in (torch.uint8, torch.uint16) or (levels == 0 and pictures.dtype == torch.float32)


def check_pictures(model: Model, pictures: Tensor, n: int) -> None:
    """ValueError unless pictures are what the model was trained with, and at least so many."""
    conditioning = model.recipe.conditioning
    asked, shape = conditioning.asks(model.recipe.shape), tuple(pictures.shape[1:])
    if asked is None:
        raise ValueError("this model is no upsampler and was not trained with pictures, so it takes none")
    if shape != asked or len(pictures) < n or not is_read(pictures, model.recipe.space.levels):
        does = "enlarges" if conditioning.picture else "was trained with inputs of"
        wanted, found = ("x".join(map(str, sides)) for sides in (asked, shape))
        raise ValueError(
            f"this model {does} {wanted} images, uint8, {n} are asked for; "
            f"given are {len(pictures)} of {found}, {str(pictures.dtype).removeprefix('torch.')}"
        )


def check_labels(asked: Trained[Any], labels: Tensor | None, n: int) -> None:
    """ValueError unless labels are classes of the model, or of the classifier that guides it, and at least so many.

    The label after the last, by which guidance hides classes from a network, is none of them.
    """
    count = asked.recipe.conditioning.classes
    if labels is None and count:
        raise ValueError("this model was trained with classes, so each picture needs its label")
    if labels is None:
        return
    if not count:
        raise ValueError("this model was trained without classes, so none can be asked for")
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.ndim != 1 or len(labels) < n or not whole:
        kind = str(labels.dtype).removeprefix("torch.")
        raise ValueError(f"{n} pictures need a whole number each as labels, ({n},), not {tuple(labels.shape)} {kind}")
    for label in labels[(labels < 0) | (labels >= count)].tolist():
        raise ValueError(f"the labels of this model's classes run from 0 to {count - 1}, so {label} is none")


def check_attributes(model: Model, attributes: Tensor | None, n: int) -> None:
    """ValueError unless attributes are those of the model, one row a picture at least."""
    names = model.recipe.conditioning.names
    if attributes is not None and (attributes.ndim != 2 or attributes.shape[1] != len(names) or len(attributes) < n):
        raise ValueError(
            f"the model has {len(names)} attributes and {n} pictures are asked for; given are {tuple(attributes.shape)}"
            if names else "this model was trained without attributes, so none can be asked for"
        )  # fmt: skip
