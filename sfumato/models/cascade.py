"""Cascaded diffusion models (Ho et al. 2022, "Cascaded diffusion models for high fidelity image generation"): a model
of small images, and upsamplers that enlarge them, with noise-conditioning augmentation, as one model.

A cascade is kept as a folder: cascade.json, and a light checkpoint of each stage.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.core.randomness import mix
from sfumato.core.sampling import Sampler
from sfumato.core.schedules import Steps
from sfumato.models.generate import Request, plan
from sfumato.models.inputs import check_labels
from sfumato.models.loading import load_model
from sfumato.models.model import Model
from sfumato.runtime.files import whole_folder
from sfumato.runtime.json_file import read_object

FILE = "cascade.json"
FORMAT = 1
STAGE = 2
"""Which streams of a seed's random numbers are those of the stages after the first."""

Progress = Callable[[int], object]


@dataclass(frozen=True)
class Cascade:
    """A cascaded diffusion model: a base model, and one upsampler or several, each of which enlarges what came before.

    Attributes:
        stages: the base model first; the noise on an upsampler's input is the `level` of its conditioning.
        about: how the levels were chosen, as plain values.
    """

    stages: tuple[Model, ...]
    about: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.stages) < 2:
            raise ValueError("a cascade is a model and an upsampler, or several of these")
        base, *enlarging = self.stages
        base.alone("the base of a cascade")
        before = base
        for model in enlarging:
            _check_fit(base, before, model)
            before = model

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, as it leaves the last stage."""
        shape: tuple[int, ...] = self.stages[-1].recipe.shape
        return shape

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, those of the base."""
        return self.stages[0].classes

    @property
    def levels(self) -> tuple[float, ...]:
        """The noise on the input of each upsampler: its deviation, where the picture's own numbers go from -1 to 1."""
        return tuple(model.recipe.conditioning.level for model in self.stages[1:])

    def with_levels(self, levels: Sequence[float]) -> Cascade:
        """The same with other noise on the inputs of its upsamplers, one number or one for each.

        ValueError for more noise than an upsampler was trained with, and for another count.
        """
        each = _each(levels, len(self.stages) - 1, "levels of noise", "upsamplers")
        enlarging = (with_level(model, level) for model, level in zip(self.stages[1:], each, strict=True))
        return replace(self, stages=(self.stages[0], *enlarging))

    def sample(
        self,
        n: int,
        *,
        steps: Steps | Literal["usual"] = "usual",
        sampler: Sampler | str | None = None,
        seed: int = 0,
        classes: Sequence[str | int] | Tensor | None = None,
        scale: float | Sequence[float] = 1.0,
        batch: int = 64,
        precision: str = "auto",
        stages: list[Tensor] | None = None,
        progress: Progress | None = None,
    ) -> Tensor:
        """Sample n pictures, uint8 (n, C, H, W), stage by stage.

        Args:
            steps, sampler, seed, classes, batch, precision, progress: as of `Model.sample`, for every stage; image i
                depends on (seed, i) alone.
            scale: classifier-free guidance, one number or one for each stage; 1 is none.
            stages: a list to collect the images of each stage in, the smallest first.

        Raises: ValueError, before the first stage, for what one of them cannot do.
        """
        scales = _each([scale] if isinstance(scale, int | float) else scale, len(self.stages), "scales", "stages")
        labels = classes if isinstance(classes, Tensor) else self.stages[0].labels(classes, n)
        options: dict[str, Any] = {
            "steps": steps, "sampler": sampler, "batch": batch, "precision": precision, "progress": progress,
        }  # fmt: skip
        self.moves(n, steps, sampler, scales)
        check_labels(self.stages[0], labels, n)
        images: Tensor | None = None
        for i, (model, guided) in enumerate(zip(self.stages, scales, strict=True)):
            images = model.sample(
                n, seed=mix(seed, STAGE, i) if i else seed, scale=guided, picture=images,
                classes=labels if model.recipe.conditioning.classes else None, **options,
            )  # fmt: skip
            if stages is not None:
                stages.append(images)
        assert images is not None
        return images

    def moves(
        self, n: int, steps: Steps | Literal["usual"] = "usual", sampler: Sampler | str | None = None,
        scales: Sequence[float] = (1.0,),
    ) -> int:  # fmt: skip
        """How many moves a picture takes in all. ValueError, before any work, for what cannot be made."""
        total = 0
        for model, scale in zip(self.stages, _each(scales, len(self.stages), "scales", "stages"), strict=True):
            usual: Steps = model.diffusion.usual(model.sampler(sampler)) if steps == "usual" else steps
            asked = model.recipe.conditioning.asks(model.recipe.shape)
            blank = None if asked is None else torch.zeros(1, *asked, dtype=torch.uint8).expand(n, *asked)
            total += plan(model, Request(n, usual, sampler, scale=scale, picture=blank))
        return total

    def to(self, device: torch.device | str) -> Cascade:
        """The same, its networks moved to a device."""
        for model in self.stages:
            model.to(device)
        return self

    def save(self, folder: str | Path) -> None:
        """Write a folder that `load_cascade` and `sfumato sample` read: every stage's weights, and cascade.json.

        OSError where it is there already, and not empty.
        """
        names = [f"stage-{i + 1}.safetensors" for i in range(len(self.stages))]
        said = {"format": FORMAT, "stages": names, "about": self.about}
        with whole_folder(Path(folder)) as unfinished:
            for model, name in zip(self.stages, names, strict=True):
                model.save(unfinished / name)
            (unfinished / FILE).write_text(json.dumps(said, indent=2) + "\n", "utf-8")


