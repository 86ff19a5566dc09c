"""The seam between the papers and the machinery: what a recipe is, and the training loss that nearly all papers share.

A recipe is a frozen dataclass of plain values, some of them nested (network, space, conditioning), so that a checkpoint
can carry it as JSON. It is built once into what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, Literal, Protocol, get_args, get_origin, get_type_hints

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning
from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.diffusion import Classification, Diffusion, Inputs, Loss
from sfumato.core.distributions import Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.networks.backbone import Backbone, Embedded
from sfumato.spaces import Space


class Trainable(Protocol):
    """A recipe: what a checkpoint carries of a model besides its weights."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image."""
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

    def build(self) -> Diffusion | Classification:
        """What runs: made once, and kept."""
        ...

    def model(self) -> nn.Module:
        """A freshly initialised network."""
        ...


class Recipe(Trainable, Protocol):
    """A recipe of a model that makes images."""

    def build(self) -> Diffusion: ...


def build_network(recipe: Trainable, outputs: int, levels: int = 0) -> nn.Module:
    """The recipe's backbone for its shape, space and conditioning, with so many output channels."""
    given = recipe.conditioning.embedded(recipe.shape, Embedded(levels=levels))
    return recipe.network.build(recipe.space.shape(recipe.shape), outputs, given)


Criterion = Callable[[Prediction, Tensor, Tensor, Tensor], Tensor]
"""(prediction at x_t, x0, eps, t) -> the loss of each image, (B,)."""

Pair = Callable[[Tensor, Tensor, Tensor | None], Tensor]
"""(x0, eps, labels) -> eps in another order."""


def denoising_loss(
    recipe: Trainable,
    process: GaussianDiffusion,
    denoise: Callable[[nn.Module, Inputs], Denoise],
    criterion: Criterion,
    pair: Pair | None = None,
) -> Loss:
    """The training loss of a diffusion model: noise images, predict, compare (Ho et al. 2020, algorithm 1).

    Args:
        pair: which of the batch's noises goes with which image; its own where None.
    """
    space, conditioning = recipe.space, recipe.conditioning

    def loss(
        network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
    ) -> Tensor:
        x0 = space.encode(images, noise)
        eps = noise(x0) if pair is None else pair(x0, noise(x0), given.get("y"))
        inputs = conditioning.training(images, given, noise)
        x_t = process.level(t, x0).noise(x0, eps)
        return criterion(denoise(network, inputs)(x_t, t), x0, eps, t)

    return loss


def check_words(recipe: Any, **tables: Collection[str]) -> None:
    """Raise ValueError where a field that is one of several words holds another.

    Args:
        tables: by the name of a field, the words that it may hold; other fields say it in their types.
    """
    hints = {name: hint for name, hint in get_type_hints(type(recipe)).items() if get_origin(hint) is Literal}
    for name, known in ({name: get_args(hint) for name, hint in hints.items()} | tables).items():
        if getattr(recipe, name) not in known:
            raise ValueError(f"{name} is one of {', '.join(map(str, known))}, not {getattr(recipe, name)!r}")
