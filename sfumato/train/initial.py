"""Fine-tuning: the weights of another model as the first ones of a network, taken by key and shape.

Another number of channels or classes is widened so that the first step sees the same function; what has no counterpart
stays as it was initialised.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.networks.backbone import NOTHING
from sfumato.papers.recipe import Trainable

LABELS, NUMBERS = "label_embedding.weight", "numbers_embedding.weight"
LEAST = 0.5
"""The share of a network's numbers that must have a counterpart."""


@dataclass(frozen=True)
class Initial:
    """A model to begin at: its recipe, weights by key, names of classes, and where it comes from in plain values."""

    recipe: Trainable
    tensors: Mapping[str, Tensor]
    classes: tuple[str, ...]
    about: Mapping[str, Any]


@dataclass
class Fitted:
    """Weights that fit a network, by key.

    Attributes:
        tensors: what is loaded; those of `fresh` that are not here stay as they were initialised.
        taken, widened, fresh: keys of the network, by where their values come from.
        left: keys of the source that have no counterpart.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    taken: list[str] = field(default_factory=list)
    widened: list[str] = field(default_factory=list)
    fresh: list[str] = field(default_factory=list)
    left: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        parts = [f"{len(self.taken)} tensors taken", f"{len(self.widened)} widened"]
        names = ", ".join(self.fresh[:5]) + (", ..." if len(self.fresh) > 5 else "")
        parts.append(f"{len(self.fresh)} fresh" + (f": {names}" if names else ""))
        return ", ".join(parts) + (f"; {len(self.left)} of the source not used" if self.left else "")


def fitted(
    initial: Initial, recipe: Trainable, shapes: Mapping[str, tuple[int, ...]], classes: tuple[str, ...] = ()
) -> Fitted:
    """The source's weights for a network of these shapes, by key.

    The first convolution for C channels is the mean over its C' input channels times C' / C; the last gives every
    channel the mean of the old ones; so images that are grey in all channels give the same output. Classes of the same
    name keep their row, others begin at the mean of all rows, and the null row is kept. Attributes of the same name
    keep their embedding, others begin at 0. A network that had no labels
    gets rows of zeros; one that has none any more gets its null row, or the mean, as a bias. A picture as a further
    input begins at weights of 0.

    Args:
        shapes: of the network's tensors by key.
        classes: names of the recipe's classes.

    Raises:
        ValueError: less than half of the network has a counterpart; names the first five differences.
    """
    found, old, new = Fitted(), initial.recipe, recipe
    source = new.network.begun(initial.tensors)
    if LABELS in source and LABELS not in shapes:
        _labels_into_bias(source, shapes, old.conditioning.dropout > 0)
    for name, shape in shapes.items():
        held = source.pop(name, None)
        if name == LABELS:
            rows = None if held is None else _rows(held, initial, recipe, classes, shape)
            same = held is not None and rows is not None and torch.equal(held, rows) if rows is not None else False
            (found.taken if same else found.fresh if rows is None else found.widened).append(name)
            found.tensors[name] = torch.zeros(shape) if rows is None else rows
            continue
        if name == NUMBERS:
            found.tensors[name] = _columns(held, old, new, shape)
            same = held is not None and torch.equal(held, found.tensors[name])
            (found.taken if same else found.fresh if held is None else found.widened).append(name)
            continue
        wider = held if held is None or held.shape == shape else _widened(held, shape, old.shape[0], new.shape[0])
        if held is not None and wider is None and old.shape[0] == new.shape[0]:
            wider = _with_picture(held, shape, _picture(new) - _picture(old))
        if wider is None:
            found.fresh.append(name)
            if held is not None:
                found.left.append(name)
            continue
        found.tensors[name] = wider
        (found.taken if wider is held else found.widened).append(name)
    found.left += [name for name in source if name not in found.left]
    _check_half(found, initial, shapes)
    return found


def _check_half(found: Fitted, initial: Initial, shapes: Mapping[str, tuple[int, ...]]) -> None:
    sizes = {name: torch.Size(shape).numel() for name, shape in shapes.items()}
    have = sum(sizes[name] for name in (*found.taken, *found.widened))
    if have >= LEAST * sum(sizes.values()):
        return
    differing = [*found.fresh, *(name for name in found.left if name not in shapes)]
    listed = "; ".join(
        f"{name} is {_shape(initial.tensors.get(name))} there, {shapes.get(name, 'absent')} here"
        for name in differing[:5]
    )
    more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
    raise ValueError(f"the weights are of another network: {listed}{more}")


def _shape(value: Tensor | None) -> tuple[int, ...] | str:
    return "absent" if value is None else tuple(value.shape)


def _widened(held: Tensor, shape: tuple[int, ...], old: int, new: int) -> Tensor | None:
    """A tensor for another number of image channels; None where it differs in something else."""
    if held.ndim != len(shape) or old == new:
        return None
    if held.ndim >= 2 and held.shape[1] == old and shape[1] == new:
        held = held.mean(1, keepdim=True).expand(-1, new, *held.shape[2:]) * (old / new)
    if held.shape[0] != shape[0] and held.shape[0] % old == 0 and shape[0] == held.shape[0] // old * new:
        parts = held.unflatten(0, (-1, old)).mean(1, keepdim=True)  # a variance head doubles the channels
        held = parts.expand(-1, new, *held.shape[1:]).flatten(0, 1)
    return held.contiguous() if held.shape == shape else None


def _picture(recipe: Trainable) -> int:
    """Channels of the further picture that a recipe's network is given."""
    return recipe.conditioning.embedded(recipe.shape, NOTHING).picture