def load_cascade(folder: str | Path, device: torch.device | str = "cpu") -> Cascade:
    """The cascade in a folder. ValueError, in one line, where it holds none, or one that is damaged; OSError."""
    path = Path(folder).expanduser() / FILE
    found = read_object(path)
    names, about = found.get("stages"), found.get("about", {})
    if found.get("format") != FORMAT or not isinstance(names, list) or not isinstance(about, dict):
        raise ValueError(f"{path} is damaged: it does not say the stages of a cascade of format {FORMAT}")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise ValueError(f"{path} is damaged: {name!r:.100} is no file beside it")
    return Cascade(tuple(load_model(path.parent / name, device=device) for name in names), about)


def is_cascade(target: str | Path) -> bool:
    """Whether a cascade lies in this folder."""
    return (Path(target).expanduser() / FILE).is_file()


def with_level(model: Model, level: float) -> Model:
    """An upsampler that puts noise of this deviation on its input in sampling. ValueError where it learned no such."""
    recipe: Any = model.recipe
    return replace(model, recipe=replace(recipe, conditioning=recipe.conditioning.with_level(level)))


def _check_fit(base: Model, before: Model, model: Model) -> None:
    """ValueError unless a model enlarges what the one before it makes, and knows the classes of the base."""
    asked, made = model.recipe.conditioning.asks(model.recipe.shape), tuple(before.recipe.shape)
    if asked is None:
        raise ValueError("an upsampler is a model that is given a smaller picture: picture?by=bicubic?factor=2, say")
    if tuple(asked) != made:
        wanted, found = ("x".join(map(str, shape)) for shape in (asked, made))
        raise ValueError(f"the upsampler enlarges images of {wanted}, and the stage before it makes {found}")
    if model.recipe.conditioning.classes and model.classes != base.classes:
        raise ValueError("the upsampler was trained with classes, and the base model with others or none")


def _each(values: Sequence[float], count: int, what: str, of: str) -> tuple[float, ...]:
    """One number for each, out of one or of as many. ValueError for another count."""
    if len(values) not in (1, count):
        raise ValueError(f"there are {count} {of}: give one number or {count} as {what}, not {len(values)}")
    return tuple(values) if len(values) == count else tuple(values) * count
