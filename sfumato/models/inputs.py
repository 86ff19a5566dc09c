"""What a request gives a model, checked before any work: pictures of the depth and shape of training, attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from sfumato.models.model import Model

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


def check_attributes(model: Model, attributes: Tensor | None, n: int) -> None:
    """ValueError unless attributes are those of the model, one row a picture at least."""
    names = model.recipe.conditioning.names
    if attributes is not None and (attributes.ndim != 2 or attributes.shape[1] != len(names) or len(attributes) < n):
        raise ValueError(
            f"the model has {len(names)} attributes and {n} pictures are asked for; given are {tuple(attributes.shape)}"
            if names else "this model was trained without attributes, so none can be asked for"
        )  # fmt: skip
