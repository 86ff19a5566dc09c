"""What a model and a classifier share: a recipe, a network with trained weights, and the names of classes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.papers.recipe import Trainable
from sfumato.runtime import checkpoint

R = TypeVar("R", bound=Trainable)


@dataclass(frozen=True)
class Trained(Generic[R]):
    """A recipe with a trained network (in evaluation mode).

    Attributes:
        recipe: how it was trained and how it is used.
        network: the weights.
        classes: names of the classes, in the order of the labels; empty without labels.
        about: where it comes from: data, images seen, which weights.
        times: what training times that learn had learned (`TrainingTimes.state_dict`); empty for others.
    """

    recipe: R
    network: nn.Module
    classes: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)
    times: Mapping[str, Tensor] = field(default_factory=dict)

    def __getstate__(self) -> dict[str, Any]:
        """What is pickled on the way to a worker process: the fields, without what is built from the recipe."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """The same, its network moved to a device."""
        self.network.to(device)
        return self

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write one safetensors file with the recipe and these weights, which `load` reads again.

        Of where they came from it says the file's name, without the folders of this machine.

        Args:
            half: store float16, which halves the file; the weights are float32 again once loaded. ValueError where
                float16 cannot hold them.
        """
        tensors = {f"model/{name}": checkpoint.halved(name, value) if half else value
                   for name, value in self.network.state_dict().items()}  # fmt: skip
        tensors |= {f"times/{name}": value for name, value in self.times.items()}
        data = {**self.about.get("data", {}), "classes": list(self.classes)}
        progress = {name: self.about[name] for name in ("images", "step", "seconds") if name in self.about}
        origin = {name: self.about.get(name) for name in ("path", "found", "weights")}
        if origin["path"] is not None:
            origin["path"] = Path(origin["path"]).name
        about = {"recipe": papers.to_json(self.recipe), "data": data, "progress": progress, "ema": [], "train": {},
                 "origin": origin}  # fmt: skip
        checkpoint.save(Path(path), tensors, about)

    def labels(self, names: Sequence[str | int] | None, n: int) -> Tensor | None:
        """Labels (n,) from class names or numbers, repeated in turn; evenly over all classes where None.

        None for a model without classes. ValueError for an unknown class.
        """
        count = self.recipe.conditioning.classes
        if not count:
            if names:
                raise ValueError("this model was trained without classes, so none can be asked for")
            return None
        known = self.classes or tuple(str(i) for i in range(count))
        chosen = [_class_index(name, known) for name in names] if names else list(range(count))
        return torch.tensor([chosen[i % len(chosen)] for i in range(n)])

    def described(self, attributes: Sequence[str] | None, text: Sequence[str] | None, n: int) -> Tensor | None:
        """Attributes (n, A) of words, or the features of texts such as "a red heart", in turn; None for neither.

        ValueError for both, for what the model was not trained with, and for an empty or over-long text.
        """
        reads = self.recipe.conditioning.reads
        if text and not reads:
            raise ValueError("this model was trained without captions, so no text can be asked for")
        if attributes and reads:
            raise ValueError("this model was trained with captions and not with attributes: ask by a text")
        return self.attributes(text or attributes, n)

    def attributes(self, words: Sequence[str] | None, n: int) -> Tensor | None:
        """Attributes (n, A) of words such as `smiling,-hat`, taken in turn; 1 present, -1 absent, 0 not known.

        None for no words: the model then makes pictures of any. ValueError for an unknown attribute.
        """
        if not words:
            return None
        rows = [self.recipe.conditioning.row(word) for word in words]
        return torch.tensor([rows[i % len(rows)] for i in range(n)], dtype=torch.int8)


def _class_index(name: str | int, known: tuple[str, ...]) -> int:
    if str(name) in known:
        return known.index(str(name))
    if str(name).isdecimal() and int(name) < len(known):
        return int(name)
    raise ValueError(f"unknown class {name!r}; this model knows {', '.join(known)}")