def _with_picture(held: Tensor, shape: tuple[int, ...], more: int) -> Tensor | None:
    """A first layer for so many channels more of a further picture, which count nothing yet; None of others."""
    if held.ndim < 2 or more <= 0 or shape != (held.shape[0], held.shape[1] + more, *held.shape[2:]):
        return None
    return torch.cat([held, held.new_zeros(held.shape[0], more, *held.shape[2:])], dim=1)


def _rows(
    held: Tensor, initial: Initial, recipe: Trainable, classes: tuple[str, ...], shape: tuple[int, ...]
) -> Tensor | None:
    """The embeddings of classes; None where they are of another width."""
    if held.ndim != 2 or held.shape[1:] != shape[1:]:
        return None
    before, now = initial.recipe.conditioning, recipe.conditioning
    known = initial.classes or tuple(map(str, range(before.classes)))
    names = classes or tuple(map(str, range(now.classes)))
    mean = held[: before.classes].mean(0)
    rows = [held[known.index(name)] if name in known else mean for name in names]
    if now.dropout:
        rows.append(held[before.classes] if before.dropout else mean)
    made = torch.stack(rows)
    return made if made.shape == shape else None


def _columns(held: Tensor | None, old: Trainable, new: Trainable, shape: tuple[int, ...]) -> Tensor:
    """The embedding of the numbers that describe an image; what is new to the network begins at 0."""
    made = torch.zeros(shape)
    if held is None or held.ndim != 2 or held.shape[0] != shape[0]:
        return made
    before, now = ([*c.numbered()] for c in (old.conditioning, new.conditioning))
    more = min(held.shape[1] - len(before), shape[1] - len(now))  # the recipe's own, such as a length of time
    for i, name in enumerate(now):
        if name in before:
            made[:, i] = held[:, before.index(name)]
    if more > 0:
        made[:, len(now) : len(now) + more] = held[:, len(before) : len(before) + more]
    return made


def _labels_into_bias(source: dict[str, Tensor], shapes: Mapping[str, tuple[int, ...]], null: bool) -> None:
    """What no label adds to the embedding of the noise level becomes part of that embedding's last bias."""
    biases = [name for name in source if name.startswith("time_mlp.") and name.endswith(".bias") and name in shapes]
    rows = source.pop(LABELS)
    if biases and source[biases[-1]].shape == rows.shape[1:]:
        source[biases[-1]] = source[biases[-1]] + (rows[-1] if null else rows.mean(0))
